"""What the feature store adds to a run that computes everything, and what a run costs that computes nothing.

    python benchmarks/cache_overhead.py cold --images 24 --repeats 3
    python benchmarks/cache_overhead.py warm --images 2000 10000

``cold``: ``abs`` with the embedded model without a cache, with an empty one, and again with that one full; the three
take turns, and of each the least processor time counts. ``warm``: runs over many images whose 100 views of 512 numbers
are all in the store (put there by a model that takes no time), in milliseconds of processor time an image; what the
second number of images takes beyond the first is free of start-up. Models are loaded before anything is timed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from eval_speed import make_images  # noqa: E402 - beside this file
from labelling import generate  # noqa: E402

from abs_classify import evaluate, wrap  # noqa: E402
from abs_classify.models.base import Model  # noqa: E402
from abs_classify.models.registry import load_model  # noqa: E402

CLASSES = [f"class_{number}" for number in range(100)]
DESCRIPTIONS = {name: [f"{name} seen from side {place}" for place in range(10)] for name in CLASSES}


def processor_time(table: Path, model: Model, method: str, cache: Path | None) -> float:
    """Seconds of processor time that a whole evaluation takes."""
    start = time.process_time()
    evaluate(f"csv:{table}", model, [method], descriptions=DESCRIPTIONS, cache=cache, threads=1)
    return time.process_time() - start


def cold(folder: Path, images: int, repeats: int) -> None:
    """Print the time of runs without a store, with an empty one, and with a full one."""
    table = make_images(folder / "photos", images, (500, 375), len(CLASSES))
    model = load_model("embedded")
    processor_time(table, model, "abs", folder / "texts")  # what is done once in a process
    least = {"without": float("inf"), "empty": float("inf"), "full": float("inf")}
    for number in range(repeats):
        cache = folder / f"cache-{number}"
        for name, place in (("without", None), ("empty", cache), ("full", cache)):
            least[name] = min(least[name], processor_time(table, model, "abs", place))
    each = {name: 1e3 * seconds / images for name, seconds in least.items()}
    print(f"ms an image: {', '.join(f'{name} {value:.1f}' for name, value in each.items())}")
    print(f"the store adds {100 * (each['empty'] / each['without'] - 1):+.1f} %")
    print(f"a full one leaves {100 * each['full'] / each['empty']:.1f} %, with what a run takes whatever its images")


def quick_model(dims: int = 512) -> Model:
    """A model that encodes in no time: features of four pixels of the image, and of the letters of the text."""
    generator = torch.Generator().manual_seed(0)
    pixels, letters = (torch.randn(width, dims, generator=generator) for width in (12, 256))

    def image(batch: Tensor) -> Tensor:
        return batch.flatten(1) @ pixels + 1e-3

    def text(texts: list[str]) -> Tensor:
        counts = [np.bincount(list(text.encode()), minlength=256)[:256] for text in texts]
        return torch.from_numpy(np.stack(counts)).float() @ letters

    def preprocess(picture: Image.Image) -> Tensor:
        small = picture.resize((2, 2), Image.Resampling.NEAREST)
        return torch.from_numpy(np.array(small)).permute(2, 0, 1).float() / 255

    return wrap((image, text), preprocess, None, name="quick", version="1", context_length=77)


def warm(folder: Path, counts: list[int]) -> None:
    """Print the time of warm runs over each number of images."""
    model, points = quick_model(), []
    for images in counts:
        table = folder / f"{images}.csv"
        paths = sorted(generate(folder, images).rglob("*.png"))
        rows = (f"{path},{CLASSES[number % len(CLASSES)]}" for number, path in enumerate(paths))
        table.write_text("\n".join(["path,label", *rows]) + "\n", encoding="utf-8")
        method, cache = "abs-pixels(views=100,guided=false)", folder / f"cache-{images}"
        filling = processor_time(table, model, method, cache)
        seconds = min(processor_time(table, model, method, cache) for _ in range(2))
        points.append((images, seconds))
        print(f"{images:,} images: filled in {filling:.1f} s, warm {seconds:.2f} s", flush=True)
    for (images, seconds), (more, longer) in pairwise(points):
        print(f"{images:,} to {more:,}: {1e3 * (longer - seconds) / (more - images):.3f} ms an image")


def main() -> None:
    """Run one of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["cold", "warm"])
    parser.add_argument("--images", type=int, nargs="+")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="cache-overhead-"))
    try:
        if arguments.what == "cold":
            cold(folder, (arguments.images or [24])[0], arguments.repeats)
        else:
            warm(folder, arguments.images or [1_000, 5_000])
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
