"""The cost of ABS apart from its encoder, and against the authors' structure, with a ViT-B/16 of random weights.

    OMP_NUM_THREADS=1 python benchmarks/abs_pipeline.py windows overhead
    OMP_NUM_THREADS=1 python benchmarks/abs_pipeline.py pipeline --images 1 --repeats 2
    OMP_NUM_THREADS=1 python benchmarks/abs_pipeline.py bfloat16

``windows``: 50 feature windows against one pass of the full image, and against the whole last block on every window.
``overhead``: every step apart from encoding the 50 crops, as a share of that encoding. ``pipeline``: all of ABS against
``authors_structure.py``, one image at a time, and their scores. ``bfloat16``: the same with weights cast to bfloat16,
and how much scores change. ``embedded``: the same question for trained weights, those of the embedded model, on the
demo images. The two sides take turns; of ``--repeats`` rounds the least wall time and the least processor time count:
other work on the machine affects the first more than the second. With ``--baseline-batch 4`` the baseline encodes as
few crops at once as this package does.

Weights are random, but attention is sharp and a few channels are large, as in trained models. Texts are random unit
vectors with cosines like CLIP's, 50 for each of 1,000 classes; the images are those of tests/golden.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
from authors_structure import AuthorsStructure
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import normalize

from abs_classify.classifier import Classifier
from abs_classify.datasets import open_dataset
from abs_classify.encoding.encoder import encode_images
from abs_classify.images import LoadedImage, load_image
from abs_classify.methods.similarity import unit
from abs_classify.methods.soft_matching import SoftTexts, soft_prepared
from abs_classify.methods.table import get_method
from abs_classify.methods.views import AttentionCrops, FeatureWindows, Geometry, place_views
from abs_classify.models.attention import DinoAttention
from abs_classify.models.embedded import load_embedded_model
from abs_classify.models.open_clip import OpenClipModel
from abs_classify.models.vit import load_vit
from abs_classify.threads import even_parts, in_threads

IMAGES = Path(__file__).parents[1] / "tests" / "golden" / "photos"
CLASSES, TEXTS = 1000, 50
CROPS_AT_ONCE = 4


@dataclass(frozen=True)
class Cost:
    """Least wall time and least processor time, in seconds."""

    wall: float
    processor: float

    def __truediv__(self, other: Cost) -> Cost:
        return Cost(self.wall / other.wall, self.processor / other.processor)

    def times(self, factor: float) -> Cost:
        return Cost(self.wall * factor, self.processor * factor)


@dataclass(frozen=True)
class Models:
    """The model, its attention backend, the views, and the texts in both forms."""

    model: OpenClipModel
    dino: DinoAttention
    dino_trunk: nn.Module
    boxes: AttentionCrops
    windows: FeatureWindows
    texts: Tensor
    prepared: SoftTexts

    def baseline(self, crops_at_once: int) -> AuthorsStructure:
        assert self.model.split is not None
        texts = self.texts.reshape(CLASSES, TEXTS, -1)
        return AuthorsStructure(
            self.model.network,
            self.model.preprocess,
            self.model.split.embed,
            self.dino_trunk,
            self.dino.preprocess,
            texts,
            crops_at_once,
        )

    def scores(self, image: LoadedImage) -> Tensor:
        """Class scores [C] of this package."""
        encoded = encode_images(self.model, self.dino, [image], (self.boxes, self.windows))
        views = torch.cat([encoded.features[self.windows], encoded.features[self.boxes]], dim=1)
        return soft_prepared(views, self.prepared)[0]


def sharpen(model: Any, queries_and_keys: Sequence[Tensor], bias: Tensor) -> None:
    """Make attention sharp and a few channels large, as they are in trained models.

    Args:
        model: changed in place.
        queries_and_keys: the projections of every block, [2 w, w].
        bias: of the first block's output, [w].
    """
    with torch.no_grad():
        for weight in queries_and_keys:
            weight *= 4
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
        bias[:3] += torch.tensor([20.0, -10.0, 5.0])


def build_models(folder: Path, views: int) -> Models:
    """Random ViT-B/16 for CLIP and for DINO, and random texts near the mean image feature."""
    torch.manual_seed(0)
    logging.disable(logging.WARNING)  # open_clip's, that the weights are random
    clip = open_clip.create_model("ViT-B-16-quickgelu")
    blocks = clip.visual.transformer.resblocks
    sharpen(clip.visual, [block.attn.in_proj_weight[:1536] for block in blocks], blocks[0].mlp.c_proj.bias)
    model = OpenClipModel.from_model(clip, name="random ViT-B/16")
    vit: Any = timm.create_model("vit_base_patch16_224", num_classes=0)
    sharpen(vit, [block.attn.qkv.weight[:1536] for block in vit.blocks], vit.blocks[0].mlp.fc2.bias)
    file = folder / "dino.safetensors"
    save_file(vit.state_dict(), file)
    spec = f"vit_base_patch16_224.dino@{file}"
    mean = unit(model.encode_image(model.preprocess(read_images(1)[0].pixels)[None]))
    texts = normalize(0.3 * mean + torch.randn(CLASSES * TEXTS, model.embed_dim) / model.embed_dim**0.5, dim=-1)
    class_index = torch.arange(CLASSES).repeat_interleave(TEXTS)
    return Models(
        model,
        DinoAttention(spec, runtime="torch"),
        load_vit(spec).trunk,
        AttentionCrops(views),
        FeatureWindows(views),
        texts,
        SoftTexts.of(texts, class_index, CLASSES),
    )


def read_images(count: int) -> list[LoadedImage]:
    return [load_image(path) for path in sorted(IMAGES.glob("*.png"))[:count]]


def least(runs: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Cost]:
    """The least costs of each run; all run in turn, ``repeats`` times."""
    costs = dict.fromkeys(runs, Cost(float("inf"), float("inf")))
    for _ in range(repeats):
        for name, run in runs.items():
            wall, processor = time.perf_counter(), time.process_time()
            run()
            wall, processor = time.perf_counter() - wall, time.process_time() - processor
            costs[name] = Cost(min(costs[name].wall, wall), min(costs[name].processor, processor))
    return costs


def windows(models: Models, options: argparse.Namespace) -> dict[str, Any]:
    """50 feature windows: their cost in passes of the full image, and their distance from those of the whole block."""
    model, (image,) = models.model, read_images(1)
    pixels = model.preprocess(image.pixels)[None]
    tokens = model.tokens(pixels)
    attention = models.dino.maps(models.dino.preprocess(image.pixels)[None])[0].numpy()
    placed = place_views(Geometry.of(model), attention, image.id, image.pixels.size, (models.windows,))
    rectangles = torch.from_numpy(placed[models.windows])[None]
    by_block = least({"block": lambda: model.pool_windows_by_block(tokens, rectangles)}, 1)
    costs = least(
        {
            "full": lambda: model.network.encode_image(pixels, normalize=False),
            "windows": lambda: model.pool_windows(tokens, rectangles),
        },
        5 * options.repeats,
    )
    exact = unit(model.pool_windows_by_block(tokens, rectangles))
    shortcut = unit(model.pool_windows(tokens, rectangles))
    spread = float((exact - exact.mean(1, keepdim=True)).abs().max())
    return {
        "feature windows / one full image": costs["windows"] / costs["full"],
        "the whole block on each window / one full image": by_block["block"] / costs["full"],
        "largest difference of unit features": float((shortcut - exact).abs().max()),
        "largest difference of a view from their mean": spread,
    }


def overhead(models: Models, options: argparse.Namespace) -> dict[str, Any]:
    """Each step apart from encoding 50 crops, per image, as a share of that encoding."""
    model, dino, images = models.model, models.dino, read_images(4)
    pixels = [image.pixels for image in images]
    tokens = model.tokens(torch.stack([model.preprocess(image) for image in pixels]))
    maps = dino.maps(torch.stack([dino.preprocess(image) for image in pixels])).numpy()

    def place() -> list[dict[Any, Any]]:
        geometry, views = Geometry.of(model), (models.boxes, models.windows)
        return [
            place_views(geometry, attention, image.id, image.pixels.size, views)
            for image, attention in zip(images, maps, strict=True)
        ]

    placed = place()
    crops = [(image, box) for image, rows in zip(pixels, placed, strict=True) for box in rows[models.boxes].tolist()]
    rectangles = torch.from_numpy(placed[0][models.windows])[None]
    views = unit(torch.randn(1, 2 * options.views, model.embed_dim))
    count = CROPS_AT_ONCE * torch.get_num_threads()
    batches = torch.split(torch.stack([crop(model, job) for job in crops[:count]]), CROPS_AT_ONCE)
    costs = least(
        {
            "encode": lambda: list(in_threads(model.encode_image, batches)),
            "full image, up to the last block": lambda: forward(pixels, model.preprocess, model.tokens),
            "attention of DINO": lambda: forward(pixels, dino.preprocess, dino.maps),
            "attention of the model": lambda: model.query_attention(tokens),
            "placing 100 views": place,
            "cropping and resizing": lambda: list(in_threads(lambda job: crop(model, job), crops)),
            "feature windows": lambda: model.pool_windows(tokens[:1], rectangles),
            "matching with 50,000 texts": lambda: soft_prepared(views, models.prepared),
        },
        3 * options.repeats,
    )
    encoding = costs.pop("encode").times(options.views / count)
    for name in costs:
        single = name.startswith(("feature", "matching"))
        costs[name] = costs[name].times(1 if single else 1 / len(images)) / encoding
    dino_pass, self_pass = "attention of DINO", "attention of the model"
    return {
        **costs,
        "all, attention of DINO": total(costs, self_pass),
        "all, attention of the model": total(costs, dino_pass),
        "seconds to encode the crops": encoding,
    }


def total(costs: Mapping[str, Cost], without: str) -> Cost:
    chosen = [cost for name, cost in costs.items() if name != without]
    return Cost(sum(cost.wall for cost in chosen), sum(cost.processor for cost in chosen))


def crop(model: OpenClipModel, job: tuple[Any, list[int]]) -> Tensor:
    image, (left, upper, right, lower) = job
    return model.preprocess_crop(image.crop((left, upper, right, lower)))


def forward(images: list[Any], prepare: Callable[[Any], Tensor], network: Callable[[Tensor], Tensor]) -> None:
    parts = even_parts(images, CROPS_AT_ONCE)
    list(in_threads(lambda part: network(torch.stack([prepare(image) for image in part])), parts))


def pipeline(models: Models, options: argparse.Namespace) -> dict[str, Any]:
    """All of ABS, one image at a time, against the authors' structure: time and scores."""
    return against_baseline(models, models, options)


