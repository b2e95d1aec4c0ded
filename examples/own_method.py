"""A method of one's own, from Python and as a plugin: the texts of a class are compared with the median crop.

python examples/own_method.py [DATASET]
abs eval --dataset demo --methods clip,median --plugin examples/own_method.py
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from abs_classify import Method, evaluate, register
from abs_classify.methods.class_texts import Sentences
from abs_classify.methods.views import FullImage, RandomCrops

if TYPE_CHECKING:
    from torch import Tensor

    from abs_classify.methods.scoring import ClassTextFeatures


@dataclass(frozen=True)
class MedianOfViews:
    """The similarity of a class's mean text to the full image, plus the median of that to all crops."""

    share: float = 0.5

    def key(self) -> dict[str, Any]:
        # what tells this scorer from others in results; change it when the arithmetic changes
        return {"scorer": "median-of-views", "version": 1, "share": self.share}

    def scores(self, views: Mapping[str, Tensor], texts: ClassTextFeatures) -> Tensor:
        # unit features [B, N, d] of each kind of view, and [C, d] of classes, to scores [B, C]
        full = (views["whole"] @ texts.means.T).mean(1)
        crops = (views["random"] @ texts.means.T).median(1).values
        return self.share * full + (1 - self.share) * crops


# torch is not imported so far, so what a command plans is said before it is loaded
register(
    Method("median", "the median of 20 random crops", (FullImage(), RandomCrops(20)), Sentences(), MedianOfViews())
)


def main(dataset: str = "demo") -> None:
    print(evaluate(dataset, "embedded", ["clip", "median"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
