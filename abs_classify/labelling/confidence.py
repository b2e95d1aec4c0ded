"""From the class probabilities of an image to the confidence of every class: one definition for every method.

The confidence of class c is q_c proportional to P_c^b, summing to 1 over the classes. P is what
``abs_classify.methods.confidence`` makes of the views that the method looked at. Before anything was fitted b is 1,
so that q is P: it ranks images by how surely their label is right, and is no probability. Fitted to
labelled images that were drawn at random (``fitting``), it is one for images of the same kind.

The label is the method's, whatever q says of the other classes. Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from abs_core.errors import UsageError

__all__ = ["KNOWN_THRESHOLD", "ConfidenceModel", "class_rankings", "doubtful_threshold", "label_confidences"]

FloatArray: TypeAlias = "NDArray[np.floating]"

#: powers are taken of at least this, so that a class without any probability stays without any
_LEAST = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class ConfidenceModel:
    """How class probabilities become confidences; as made by default, they are taken as they are.

    Attributes:
        inverse_temperature: b, above 0; larger than 1 sharpens.

    Raises:
        UsageError: an inverse temperature that is not positive.
    """

    inverse_temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.inverse_temperature < np.inf:
            raise UsageError(f"the inverse temperature must be positive, got {self.inverse_temperature}")

    def confidences(self, probabilities: FloatArray) -> NDArray[np.float64]:
        """q [B, C] from P [B, C], float64."""
        logits = self.inverse_temperature * np.log(np.maximum(probabilities.astype(np.float64), _LEAST))
        powers = np.exp(logits - logits.max(1, keepdims=True))
        shares: NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
        return shares


def label_confidences(confidences: FloatArray, labels: NDArray[np.integer]) -> FloatArray:
    """The confidence [B] of the label of each image.

    Args:
        confidences: [B, C].
        labels: [B], the position that the method chose.
    """
    chosen: FloatArray = confidences[np.arange(len(labels)), labels]
    return chosen


def class_rankings(confidences: FloatArray, labels: NDArray[np.integer], count: int) -> NDArray[np.int64]:
    """The best classes of each image: the label first, then the others by confidence; of equals the first.

    Args:
        confidences: [B, C].
        labels: [B], the position that the method chose.
        count: how many at most.

    Returns:
        Positions, int64 [B, min(count, C)].
    """
    order = confidences.astype(np.float64)
    order[np.arange(len(labels)), labels] = np.inf
    ranked: NDArray[np.int64] = np.argsort(-order, axis=1, kind="stable")[:, :count]
    return ranked


#: an image shows one of the classes rather than something else from this ``known_scores`` on
KNOWN_THRESHOLD = 0.0


def doubtful_threshold(classes: int) -> float:
    """The confidence below which a label is doubtful where no threshold is given: 1/2, or 2/(C + 1) if that is more.

    Below 1/2 the other classes together are as likely as the label. Of two classes the label always has that, so there
    it must have twice what the other has.

    Args:
        classes: C.
    """
    return max(0.5, 2 / (classes + 1)) if classes > 1 else 0.0
