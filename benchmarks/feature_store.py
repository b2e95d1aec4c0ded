"""How fast the feature store opens, finds, reads and adds rows, and in how much memory.

    python benchmarks/feature_store.py [--items 1000000] [--views 50] [--json]

``add``: that number of items with one small row each, 2,000 at a time. ``open``: a process of its own opens the store
and looks 100,000 items up, with the index as it was left and without one; the goals for a million are 2 s and 300 MB of
anonymous memory. ``rows``: images with 50 views of 512 numbers, added 32 at a time, and read again, each a shard; the
time of an image is what the store adds to encoding it (seconds on a CPU, a hundredth on a GPU).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from abs_classify.encoding.feature_store import DiskStore
from abs_classify.encoding.spaces import Segment, Space

SMALL, LARGE = Space("images", 1, {"benchmark": True}), Space("view-features", 1, {"benchmark": True})
LOOK_UPS, SHARD, WIDTH = 100_000, 32, 512


def item(number: int) -> str:
    return f"sha256:{hashlib.sha256(b'%d' % number).hexdigest()}"


def anonymous_megabytes() -> float:
    """The anonymous memory of this process; mapped files, which the system can drop at any time, do not count."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("RssAnon"))


def fill(root: Path, items: int, at_once: int) -> float:
    """Add items with one row each; seconds for each."""
    store, row = DiskStore(root, limit=float("inf")), np.zeros((1, 16), np.uint8)
    start = time.perf_counter()
    for first in range(0, items, at_once):
        numbers = range(first, min(items, first + at_once))
        store.append(SMALL, [Segment(item(number), 0, row) for number in numbers])
    return (time.perf_counter() - start) / items


def open_store(root: Path, items: int) -> dict[str, float]:
    """Open the store and look items up."""
    ids = [item(number) for number in range(0, items, max(1, items // LOOK_UPS))]
    before, start, processor = anonymous_megabytes(), time.perf_counter(), time.process_time()
    store = DiskStore(root)
    assert store.counts(SMALL, ids[:1]) == [1]
    opened, processor = time.perf_counter() - start, time.process_time() - processor
    memory = anonymous_megabytes() - before
    start = time.perf_counter()
    for first in range(0, len(ids), SHARD):
        assert set(store.counts(SMALL, ids[first : first + SHARD])) == {1}
    found = (time.perf_counter() - start) / len(ids)
    return {
        "seconds to open": opened,
        "processor seconds": processor,
        "megabytes": memory,
        "microseconds a look-up": 1e6 * found,
    }


def measure_rows(root: Path, images: int, views: int) -> dict[str, float]:
    """Milliseconds an image to add its views, with merging, and to read them again."""
    rows = np.random.default_rng(0).normal(size=(SHARD, views, WIDTH)).astype(np.float32)
    shards = [[item(number) for number in range(first, first + SHARD)] for first in range(0, images, SHARD)]
    store, start = DiskStore(root, limit=float("inf")), time.perf_counter()
    for ids in shards:
        store.append(LARGE, [Segment(image, 0, values) for image, values in zip(ids, rows, strict=True)])
    added, start = time.perf_counter() - start, time.perf_counter()
    store = DiskStore(root)
    for ids in shards:
        for values, expected in zip(store.load(LARGE, ids), rows, strict=True):
            assert np.array_equal(values, expected)  # type: ignore[arg-type]
    read = time.perf_counter() - start
    count = len(shards) * SHARD
    return {"milliseconds to add an image": 1e3 * added / count, "milliseconds to read one": 1e3 * read / count}


def measure(root: Path, items: int, images: int, views: int) -> dict[str, dict[str, float]]:
    """All measurements, in a folder that is left filled."""
    added = fill(root / "index", items, 2000)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        opened = pool.apply(open_store, (root / "index", items))
        shutil.rmtree(root / "index" / "index", ignore_errors=True)
        rebuilt = pool.apply(open_store, (root / "index", items))
    return {
        "add": {"microseconds an item": 1e6 * added},
        "open": opened,
        "open without an index": rebuilt,
        "rows": measure_rows(root / "rows", images, views),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000, help="in the index")
    parser.add_argument("--images", type=int, default=3200, help="whose views are added and read")
    parser.add_argument("--views", type=int, default=50)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = measure(Path(folder), options.items, options.images, options.views)
    if options.json:
        print(json.dumps(results))
        return
    for name, values in results.items():
        print(f"{name}: " + ", ".join(f"{value:.3g} {unit}" for unit, value in values.items()))


if __name__ == "__main__":
    main()
