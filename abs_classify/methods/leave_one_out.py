"""What leaving out one sentence changes: for every sentence of every class, without encoding anything again.

Shapes as in ``similarity.py``: B images, V views of each, M sentences in the order of their C classes, n_c of class c.
"Without sentence j" means that its class keeps its other sentences and every other class is as it is, which is what the
method gives once the sentence is gone from the bundle. "By its name alone" means that all sentences of a class are
replaced by the class's label text, every other class being as it is.

``reference_effects`` says what that means, by scoring every reduced set of texts. It is slow, and the oracle of the
others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from abs_classify.methods.scoring import (
    ClassTextFeatures,
    HardMatch,
    SoftMatch,
    WeightedCosine,
    all_views,
)
from abs_classify.methods.similarity import class_counts, text_weights
from abs_classify.methods.soft_matching import soft_usage

if TYPE_CHECKING:
    from abs_classify.methods.scoring import Scorer

__all__ = ["DecisionRule", "Effects", "ExhaustiveEffects", "LeaveOneOut", "prepare_effects", "reference_effects"]

#: A class takes an image from another one if it leads by more than this share of the largest score. float32 sums differ
#: by up to 2e-6 between two orders of summation, and what is less is no change.
_ROUNDING = 4e-6


@dataclass(frozen=True)
class DecisionRule:
    """Which class wins.

    Args:
        candidates: bool [C], the classes that can win; two or more.
    """

    candidates: Tensor

    def labels(self, scores: Tensor) -> Tensor:
        """The best candidate of each row of scores [..., C], the first of equal ones in float32, as in evaluations."""
        return self._masked(scores.float()).argmax(-1)

    def without(self, scores: Tensor, labels: Tensor) -> Tensor:
        """The labels once scores are [..., C], where they were ``labels`` [...]; what is within rounding stays."""
        masked = self._masked(scores)
        best = masked.max(-1)
        held = masked.gather(-1, labels[..., None]).squeeze(-1)
        return torch.where(best.values - held > self.rounding(scores), best.indices, labels)

    def margins(self, scores: Tensor, labels: Tensor) -> Tensor:
        """By how much the class ``labels`` [...] leads the best other candidate in scores [..., C]; may be negative."""
        others = self._masked(scores).scatter(-1, labels[..., None], -torch.inf).amax(-1)
        return scores.gather(-1, labels[..., None]).squeeze(-1) - others

    @staticmethod
    def rounding(scores: Tensor) -> Tensor:
        """What two scores of a row [..., C] may differ by without a difference: [...]."""
        return _ROUNDING * scores.abs().amax(-1)

    def _masked(self, scores: Tensor) -> Tensor:
        return scores.masked_fill(~self.candidates, -torch.inf)


@dataclass(frozen=True, eq=False)
class Effects:
    """What leaving out sentences changes for B images.

    Attributes:
        scores: float64 [B, C], with all sentences.
        labels: int64 [B], with all sentences.
        seconds: int64 [B], the candidate that comes second.
        usage: float [B, M], the share of the weight of all sentences in the scores of an image that each has.
        margins: float64 [M], by how much each sentence raises the margin of its class over the best other candidate,
            summed over the images that truly show its class; 0 for a class's only sentence.
        changes: int64 [K, 3], image, sentence, and the label without it, wherever that is another one.
        names: int64 [K, 3], image, class, and the label with that class by its name alone, wherever it is another one.
    """

    scores: Tensor
    labels: Tensor
    seconds: Tensor
    usage: Tensor
    margins: Tensor
    changes: Tensor
    names: Tensor


class LeaveOneOut(Protocol):
    """What a scorer makes of images without one sentence after the other, with texts that were prepared once."""

    def effects(self, views: Mapping[str, Tensor], truth: Sequence[int] | None) -> Effects:
        """What leaving out sentences changes.

        Args:
            views: kind -> unit features [B, N, d].
            truth: B positions of true classes; None if they are not known, and then neither margins nor names are.
        """


def prepare_effects(scorer: Any, texts: ClassTextFeatures, candidates: Sequence[int]) -> LeaveOneOut:
    """The fastest way to the effects for a scorer.

    Args:
        scorer: of soft matching, of hard matching, or one that compares an image vector with class vectors.
        texts: M texts in the order of their C classes.
        candidates: the classes that can win.
    """
    mask = torch.zeros(texts.classes, dtype=torch.bool)
    mask[list(candidates)] = True
    return ExhaustiveEffects(scorer, texts, DecisionRule(mask))


@dataclass(frozen=True, eq=False)
class ExhaustiveEffects:
    """The effects by their definition: every image is scored once for each sentence, with the texts that are left."""

    scorer: Scorer
    texts: ClassTextFeatures
    decisions: DecisionRule

    def effects(self, views: Mapping[str, Tensor], truth: Sequence[int] | None) -> Effects:
        """See ``LeaveOneOut``."""
        true = None if truth is None else torch.tensor(truth)
        return reference_effects(self.scorer, self.texts, views, self.decisions, true)


def reference_effects(
    scorer: Scorer, texts: ClassTextFeatures, views: Mapping[str, Tensor], decisions: DecisionRule, truth: Tensor | None
) -> Effects:
    """Score every image once for each sentence and each class, with the texts that are left: slow, float64.

    Args:
        scorer: looks at an image alone.
        texts: M texts in the order of their C classes.
        views: kind -> unit features [B, N, d].
        decisions: which class wins.
        truth: int64 [B], the true classes; None if they are not known, and then neither margins nor names are.
    """
    wide = _widened(texts)
    features = {kind: rows.double() for kind, rows in views.items()}
    scores = scorer.scores(features, wide)
    labels = decisions.labels(scores)
    counts = torch.bincount(texts.class_index, minlength=texts.classes)
    margins = scores.new_zeros(len(texts.features))
    changes: list[Tensor] = []
    names: list[Tensor] = []
    for sentence, class_index in enumerate(texts.class_index.tolist()):
        if counts[class_index] == 1:
            continue
        reduced = scorer.scores(features, _without(wide, sentence))
        changes.append(_differing(labels, decisions.without(reduced, labels), sentence))
        if truth is not None:
            raised = decisions.margins(scores, truth) - decisions.margins(reduced, truth)
            margins[sentence] = raised[truth == class_index].sum()
    if truth is not None:
        for class_index in range(texts.classes):
            named = scorer.scores(features, _by_name(wide, class_index))
            names.append(_differing(labels, decisions.without(named, labels), class_index))
    seconds = decisions.labels(scores.scatter(1, labels[:, None], -torch.inf))
    usage = _usage(scorer, wide, features)
    return Effects(scores, labels, seconds, usage, margins, _joined(changes), _joined(names))


def _widened(texts: ClassTextFeatures) -> ClassTextFeatures:
    return ClassTextFeatures(texts.features.double(), texts.class_index, texts.labels.double())


def _without(texts: ClassTextFeatures, sentence: int) -> ClassTextFeatures:
    kept = torch.arange(len(texts.features)) != sentence
    return ClassTextFeatures(texts.features[kept], texts.class_index[kept], texts.labels)


def _by_name(texts: ClassTextFeatures, class_index: int) -> ClassTextFeatures:
    kept = texts.class_index != class_index
    features = torch.cat([texts.features[kept], texts.labels[class_index, None]])
    return ClassTextFeatures(features, torch.cat([texts.class_index[kept], torch.tensor([class_index])]), texts.labels)


def _differing(labels: Tensor, now: Tensor, item: int) -> Tensor:
    """Rows of image, ``item`` and the label now, of the images whose label differs."""
    images = (labels != now).nonzero().squeeze(1)
    return torch.stack([images, torch.full_like(images, item), now[images]], dim=1)


def _joined(rows: list[Tensor]) -> Tensor:
    return torch.cat(rows) if rows else torch.empty(0, 3, dtype=torch.int64)


def _usage(scorer: Scorer, texts: ClassTextFeatures, views: Mapping[str, Tensor]) -> Tensor:
    """The share of all weight that each text has in the scores of each image: [B, M], rows sum to 1."""
    features = all_views(views)
    if isinstance(scorer, SoftMatch):
        rows = [
            soft_usage(image[None], texts.features, texts.class_index, texts.classes, scorer.temperature)
            for image in features
        ]
        return torch.stack(rows) / features.shape[1]
    if isinstance(scorer, HardMatch):
        best = (features @ texts.features.T).argmax(-1)
        counts = torch.zeros(len(features), len(texts.features), dtype=torch.float64)
        return counts.scatter_add_(1, best, torch.ones_like(best, dtype=torch.float64)) / features.shape[1]
    return _fixed_weights(scorer, texts).expand(len(features), -1)


def _fixed_weights(scorer: Scorer, texts: ClassTextFeatures) -> Tensor:
    """The share of each text where images do not decide it: [M], every class having the same."""
    if isinstance(scorer, WeightedCosine):
        weights = text_weights(texts.features, texts.class_index, texts.labels, scorer.text_scale)
    else:
        weights = 1 / class_counts(texts.class_index, texts.classes)[texts.class_index].double()
    return weights / texts.classes
