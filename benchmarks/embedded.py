"""The embedded model's parts, each against the way that is slower and clearer, in one run.

    OMP_NUM_THREADS=1 python benchmarks/embedded.py
    OMP_NUM_THREADS=1 ONEDNN_MAX_CPU_ISA=AVX2 python benchmarks/embedded.py

``published``: the image network as timm builds it, batch norms and all. ``plain``: batch norms folded, channels-last,
torch's own operators. ``prepacked``: oneDNN's operators with weights laid out once. Encoding texts and 50 feature
windows of an image are there too, with what they are compared with. All take turns, ``--repeats`` times; the least
processor time counts, of one thread.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from abs_classify.datasets import open_dataset
from abs_classify.images import load_image
from abs_classify.models.base import emulates
from abs_classify.models.embedded import EmbeddedModel, load_embedded_model
from abs_classify.models.embedded_files import find_embedded_files, imagenet_texts
from abs_classify.models.embedded_networks import EmbeddedTextEncoder, ImageBackbone

CPU = torch.device("cpu")


def published_network() -> Callable[[Tensor], Tensor]:
    import timm

    state = torch.load(find_embedded_files().backbone.path, map_location="cpu", weights_only=True)
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    network.load_state_dict(dict(zip(network.state_dict(), state.values(), strict=True)))
    forward: Callable[[Tensor], Tensor] = network.eval().forward_features
    return forward


def backbones() -> dict[str, Callable[[Tensor], Tensor]]:
    """The image network, computed in several ways; bfloat16 only where the processor has a unit for it."""
    files = find_embedded_files()
    networks: dict[str, Callable[[Tensor], Tensor]] = {"published": published_network()}
    for dtype in (torch.float32, torch.bfloat16):
        if not emulates(CPU, dtype):
            name = str(dtype).removeprefix("torch.")
            networks[f"plain {name}"] = ImageBackbone(files, CPU, dtype, prepack=False)
            networks[f"prepacked {name}"] = ImageBackbone(files, CPU, dtype)
    return networks


def least_times(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """The least processor time of each, in seconds."""
    times = dict.fromkeys(works, float("inf"))
    for _ in range(repeats):
        for name, work in works.items():
            start = time.thread_time()
            work()
            times[name] = min(times[name], time.thread_time() - start)
    return times


def sentences(count: int) -> list[str]:
    texts = imagenet_texts()
    return [f"{name}: {gloss}" for name, gloss in zip(texts.names, texts.glosses, strict=True)][:count]


def measure(model: EmbeddedModel, crops: int, texts: int, repeats: int) -> list[dict[str, Any]]:
    images = [load_image(sample.path).pixels for sample in open_dataset("demo").samples]
    pixels = torch.stack([model.preprocess_crop(images[number % len(images)]) for number in range(crops)])
    networks = backbones()

    def feature(network: Callable[[Tensor], Tensor]) -> Tensor:
        tokens = network(pixels).float().flatten(2).transpose(1, 2)
        return normalize(model.pool(tokens), dim=-1)

    def encode_crops(network: Callable[[Tensor], Tensor]) -> None:
        for part in torch.split(pixels, 4):
            network(part)

    works: dict[str, Callable[[], object]] = {
        f"crop, {name}": partial(encode_crops, network) for name, network in networks.items()
    }
    ways = ("plain", "prepacked")
    encoders = {way: EmbeddedTextEncoder(find_embedded_files(), CPU, prepack=way == "prepacked") for way in ways}
    works |= {f"text, {way}": partial(encoder.encode, sentences(texts)) for way, encoder in encoders.items()}
    tokens = model.tokens(pixels[:1])
    windows = torch.tensor([[[row, row + 4, column, column + 4] for row in (0, 1) for column in range(4)] * 7])[:, :50]
    works["full image, tokens"] = lambda: model.tokens(pixels[:1])
    works["full image, 50 feature windows"] = lambda: model.pool_windows(tokens, windows)
    times = least_times(works, repeats)
    base = feature(networks["published"])
    differences = {f"crop, {name}": (feature(network) - base).abs().max().item() for name, network in networks.items()}
    vectors = {name: encoder.encode(sentences(texts)) for name, encoder in encoders.items()}
    differences["text, prepacked"] = (vectors["prepacked"] - vectors["plain"]).abs().max().item()
    units = {
        "crop": ("crop, published", crops),
        "text": ("text, plain", texts),
        "full image": ("full image, tokens", 1),
    }
    rows = []
    for name, seconds in times.items():
        baseline, count = units[name.split(",")[0]]
        rows.append(
            {
                "what": name,
                "ms": seconds / count * 1e3,
                "ratio": seconds / times[baseline],
                "largest difference": differences.get(name),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crops", type=int, default=8, help="how many crops are encoded in a round")
    parser.add_argument("--texts", type=int, default=200, help="how many sentences, at most 1000")
    parser.add_argument("--repeats", type=int, default=10, help="how many rounds")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with torch.inference_mode():
        rows = measure(load_embedded_model(), options.crops, options.texts, options.repeats)
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    print(f"{'':32} {'ms':>8} {'ratio':>6}  largest difference of unit features")
    for row in rows:
        difference = "" if row["largest difference"] is None else f"{row['largest difference']:.0e}"
        print(f"{row['what']:32} {row['ms']:8.2f} {row['ratio']:6.3f}  {difference}")


if __name__ == "__main__":
    main()