def bfloat16(models: Models, options: argparse.Namespace) -> dict[str, Any]:
    """The same, with the weights of the model in bfloat16; the baseline stays in float32, as published."""
    clip = copy.deepcopy(models.model.network)
    low = OpenClipModel.from_model(clip, name="random ViT-B/16", dtype="bfloat16")
    return against_baseline(replace(models, model=low), models, options)


def against_baseline(ours: Models, theirs: Models, options: argparse.Namespace) -> dict[str, Any]:
    baseline, images = theirs.baseline(options.baseline_batch), read_images(options.images)
    pairs = [race(image, ours, baseline, options.repeats) for image in images]
    costs = [mean([costs[side] for costs, _ in pairs]) for side in (0, 1)]
    scores = torch.stack([scores for _, scores in pairs])
    error = ((scores[:, 0] - scores[:, 1]) / scores[:, 1]).abs()
    best = scores.argmax(-1)
    return {
        "all of ABS / the authors' structure": costs[0] / costs[1],
        "seconds for an image": costs[0],
        "seconds for an image, authors' structure": costs[1],
        "largest relative difference of a score": float(error.max()),
        "same decision": f"{int((best[:, 0] == best[:, 1]).sum())} of {len(images)}",
    }


def race(
    image: LoadedImage, ours: Models, baseline: AuthorsStructure, repeats: int
) -> tuple[tuple[Cost, Cost], Tensor]:
    """The costs of both for one image, and their scores [2, C]."""
    scores: dict[str, Tensor] = {}
    views_and_seed = (ours.boxes, ours.windows, 0)
    costs = least(
        {
            "ours": lambda: scores.update(ours=ours.scores(image)),
            "baseline": lambda: scores.update(baseline=baseline.scores(image.pixels, image.id, *views_and_seed)),
        },
        repeats,
    )
    return (costs["ours"], costs["baseline"]), torch.stack([scores["ours"], scores["baseline"]])


