"""ZERO: votes of an image's most certain views (Farina et al., NeurIPS 2024, arXiv 2405.18330)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil, inf
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from abs_classify.methods.parameters import MAX_SCALE, check_range
from abs_classify.methods.scoring import ClassTextFeatures, all_views
from abs_core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TieBreak", "Zero", "zero_votes"]

TieBreak = Literal["tied", "upstream", "tta-vlm"]


@dataclass(frozen=True)
class Zero:
    """Vote counts of the 30 % of the views with the lowest entropy, with one more vote where classes tie.

    Attributes:
        scale: logit scale.
        gamma: share of the views that vote.
        tie_break: the last resort of ``zero_votes``.

    Raises:
        UsageError: a scale that is not above 0 and at most ``MAX_SCALE``, or a gamma that is not from 0.001 to 1.
    """

    scale: float = 100.0
    gamma: float = 0.3
    tie_break: TieBreak = "tied"
    votes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_range("ZERO", {"scale": self.scale}, 0, MAX_SCALE, above=True)
        check_range("ZERO", {"gamma": self.gamma}, 0.001, 1)

    @property
    def min_views(self) -> int:
        """The number of views from which one of them votes."""
        return ceil(1 / self.gamma)

    def key(self) -> dict[str, Any]:
        """See ``Scorer``."""
        return {"matcher": "zero", **asdict(self)}

    def scores(self, views: Mapping[str, Tensor], texts: ClassTextFeatures) -> Tensor:
        """See ``Scorer``. Raises UsageError if no view would vote."""
        import torch

        logits = self.scale * all_views(views) @ texts.means.T
        return torch.stack([zero_votes(image, self.gamma, self.tie_break) for image in logits])


def zero_votes(logits: Tensor, gamma: float = 0.3, tie_break: TieBreak = "tied") -> Tensor:
    """Vote counts of one image.

    If classes tie for the most votes, the remaining views are asked by rising entropy, and the first whose best class
    is one of them gives it one more vote. If there is none, ``tie_break`` decides from the logits of the first
    remaining view: ``tied`` takes the tied class with the largest. The two public codes each have a slip there, kept
    for comparison: ``upstream`` takes the largest of all classes except number C-1-c for each tied c, ``tta-vlm``
    always takes class 0.

    Args:
        logits: [N, C] at the model's scale.
        gamma: share of the views that vote, rounded down.
        tie_break: see above.

    Returns:
        [C], in the dtype of the logits.

    Raises:
        UsageError: ``gamma`` leaves no view to vote.
    """
    import torch

    kept = int(gamma * len(logits))
    if not 1 <= kept <= len(logits):
        raise UsageError(
            f"ZERO must keep 1 to {len(logits)} views, got {kept}",
            remedy="Give the method more views, or a gamma up to 1",
        )
    # entr(0) is 0, where p log p in the authors' code is NaN and would drop the most certain views
    entropy = torch.special.entr(logits.softmax(-1)).sum(-1)
    order = entropy.argsort(stable=True)
    best = logits.argmax(-1)[order]
    votes = best[:kept].bincount(minlength=logits.shape[1])
    tied = votes == votes.max()
    if int(tied.sum()) > 1 and kept < len(logits):
        votes[_break_tie(logits[order[kept:]], best[kept:], tied, tie_break)] += 1
    return votes.to(logits.dtype)


def _break_tie(remaining: Tensor, best: Tensor, tied: Tensor, tie_break: TieBreak) -> Tensor:
    """The class that gets the extra vote; ``remaining`` [n, C] and its ``best`` [n] by rising entropy."""
    helpful = tied[best].nonzero()
    if len(helpful):
        return best[helpful[0, 0]]
    if tie_break == "tta-vlm":
        return best.new_zeros(())
    masked = ~tied if tie_break == "tied" else tied.flip(0)
    return remaining[0].masked_fill(masked, -inf).argmax()
