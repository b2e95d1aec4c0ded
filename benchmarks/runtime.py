"""Runtimes of the image encoder: time, distance from torch in float32, and memory, ViT-B/16 with random weights.

    OMP_NUM_THREADS=1 python benchmarks/runtime.py encode                     # 1 minute: batches of crops
    OMP_NUM_THREADS=1 python benchmarks/runtime.py abs --views 8              # 3 minutes: all of ABS, one image
    OMP_NUM_THREADS=1 ONEDNN_MAX_CPU_ISA=AVX2 python benchmarks/runtime.py encode --without bfloat16
    OMP_NUM_THREADS=1 python benchmarks/runtime.py memory

Every runtime that is here runs in float32 and in bfloat16. ``encode``: 4 crops at once, against torch in float32, and
as a share of the fastest matrix product of that dtype measured in the same run, which is what the machine allows.
``abs``: all of ABS with 50 and with ``--views`` of each kind, against the authors' structure in torch float32 with 50
crops in one batch. All runs take turns; of the rounds the least wall and the least processor time count. ``memory``: of
a process that loads the model.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import open_clip
import torch
from abs_pipeline import CROPS_AT_ONCE, Models, build_models, least, read_images
from torch import Tensor

from abs_classify.methods.similarity import unit
from abs_classify.methods.views import AttentionCrops, FeatureWindows
from abs_classify.models.attention import DinoAttention
from abs_classify.models.open_clip import OpenClipModel
from abs_classify.models.runtime_names import RUNTIMES
from abs_core.extras import is_installed

DTYPES = ("float32", "bfloat16")


def variants(without: str) -> list[tuple[str, str]]:
    """Each runtime that is installed with each dtype, torch in float32 first."""
    names = [name for name in RUNTIMES[1:] if name != "openvino" or is_installed(name)]
    return [(name, dtype) for dtype in DTYPES for name in names if without not in (name, dtype)]


def fitted(network: object, options: argparse.Namespace) -> Iterator[tuple[str, OpenClipModel]]:
    """The model in each runtime and dtype that works here, with its name."""
    for name, dtype in variants(options.without):
        model = OpenClipModel.from_model(copy.deepcopy(network), name="random", dtype=dtype, runtime=name)
        if model.runtime.name == name:
            yield f"{name} {dtype}", model


def encode(models: Models, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Batches of crops in each runtime."""
    sample = models.model.preprocess(read_images(1)[0].pixels)
    pixels = sample + 0.1 * torch.randn(CROPS_AT_ONCE, *sample.shape)
    runtimes = dict(fitted(models.model.network, options))
    runs: dict[str, Callable[[], object]] = {
        name: partial(model.encode_image, pixels) for name, model in runtimes.items()
    }
    products = {f"product {dtype}": _product(getattr(torch, dtype)) for dtype in DTYPES if dtype != options.without}
    costs = least({**runs, **products}, options.repeats)
    exact = unit(models.model.encode_image(pixels))
    rows = {}
    for name, model in runtimes.items():
        features = unit(model.encode_image(pixels))
        peak = _PRODUCT_OPERATIONS / costs[f"product {name.split()[1]}"].wall
        rows[name] = {
            "time / torch float32": costs[name].wall / costs["torch float32"].wall,
            "processor": costs[name].processor / costs["torch float32"].processor,
            "share of a matrix product": _OPERATIONS * CROPS_AT_ONCE / costs[name].wall / peak,
            "largest difference": float((features - exact).abs().max()),
            "1 - cosine": float(1 - (features.double() * exact.double()).sum(-1).min()),
            "milliseconds": 1000 * costs[name].wall / CROPS_AT_ONCE,
        }
    return rows


# multiplications and additions of the twelve blocks of ViT-B/16 for one image, the last for the CLS token alone
_OPERATIONS = 11 * (2 * 197 * 12 * 768**2 + 4 * 197**2 * 768)
_SIDE = 1024
_PRODUCT_OPERATIONS = 2.0 * _SIDE**3


def _product(dtype: torch.dtype) -> Callable[[], Tensor]:
    """The faster of torch's own product and oneDNN's with a prepacked factor, on square matrices."""
    left, right = torch.randn(_SIDE, _SIDE).to(dtype), torch.randn(_SIDE, _SIDE).to(dtype)
    own = partial(torch.nn.functional.linear, left, right)
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(right, _SIDE)
        prepacked = partial(torch.ops.mkldnn._linear_pointwise.default, left, packed, None, "none", [], "")
        costs = least({"own": own, "prepacked": prepacked}, 5)
    except (RuntimeError, AttributeError):
        return own
    return own if costs["own"].wall < costs["prepacked"].wall else prepacked


def all_of_abs(models: Models, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """All of ABS for one image in each runtime, against the authors' structure."""
    (image,) = read_images(1)
    baseline = models.baseline(50)
    fifty = (AttentionCrops(50), FeatureWindows(50))
    runs: dict[str, Callable[[], object]] = {
        "authors": lambda: baseline.scores(image.pixels, image.id, *fifty, 0),
    }
    for name, model in fitted(models.model.network, options):
        dino = DinoAttention(options.dino, runtime=name.split()[0])
        for views in sorted({options.views, 50}):
            ours = replace(models, model=model, dino=dino, boxes=AttentionCrops(views), windows=FeatureWindows(views))
            runs[f"{name}, {views} views"] = partial(ours.scores, image)
    costs = least(runs, options.repeats)
    return {
        name: {
            "time / authors' structure": cost.wall / costs["authors"].wall,
            "processor": cost.processor / costs["authors"].processor,
            "seconds": cost.wall,
        }
        for name, cost in costs.items()
    }


def memory(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Megabytes of a process with the model in each runtime: when it is there, and at most."""
    rows = {}
    for name, dtype in variants(options.without):
        command = [sys.executable, __file__, "resident", "--runtime", name, "--dtype", dtype]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows[f"{name} {dtype}"] = json.loads(done.stdout)
    return rows


def resident(options: argparse.Namespace) -> dict[str, float]:
    """Memory of this process before the model is built, with it, and at most, in megabytes."""
    torch.manual_seed(0)
    before = _resident()
    network = open_clip.create_model("ViT-B-16-quickgelu")
    model = OpenClipModel.from_model(network, name="random", dtype=options.dtype, runtime=options.runtime)
    model.encode_image(torch.randn(CROPS_AT_ONCE, 3, 224, 224))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"with the model": _resident() - before, "at most": peak - before}


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def show(rows: Mapping[str, Mapping[str, float]]) -> None:
    for name, row in rows.items():
        print(f"  {name:32}", *(f"{what} {value:.3g}" for what, value in row.items()), sep="  ")


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", choices=("encode", "abs", "memory", "resident"))
    for name, default in (("threads", 1), ("repeats", 5), ("views", 8)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    parser.add_argument("--without", default="", metavar="NAME", help="a runtime or a dtype to leave out")
    parser.add_argument("--runtime", choices=RUNTIMES, default="torch", help="of `resident`")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of `resident`")
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # open_clip's, that the weights are random
    torch.set_num_threads(options.threads)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        if options.section == "resident":
            print(json.dumps(resident(options)))
            return
        if options.section == "memory":
            show(memory(options))
            return
        models = build_models(Path(folder), 50)
        options.dino = f"vit_base_patch16_224.dino@{folder}/dino.safetensors"
        show((encode if options.section == "encode" else all_of_abs)(models, options))
    print(f"{time.perf_counter() - start:.0f} s, {options.threads} threads")


if __name__ == "__main__":
    main()
