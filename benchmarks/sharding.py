"""What shares of one source cost beside their images: listing all of it twice, and putting the results together.

    python benchmarks/sharding.py                     # a million names, 100,000 images in 10 shares; under a minute
    python benchmarks/sharding.py --images 1000000

Names, predictions and rows are made up; nothing is encoded. Seconds are of one process on one core, and bytes are those
that a merge reads and writes.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from abs_classify.evaluation.predictions import MethodPredictions, RunPredictions
from abs_classify.labelling.identity import SHARD_KEY, write_label_space
from abs_classify.labelling.judge import Thresholds
from abs_classify.labelling.label_folder import LabelFolder
from abs_classify.labelling.locations import ImageLocation
from abs_classify.labelling.row_writer import RowWriter
from abs_classify.labelling.rows import ClassConfidence, LabelRow
from abs_classify.labelling.share_merging import merge_labels
from abs_classify.sharding import ShardSpec, SourceDigest
from abs_core.descriptions import LabelSpace
from abs_core.labels import from_names

CLASSES = [f"class {number}" for number in range(1000)]


def listing(images: int) -> float:
    """Seconds for the digest of so many names."""
    start, source = time.perf_counter(), SourceDigest()
    for number in range(images):
        source.add(f"photos/{number % 1000:04}/{number:012}.jpg", "class")
    return time.perf_counter() - start


def predictions(images: int) -> tuple[float, int]:
    """Seconds to encode the predictions of one method for so many images and to read them again, and their bytes."""
    numbers = np.random.default_rng(0)
    top = numbers.integers(0, len(CLASSES), (images, 5))
    said = MethodPredictions(
        "abs", 0, top, numbers.normal(size=(images, 5)).astype(np.float32), numbers.integers(1, 1000, images)
    )
    ids, paths = [f"sha256:{number:064x}" for number in range(images)], [f"photos/{n:012}.jpg" for n in range(images)]
    run = RunPredictions(ids, paths, top[:, 0], CLASSES, CLASSES, [said])
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        path = Path(folder, "x.predictions.gz")
        path.write_bytes(run.encode())
        RunPredictions.read(path)
        return time.perf_counter() - start, path.stat().st_size


def labels(images: int, count: int, place: Path) -> tuple[float, int, int]:
    """Seconds to merge the folders of shares, bytes of the merged database and of its table."""
    space = LabelSpace.of_labels(from_names(CLASSES))
    numbers = np.random.default_rng(0).random(images)
    for index in range(1, count + 1):
        spec, folder = ShardSpec(index, count), place / str(index)
        folder.mkdir(parents=True)
        write_label_space(folder, space)
        kept = LabelFolder.create(folder, space.labels.classes, {SHARD_KEY: str(spec)}, {})
        writer = RowWriter(kept, ["csv"], Thresholds(0.5))
        with writer.opened():
            writer.begin_share(spec.share(images, "sha256:"))
            kept.store([_entry(position, float(numbers[position])) for position in spec.positions(images)])
            writer.end_share(spec.share(images, "sha256:"))
    start = time.perf_counter()
    merged = merge_labels([place / str(index) for index in range(1, count + 1)], place / "merged").folder
    seconds = time.perf_counter() - start
    assert merged.count() == images
    return seconds, (merged.path / "rows.sqlite").stat().st_size, (merged.path / "labels.csv").stat().st_size


def _entry(position: int, confidence: float) -> tuple[bytes, str, LabelRow]:
    path = f"photos/{position % 1000:04}/{position:012}.jpg"
    ranking = tuple(ClassConfidence((position + place) % 1000, round(confidence / 2**place, 6)) for place in range(5))
    row = LabelRow(path, "labelled", ranking, "", f"sha256:{position:064x}", None, 8, ImageLocation(Path("/", path)))
    return f"/{path}".encode(), "1 2 3", row


def main() -> None:
    """Measure, and print JSON."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--images", type=int, default=100_000)
    options.add_argument("--shares", type=int, default=10)
    options.add_argument("--repeats", type=int, default=3)
    given = options.parse_args()
    digest = min(listing(1_000_000) for _ in range(given.repeats))
    files = [predictions(given.images) for _ in range(given.repeats)]
    with tempfile.TemporaryDirectory() as folder:
        merges = [labels(given.images, given.shares, Path(folder, str(number))) for number in range(given.repeats)]
    print(
        json.dumps(
            {
                "machine": platform.machine(),
                "python": platform.python_version(),
                "images": given.images,
                "shares": given.shares,
                "digest_of_a_million_names_seconds": round(digest, 2),
                "predictions_written_and_read_seconds": round(min(seconds for seconds, _ in files), 2),
                "predictions_bytes_an_image": round(files[0][1] / given.images, 1),
                "label_merge_seconds": round(min(seconds for seconds, _, _ in merges), 2),
                "label_database_bytes_an_image": round(merges[0][1] / given.images, 1),
                "label_table_bytes_an_image": round(merges[0][2] / given.images, 1),
                "largest_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
