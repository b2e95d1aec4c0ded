"""The page of an evaluation: writing it, its size, and what a browser makes of it.

Rows and pictures are made up: two methods, 1,000 classes, noise for pictures. The browser is Chromium, if there is one.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1] / "tests")]

from browser import CHROMIUM, browser  # noqa: E402
from report_pages import make_columns, make_image  # noqa: E402

from abs_classify.report.image_rows import ImageRows  # noqa: E402
from abs_classify.report.layout import ReportImage, ReportPage  # noqa: E402
from abs_classify.report.page import write_report  # noqa: E402

CLASSES = 1000
READY = "document.querySelector('#images-view .cell') !== null"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[400, 50_000])
    parser.add_argument("--pictures", type=int, default=400)
    options = parser.parse_args()
    for rows in options.rows:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "page.html"
            print(json.dumps({**written(rows, options.pictures, path), **(opened(path) if CHROMIUM else {})}))


def written(rows: int, pictures: int, path: Path) -> dict[str, float]:
    """Write a page; megabytes and seconds."""
    numbers = np.random.default_rng(0)
    truth = numbers.integers(0, CLASSES, rows)
    names = [f"val/n{label:08d}/ILSVRC2012_val_{image:08d}.JPEG" for image, label in enumerate(truth)]
    methods = [make_columns(name, truth, CLASSES, seed) for seed, name in enumerate(("clip", "abs"))]
    table = ImageRows(names, [f"class number {n}" for n in range(CLASSES)], methods, "abs", truth.tolist())
    pictured = table.pictured(pictures)

    def images() -> Iterator[ReportImage]:
        for position in pictured:
            yield make_image(f"{position}.png", seed=position, position=position)

    start = time.perf_counter()
    write_report(ReportPage("Benchmark", table=table, pictured=pictured, images=images()), path)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "rows": rows,
        "pictures": len(pictured),
        "file_mb": path.stat().st_size / 1e6,
        "write_s": seconds,
        "peak_mb": peak,
    }


def opened(path: Path) -> dict[str, float]:
    """Open it in a browser: seconds until the list is there, to sort and to search; elements, megabytes."""
    with tempfile.TemporaryDirectory() as profile, browser(Path(profile)) as page:
        start = time.perf_counter()
        page.open(path.as_uri() + "#images", path.parent)
        page.wait_for(READY)
        facts = {"ready_s": time.perf_counter() - start}
        page.call("Performance.enable")
        for name, field, value in (("sort_s", "order", "sure"), ("search_s", "search", "class number 99")):
            event = "change" if field == "order" else "input"
            page.run("document.getElementById('matches').textContent = ''; t = performance.now()")
            target = f"document.getElementById('{field}')"
            page.run(f"{target}.value = '{value}'; {target}.dispatchEvent(new Event('{event}'))")
            page.wait_for("document.getElementById('matches').textContent !== ''")
            facts[name] = page.run("performance.now() - t") / 1000
        page.call("HeapProfiler.collectGarbage")
        metrics = {entry["name"]: entry["value"] for entry in page.call("Performance.getMetrics")["metrics"]}
        facts["elements"] = page.run("document.querySelectorAll('*').length")
        facts["script_heap_mb"] = metrics["JSHeapUsedSize"] / 1e6
        return facts


if __name__ == "__main__":
    main()
