"""DMN without training: a memory of the stream's own features, read by similarity (Zhang et al., CVPR 2024).

The weak variant of the TTA-VLM comparison: one view, no stored training images. Not compared with the authors' code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from abs_classify.methods.baselines.memory import Memory, entropy_of
from abs_classify.methods.parameters import MAX_SCALE, check_range
from abs_classify.methods.scoring import ClassTextFeatures, full_image
from abs_core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DMN", "DMNState"]


@dataclass(eq=False)
class DMNState:
    """The stream so far."""

    weights: Tensor
    memory: Memory


@dataclass(frozen=True)
class DMN:
    """Probabilities of the full image, plus those from class vectors that are read from the memory for this image.

    Where the memory of a class is full, a new entry replaces the most uncertain one, as in the code it follows. Scores
    sum to 2.

    Attributes:
        scale: logit scale.
        capacity: entries for each class.
        beta: sharpness of the reading exp(-beta (1 - cosine)).
        strength: weight of the memory's probabilities.

    Raises:
        UsageError: a parameter out of its range.
    """

    scale: float = 100.0
    capacity: int = 50
    beta: float = 5.5
    strength: float = 1.0

    def __post_init__(self) -> None:
        check_range("DMN", {"scale": self.scale}, 0, MAX_SCALE, above=True)
        check_range("DMN", {"capacity": self.capacity}, 1)
        check_range("DMN", {"strength": self.strength}, 0, MAX_SCALE)
        # exp(-2 beta) must not vanish in float32
        check_range("DMN", {"beta": self.beta}, 0, 40)

    def key(self) -> dict[str, Any]:
        """See ``StreamScorer``."""
        return {"matcher": "dmn", **asdict(self)}

    def start(self, texts: ClassTextFeatures, total: int) -> DMNState:
        """See ``StreamScorer``."""
        if total < 1:
            raise UsageError(f"a stream must have at least 1 image, got {total} images")
        weights = texts.means
        return DMNState(weights, Memory(self.capacity, weights[0]))

    def step(self, state: DMNState, views: Mapping[str, Tensor]) -> Tensor:
        """See ``StreamScorer``; looks at the full image only."""
        from abs_classify.methods.similarity import unit

        feature = full_image(views)
        logits = self.scale * state.weights @ feature
        probability = logits.softmax(-1)
        state.memory.put(int(logits.argmax()), feature, entropy_of(probability, 1e-5))
        read = unit(_read(state, unit(feature), self.beta))
        return probability + self.strength * (self.scale * read @ feature).softmax(-1)


def _read(state: DMNState, feature: Tensor, beta: float) -> Tensor:
    """Sums [C, d] of each class's text and stored features, weighted by their affinity to ``feature``."""

    from abs_classify.methods.similarity import class_sums, unit

    def weighted(rows: Tensor) -> Tensor:
        return (-beta * (1 - rows @ feature)).exp()[:, None] * rows

    memory = state.memory
    return weighted(unit(state.weights)) + class_sums(
        weighted(unit(memory.features)), memory.class_index, len(state.weights)
    )