def mean(costs: Sequence[Cost]) -> Cost:
    return Cost(sum(cost.wall for cost in costs) / len(costs), sum(cost.processor for cost in costs) / len(costs))


def embedded(_: Models, options: argparse.Namespace) -> dict[str, Any]:
    """Trained weights in bfloat16 against float32: the embedded model on the demo images."""
    demo = open_dataset("demo")
    method = replace(get_method("abs"), views=(AttentionCrops(options.views), FeatureWindows(options.views)))
    runs = []
    for dtype in ("float32", "bfloat16"):
        classifier = Classifier(load_embedded_model(dtype=dtype), list(demo.names.values()), method=method)
        runs.append(list(classifier.classify([sample.path for sample in demo.samples], top=len(demo.names))))
    pairs = list(zip(*runs, strict=True))
    errors = []
    for exact, low in pairs:
        changed = {ranked.class_id: ranked.score for ranked in low.ranking}
        errors.append(abs(changed[exact.class_id] / exact.score - 1))
    same = sum(exact.class_id == low.class_id for exact, low in pairs)
    return {
        "largest relative difference of the best score": max(errors),
        "same decision": f"{same} of {len(pairs)}",
    }


SECTIONS = {
    "windows": windows,
    "overhead": overhead,
    "pipeline": pipeline,
    "bfloat16": bfloat16,
    "embedded": embedded,
}


def show(name: str, value: Any) -> str:
    if isinstance(value, Cost):
        return f"  {name:50} {value.wall:8.4f} wall  {value.processor:8.4f} processor"
    return f"  {name:50} {value if isinstance(value, str) else f'{value:8.1e}'}"


def main() -> None:
    """Parse the options, measure, print tables or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="+", choices=SECTIONS)
    for name, default in (("threads", 1), ("images", 1), ("repeats", 2), ("views", 50), ("baseline-batch", 50)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        models = build_models(Path(folder), options.views)
        for section in options.sections:
            measured = SECTIONS[section](models, options)
            if options.json:
                print(json.dumps({"section": section, "threads": options.threads, **measured}, default=vars))
                continue
            print(f"{section}, {options.threads} threads")
            print("\n".join(show(name, value) for name, value in measured.items()))


if __name__ == "__main__":
    main()
