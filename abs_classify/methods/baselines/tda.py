"""TDA: two caches of features that the stream itself fills (Karmanov et al., CVPR 2024, arXiv 2403.18293)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import log2
from typing import TYPE_CHECKING, Any

from abs_classify.methods.baselines.memory import Memory, entropy_of
from abs_classify.methods.parameters import MAX_SCALE, check_range
from abs_classify.methods.scoring import ClassTextFeatures, full_image
from abs_core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TDA", "TDACache", "TDAState"]


@dataclass(frozen=True)
class TDACache:
    """Settings of one cache.

    Attributes:
        capacity: entries for each class; 0 switches the cache off.
        alpha: strength of its term.
        beta: sharpness of the affinity exp(-beta (1 - cosine)).

    Raises:
        UsageError: a number below 0 or above ``MAX_SCALE``.
    """

    capacity: int
    alpha: float
    beta: float

    def __post_init__(self) -> None:
        check_range("a cache of TDA", asdict(self), 0, MAX_SCALE)


@dataclass(eq=False)
class TDAState:
    """The stream so far. ``masks`` holds, for each slot of ``negative``, the classes that it speaks against."""

    weights: Tensor
    positive: Memory
    negative: Memory
    masks: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True)
class TDA:
    """Logits of the full image, plus the affinity to certain images, minus that to uncertain ones. ImageNet settings.

    The caches are updated before they are read, as in both public codes, so an image usually supports itself. The
    entropy is in nats but divided by log2 C, so the window is (0.29, 0.72) of the largest entropy.

    Attributes:
        scale: logit scale.
        positive, negative: the caches.
        window: entropies, over log2 C, between which an image enters the negative cache.
        mask: probabilities between which a negative entry speaks against a class.
        floor: added to probabilities inside the logarithm; 1e-5 in TTA-VLM, 0 in the authors' code.

    Raises:
        UsageError: a parameter out of its range, or a range whose end is not above its start.
    """

    scale: float = 100.0
    positive: TDACache = TDACache(3, 2.0, 5.0)
    negative: TDACache = TDACache(2, 0.117, 1.0)
    window: tuple[float, float] = (0.2, 0.5)
    mask: tuple[float, float] = (0.03, 1.0)
    floor: float = 1e-5

    def __post_init__(self) -> None:
        check_range("TDA", {"scale": self.scale}, 0, MAX_SCALE, above=True)
        check_range("TDA", {"floor": self.floor, "window": self.window[0]}, 0)
        check_range("TDA", {"mask": self.mask[0]}, 0, 1)
        check_range("TDA", {"end of window": self.window[1]}, self.window[0], above=True)
        check_range("TDA", {"end of mask": self.mask[1]}, self.mask[0], 1, above=True)

    def key(self) -> dict[str, Any]:
        """See ``StreamScorer``."""
        return {"matcher": "tda", **asdict(self), "window": list(self.window), "mask": list(self.mask)}

    def start(self, texts: ClassTextFeatures, total: int) -> TDAState:
        """See ``StreamScorer``."""
        if total < 1:
            raise UsageError(f"a stream must have at least 1 image, got {total} images")
        weights = texts.means
        positive, negative = (Memory(cache.capacity, weights[0]) for cache in (self.positive, self.negative))
        return TDAState(weights, positive, negative)

    def step(self, state: TDAState, views: Mapping[str, Tensor]) -> Tensor:
        """See ``StreamScorer``; looks at the full image only."""
        feature = full_image(views)
        logits = self.scale * state.weights @ feature
        probability = logits.softmax(-1)
        self._update(state, feature, probability, int(logits.argmax()))
        for cache, memory, sign in ((self.positive, state.positive, 1), (self.negative, state.negative, -1)):
            if memory.count:
                affinity = sign * cache.alpha * (-cache.beta * (1 - memory.features @ feature)).exp()
                logits = _add(logits, affinity, memory.class_index[:, None] if sign > 0 else state.masks)
        return logits

    def _update(self, state: TDAState, feature: Tensor, probability: Tensor, best: int) -> None:
        entropy = entropy_of(probability, self.floor)
        if self.positive.capacity:
            state.positive.offer(best, feature, entropy)
        low, high = self.window
        # with one class the entropy is 0 and there is no class to speak against
        uncertain = len(probability) > 1 and low < entropy / log2(len(probability)) < high
        if not (uncertain and self.negative.capacity):
            return
        slot = state.negative.offer(best, feature, entropy)
        if slot is None:
            return
        against = ((probability > self.mask[0]) & (probability < self.mask[1])).nonzero().squeeze(1)
        if slot == len(state.masks):
            state.masks.append(against)
        else:
            state.masks[slot] = against


def _add(logits: Tensor, affinity: Tensor, classes: Tensor | list[Tensor]) -> Tensor:
    """Add the affinity [n] of each entry to the logits of its classes: n rows of class positions."""
    import torch

    lengths = torch.tensor([len(row) for row in classes], device=logits.device)
    index = torch.cat(list(classes))
    return logits.index_add(0, index, affinity.repeat_interleave(lengths))
