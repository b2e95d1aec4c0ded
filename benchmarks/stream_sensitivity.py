"""How much the stream methods (tda, dmn, onzeta) depend on rounding and on the order of the images.

    python benchmarks/stream_sensitivity.py --images 2000 --classes 100 --dims 512

Each method sees the same synthetic features in the order given, in float64, with features that were moved by 1e-7,
shuffled, and sorted by class; printed is how many predictions each of these changes, and the accuracy in each order.
The features are Gaussian around a prototype for each class, images and texts apart by a shared offset, as CLIP's are;
``--signal`` sets how near images are to their prototype, and so the accuracy. They say how sensitive the methods are,
not how good.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import torch
from torch import Tensor

from abs_classify.methods.scoring import ClassTextFeatures, StreamScorer
from abs_classify.methods.similarity import unit
from abs_classify.methods.table import METHODS, Method


def make_features(images: int, classes: int, dims: int, signal: float) -> tuple[Tensor, Tensor, Tensor]:
    """Images [n, d], texts [C, d], both unit float32, and the true classes [n]."""
    generator = torch.Generator().manual_seed(0)
    image_offset, text_offset = 1.5 * torch.randn(2, dims, generator=generator)
    prototypes = torch.randn(classes, dims, generator=generator)
    true = torch.randint(classes, (images,), generator=generator)
    noise = 1.2 * torch.randn(images, dims, generator=generator)
    return unit(signal * prototypes[true] + noise + image_offset), unit(prototypes + 2 * text_offset), true


def predict(method: Method, images: Tensor, texts: Tensor, order: Tensor) -> Tensor:
    """The class [n] of each image where the images come in an order."""
    table = ClassTextFeatures(texts, torch.arange(len(texts)), texts)
    kind, scorer = method.views[0].kind, method.scorer
    predictions = torch.empty(len(images), dtype=torch.long)
    if isinstance(scorer, StreamScorer):
        state = scorer.start(table, len(images))
        scores = torch.stack([scorer.step(state, {kind: images[at][None]}) for at in order])
    else:
        scores = scorer.scores({kind: images[order][:, None]}, table)
    predictions[order] = scores.argmax(1)
    return predictions


def rows(images: Tensor, texts: Tensor, true: Tensor) -> Iterator[tuple[str, ...]]:
    """What each method predicts, in per cent right, and how many predictions each change moves."""
    listed = torch.arange(len(true))
    shuffled = torch.randperm(len(true), generator=torch.Generator().manual_seed(1))
    moved = unit(images + 1e-7 * torch.randn(images.shape, generator=torch.Generator().manual_seed(2)))
    for name in ("clip", "tda", "dmn", "onzeta"):
        method = METHODS[name]
        base = predict(method, images, texts, listed)
        others = (
            predict(method, images.double(), texts.double(), listed),
            predict(method, moved, texts, listed),
            predict(method, images, texts, shuffled),
            predict(method, images, texts, true.argsort(stable=True)),
        )
        changed = (str(int((other != base).sum())) for other in others)
        right = (f"{100 * float((found == true).float().mean()):.1f}" for found in (base, *others[2:]))
        yield (name, *changed, *right)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--dims", type=int, default=512)
    parser.add_argument("--signal", type=float, default=0.32)
    options = parser.parse_args()
    header = ("method", "float64", "1e-7", "shuffled", "by class", "right %", "shuffled", "by class")
    print("predictions that change with float64, moved features and the order; then per cent right in three orders")
    for row in (header, *rows(*make_features(options.images, options.classes, options.dims, options.signal))):
        print("  ".join(f"{cell:>9}" for cell in row))


if __name__ == "__main__":
    main()
