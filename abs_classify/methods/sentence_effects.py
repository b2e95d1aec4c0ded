"""What leaving out one sentence means: the labels and margins that change, by definition.

Shapes as in ``similarity.py``: B images, V views of each, M sentences in the order of their C classes, n_c of class c.
"Without sentence j" means that its class keeps its other sentences and every other class is as it is, which is what the
method gives once the sentence is gone from the bundle. "By its name alone" means that all sentences of a class are
replaced by the class's label text, every other class being as it is.

``ExhaustiveEffects`` computes that by scoring every reduced set of texts. It is slow, and the oracle of the ways in
``leave_one_out.py`` and ``soft_leave_one_out.py``, which share what else is here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from abs_classify.methods.scoring import ClassTextFeatures, HardMatch, SoftMatch, WeightedCosine, all_views
from abs_classify.methods.similarity import class_counts, text_weights
from abs_classify.methods.soft_matching import soft_usage

if TYPE_CHECKING:
    from abs_classify.methods.scoring import Scorer

__all__ = [
    "DecisionRule",
    "Effects",
    "ExhaustiveEffects",
    "ImageEffects",
    "LeaveOneOut",
    "differing",
    "fixed_weights",
    "joined",
    "stacked",
    "sums_of_others",
]

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

    def without(self, scores: Tensor, labels: Tensor, rounding: Tensor | None = None) -> Tensor:
        """The labels once scores are [..., C], where they were ``labels`` [...]; what is within ``rounding`` stays.

        By default ``rounding`` is that of these scores.
        """
        masked = self._masked(scores)
        best = masked.max(-1)
        held = masked.gather(-1, labels[..., None]).squeeze(-1)
        least = self.rounding(scores) if rounding is None else rounding
        return torch.where(best.values - held > least, best.indices, labels)

    def seconds(self, scores: Tensor, labels: Tensor) -> Tensor:
        """The best candidate of each row of scores [..., C] beside the one in ``labels`` [...]."""
        return self.labels(scores.scatter(-1, labels[..., None], -torch.inf))

    def margins(self, scores: Tensor, labels: Tensor) -> Tensor:
        """By how much the class ``labels`` [...] leads the best other candidate in scores [..., C]; may be negative."""
        others = self._masked(scores).scatter(-1, labels[..., None], -torch.inf).amax(-1)
        return scores.gather(-1, labels[..., None]).squeeze(-1) - others

    @staticmethod
    def rounding(scores: Tensor) -> Tensor:
        """By how much another class must lead, once scores have changed that were [..., C]: [...]."""
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


@dataclass(frozen=True, eq=False)
class ExhaustiveEffects:
    """The effects by their definition: every image is scored once for each sentence, with the texts that are left.

    Slow, in float64, for any scorer that looks at an image alone.
    """

    scorer: Scorer
    texts: ClassTextFeatures
    rule: DecisionRule

    def effects(self, views: Mapping[str, Tensor], truth: Sequence[int] | None) -> Effects:
        """See ``LeaveOneOut``."""
        texts, rule = _widened(self.texts), self.rule
        features = {kind: rows.double() for kind, rows in views.items()}
        scores = self.scorer.scores(features, texts)
        labels, rounding = rule.labels(scores), rule.rounding(scores)
        counts = class_counts(texts.class_index, texts.classes)
        margins, changes, names = scores.new_zeros(len(texts.features)), [], []
        for sentence, class_index in enumerate(texts.class_index.tolist()):
            if counts[class_index] == 1:
                continue
            reduced = self.scorer.scores(features, _without(texts, sentence))
            changes.append(_differing(labels, rule.without(reduced, labels, rounding), sentence))
            if truth is not None:
                true = torch.tensor(truth)
                raised = rule.margins(scores, true) - rule.margins(reduced, true)
                margins[sentence] = raised[true == class_index].sum()
        for class_index in range(texts.classes if truth is not None else 0):
            named = self.scorer.scores(features, _by_name(texts, class_index))
            names.append(_differing(labels, rule.without(named, labels, rounding), class_index))
        usage = _usage(self.scorer, texts, features)
        return Effects(scores, labels, rule.seconds(scores, labels), usage, margins, joined(changes), joined(names))


@dataclass(frozen=True, eq=False)
class ImageEffects:
    """As ``Effects``, of one image: without its dimension and column."""

    scores: Tensor
    label: Tensor
    second: Tensor
    usage: Tensor
    margins: Tensor
    changes: Tensor
    names: Tensor | None


def stacked(parts: Sequence[ImageEffects]) -> Effects:
    """The effects of several images."""

    def rows(column: Sequence[Tensor | None]) -> Tensor:
        numbered = [
            torch.cat([torch.full((len(row), 1), image), row], dim=1)
            for image, row in enumerate(column)
            if row is not None
        ]
        return joined(numbered)

    return Effects(
        torch.stack([part.scores for part in parts]),
        torch.stack([part.label for part in parts]),
        torch.stack([part.second for part in parts]),
        torch.stack([part.usage for part in parts]),
        torch.stack([part.margins for part in parts]).sum(0),
        rows([part.changes for part in parts]),
        rows([part.names for part in parts]),
    )


def differing(label: Tensor, items: Tensor, labels: Tensor) -> Tensor:
    """Item and label now, of the ``items`` [K] by which the label of an image becomes ``labels`` [K]: int64 [k, 2]."""
    is_other = labels != label
    return torch.stack([items[is_other], labels[is_other]], dim=1)


def joined(rows: Sequence[Tensor]) -> Tensor:
    """Rows of three numbers, one below the other."""
    return torch.cat(list(rows)) if rows else torch.empty(0, 3, dtype=torch.int64)


def sums_of_others(values: Tensor) -> Tensor:
    """For each of n values [..., n] the sum of the n - 1 others, from sums of those before and of those behind it.

    Unlike the difference from the sum of all, it keeps its digits beside a value that is most of that sum.
    """
    sums = torch.zeros_like(values)
    sums[..., 1:] = values[..., :-1].cumsum(-1)
    sums[..., :-1] += values[..., 1:].flip(-1).cumsum(-1).flip(-1)
    return sums


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
    return fixed_weights(scorer, texts).expand(len(features), -1)


def fixed_weights(scorer: Scorer, texts: ClassTextFeatures) -> Tensor:
    """The share of each text where images do not decide it: [M], every class having the same."""
    if isinstance(scorer, WeightedCosine):
        weights = text_weights(texts.features, texts.class_index, texts.labels, scorer.text_scale)
    else:
        weights = 1 / class_counts(texts.class_index, texts.classes)[texts.class_index].double()
    return weights / texts.classes
