"""A run of ``abs eval`` against its two parts: the encoder with pixels in memory, and the reader without an encoder.

    python benchmarks/eval_speed.py embedded --method clip --images 200
    python benchmarks/eval_speed.py vit --method abs --images 2 --repeats 1
    python benchmarks/eval_speed.py memory --images 200 2000

``encoder``: every pass that the method asks for, over pixels in memory, as many crops at once as in a run, in as many
threads, none of which waits before the end. ``reader``: open, hash, decode and preprocess the same
images and crops, in as many threads. ``run``: what the command does between the loaded model and the accuracies, with
an empty cache: hash the files, read, encode, score, store. The three take turns; of ``--repeats`` rounds the least wall
time and the least processor time count. Where encoder and reader share the cores of a CPU, no order of work ends before
``both``: (processor time of encoder and reader) / threads. The files are in the page cache for all. ``memory``: peak
resident memory of whole commands, each in a process of its own, by the number of images. Images are made up: blobs
and noise, as JPEG.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from abs_classify.datasets import open_dataset
from abs_classify.encoding.digest_cache import DigestCache
from abs_classify.encoding.feature_store import DiskStore
from abs_classify.encoding.ranking import ShardScorer, rank_images
from abs_classify.encoding.samples import identify_readable
from abs_classify.encoding.stages import Stages
from abs_classify.images import LoadedImage, load_image
from abs_classify.methods.class_texts import ClassTextInputs, read_template_set
from abs_classify.methods.table import Method, get_method
from abs_classify.methods.views import FeatureWindows, FullImage, Geometry, place_views
from abs_classify.models.attention import SelfAttention
from abs_classify.models.base import Model
from abs_classify.models.deferred import DeferredModel
from abs_classify.threads import even_parts, in_threads

CROPS_AT_ONCE = 4


@dataclass(frozen=True)
class Cost:
    """Wall and processor time in seconds."""

    wall: float
    processor: float


def make_images(folder: Path, count: int, size: tuple[int, int], classes: int) -> Path:
    """JPEGs with as much detail as a photograph, and a table of them."""
    rng = np.random.default_rng(0)
    rows = ["path,label"]
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(
            size, Image.Resampling.BICUBIC
        )
        noise = rng.normal(0, 12, (size[1], size[0], 1))
        pixels = np.clip(np.asarray(coarse) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:05d}.jpg", quality=90)
        rows.append(f"{number:05d}.jpg,class_{number % classes}")
    table = folder / "images.csv"
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return table


def random_vit(folder: Path) -> str:
    """The name of a ViT-B/16 whose weights are random."""
    import open_clip
    from safetensors.torch import save_file

    logging.disable(logging.WARNING)  # open_clip's, that the weights are random
    torch.manual_seed(0)
    path = folder / "vit.safetensors"
    save_file(open_clip.create_model("ViT-B-16").state_dict(), path)
    return f"ViT-B-16@{path}"


def encode(model: Model, backend: Any, method: Method, images: int) -> Callable[[], None]:
    """Every pass of the method, over pixels in memory."""
    pixels = torch.randn(CROPS_AT_ONCE, 3, *model.preprocess(Image.new("RGB", (64, 64))).shape[1:])
    crops = sum(view.count for view in method.views if not isinstance(view, FullImage | FeatureWindows))
    windows = next((view.count for view in method.views if isinstance(view, FeatureWindows)), 0)
    guided = any(view.needs_attention for view in method.views) and not isinstance(backend, SelfAttention)
    guide = backend.preprocess(Image.new("RGB", (64, 64))).expand(CROPS_AT_ONCE, -1, -1, -1) if guided else pixels

    def full_images(part: Sequence[int]) -> Tensor:
        tokens = model.tokens(pixels[: len(part)])
        if windows:
            model.pool_windows(tokens, torch.tensor([0, 4, 0, 4]).repeat(len(part), windows, 1))
        if guided:
            backend.maps(guide[: len(part)])
        return model.pool(tokens)

    def run() -> None:
        # no part waits for another, as no part of a run does
        if windows or guided or not crops:
            list(in_threads(full_images, even_parts(range(images), CROPS_AT_ONCE)))
        if crops:
            parts = even_parts(range(images * crops), CROPS_AT_ONCE)
            list(in_threads(lambda part: model.encode_image(pixels[: len(part)]), parts))

    return run


def read(model: Model, backend: Any, method: Method, table: Path) -> Callable[[], None]:
    """Open, decode and preprocess all images and crops."""
    samples = list(open_dataset(f"csv:{table}").samples)
    pixel_views = [view for view in method.views if not isinstance(view, FeatureWindows)]
    guided = any(view.needs_attention for view in method.views)
    flat = np.full((backend.grid, backend.grid), 1.0, dtype=np.float32) if guided else None

    def prepare(image: LoadedImage) -> None:
        model.preprocess(image.pixels)
        if guided and not isinstance(backend, SelfAttention):
            backend.preprocess(image.pixels)
        placed = place_views(Geometry.of(model), flat, image.id, image.pixels.size, pixel_views)
        for view, boxes in placed.items():
            if not isinstance(view, FullImage):
                for left, upper, right, lower in boxes.tolist():
                    model.preprocess_crop(image.pixels.crop((left, upper, right, lower)))

    def run() -> None:
        for _ in in_threads(lambda sample: prepare(load_image(sample.read(), sample.name)), samples, ahead=8):
            pass

    return run


def evaluate(models: DeferredModel, method: Method, table: Path, folder: Path) -> Callable[[], Cost]:
    """The command between the loaded model and the accuracies; its texts are encoded before."""
    data = open_dataset(f"csv:{table}")
    class_texts = method.texts.build(ClassTextInputs(data.names, None, read_template_set("plain").templates))
    positions = {label: position for position, label in enumerate(data.names)}
    truth = [positions[label] for label in data.labels]

    def run() -> Cost:
        with tempfile.TemporaryDirectory(dir=folder) as cache:
            digests = DigestCache(Path(cache))
            stages = Stages(DiskStore(Path(cache)), models, 0, 64)
            stages.text_features(class_texts)

            def work() -> None:
                photos, _ = identify_readable(data.samples, digests, "stop")
                rank_images(ShardScorer(stages, {method: class_texts}), photos, silent, truth)

            return timed(work)

    return run


def silent(step: int = 1, remark: str = "") -> None:
    """Shows no progress."""


def timed(work: Callable[[], object]) -> Cost:
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return Cost(time.perf_counter() - wall, time.process_time() - processor)


def speed(options: argparse.Namespace) -> dict[str, float]:
    """Seconds for an image of the three, and their ratios."""
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = make_images(folder / "images", options.images[0], options.size, 20)
        model = "embedded" if options.model == "embedded" else random_vit(folder)
        models = DeferredModel(
            model, "auto" if model == "embedded" else "self", "cpu", "float32", DigestCache(folder), folder
        )
        method = get_method(options.method)
        run = evaluate(models, method, table, folder)
        encoder = encode(models.model, models.attention_backend, method, options.images[0])
        reader = read(models.model, models.attention_backend, method, table)
        rounds = [(timed(encoder), timed(reader), run()) for _ in range(options.repeats + 1)][1:]
    names = ("encoder", "reader", "run")
    wall = {part: min(costs[index].wall for costs in rounds) for index, part in enumerate(names)}
    used = {part: min(costs[index].processor for costs in rounds) for index, part in enumerate(names)}
    both = max(wall["encoder"], wall["reader"], (used["encoder"] + used["reader"]) / options.threads)
    per_image = {f"{part}_ms": 1e3 * seconds / options.images[0] for part, seconds in wall.items()}
    spent = {f"{part}_processor_ms": 1e3 * seconds / options.images[0] for part, seconds in used.items()}
    return {
        **per_image,
        **spent,
        "run_to_larger": wall["run"] / max(wall["encoder"], wall["reader"]),
        "run_to_both": wall["run"] / both,
        "processor_run_to_both": used["run"] / (used["encoder"] + used["reader"]),
    }


def memory(options: argparse.Namespace) -> dict[str, float]:
    """Peak resident megabytes of the whole command, by the number of images."""
    peaks = {}
    with tempfile.TemporaryDirectory() as name:
        for count in options.images:
            table = make_images(Path(name) / str(count), count, options.size, 20)
            done = subprocess.run(
                [sys.executable, __file__, "child", "--method", options.method, "--table", str(table),
                 "--threads", str(options.threads)],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            peaks[f"{count}_images_mb"] = float(done.stdout.splitlines()[-1])
    return peaks


def child(options: argparse.Namespace) -> None:
    """One whole command, then its peak resident memory in megabytes."""
    from abs_cli.main import main as abs_main

    with tempfile.TemporaryDirectory() as cache:
        command = ["--cache", cache, "eval", "--dataset", f"csv:{options.table}", "--methods", options.method]
        with contextlib.suppress(SystemExit):
            abs_main([*command, "--threads", str(options.threads)])
    sys.stdout.write(f"\n{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}\n")


def main() -> None:
    """Parse the options, measure, print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=("embedded", "vit", "memory", "child"))
    parser.add_argument("--method", default="clip", help="a method that looks at one image at a time; default clip")
    parser.add_argument("--images", type=int, nargs="+", default=[100], help="default 100; several for memory")
    parser.add_argument("--size", type=int, nargs=2, default=(500, 375), help="width and height; default 500 375")
    parser.add_argument("--threads", type=int, default=2, help="default 2")
    parser.add_argument("--repeats", type=int, default=3, help="rounds that count, after one that does not; default 3")
    parser.add_argument("--table", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    options.size = tuple(options.size)
    if options.model == "child":
        child(options)
        return
    measured = memory(options) if options.model == "memory" else speed(options)
    if options.json:
        print(json.dumps({**vars(options), **measured}))
        return
    for name, value in measured.items():
        print(f"{name:24} {value:8.2f}")


if __name__ == "__main__":
    main()
