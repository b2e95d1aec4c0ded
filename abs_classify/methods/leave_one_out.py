"""What leaving out one sentence changes: for every sentence of every class, without encoding anything again.

Shapes and meaning as in ``sentence_effects.py``. ``LinearEffects`` is for rows that compare an image vector with a
class vector, so that leaving out a sentence moves one class alone; ``HardEffects`` for votes, where it moves the views
that voted for it; ``SoftEffects``, in ``soft_leave_one_out.py``, for soft matching, where it moves every class. Sums
over what is left are sums over the other sentences, never a difference from the sum of all, which would lose what is
small beside the sentence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from abs_classify.methods.scoring import (
    ClassTextFeatures,
    CosineToMean,
    HardMatch,
    MeanSimilarity,
    SoftMatch,
    WeightedCosine,
    all_views,
    full_image,
    without_full_image,
)
from abs_classify.methods.sentence_effects import (
    DecisionRule,
    Effects,
    ExhaustiveEffects,
    ImageEffects,
    LeaveOneOut,
    differing,
    fixed_weights,
    joined,
    stacked,
    sums_of_others,
)
from abs_classify.methods.similarity import class_counts, row_blocks, unit, weighted_views
from abs_classify.methods.soft_leave_one_out import SoftEffects

__all__ = ["HardEffects", "LinearEffects", "SentenceGroup", "prepare_effects", "sentence_groups"]

# elements of a temporary
_ELEMENTS = 1 << 22


def prepare_effects(scorer: Any, texts: ClassTextFeatures, candidates: Sequence[int]) -> LeaveOneOut:
    """The fastest way to the effects for a scorer.

    Args:
        scorer: looks at an image alone.
        texts: M texts in the order of their C classes.
        candidates: the classes that can win, two or more.
    """
    mask = torch.zeros(texts.classes, dtype=torch.bool)
    mask[list(candidates)] = True
    rule = DecisionRule(mask)
    if isinstance(scorer, SoftMatch):
        return SoftEffects(scorer, texts, rule)
    if isinstance(scorer, HardMatch):
        return HardEffects(texts, rule)
    if isinstance(scorer, CosineToMean | MeanSimilarity | WeightedCosine):
        return LinearEffects(scorer, texts, rule)
    return ExhaustiveEffects(scorer, texts, rule)


class LinearEffects:
    """The effects where the score of a class is the product of an image vector and a class vector.

    The class vector is a weighted sum of the class's texts over its length (``CosineToMean``, ``WeightedCosine``) or
    over their number (``MeanSimilarity``). Leaving out a sentence leaves the weights of the others in their proportion,
    so the score of its class becomes their weighted sum over the length of theirs, and no other class moves.
    """

    def __init__(
        self, scorer: CosineToMean | MeanSimilarity | WeightedCosine, texts: ClassTextFeatures, rule: DecisionRule
    ) -> None:
        self._scorer, self._texts, self._rule = scorer, texts, rule
        self._groups = sentence_groups(texts.class_index, texts.classes)
        self._share = fixed_weights(scorer, texts)
        norms = torch.linalg.vector_norm(texts.features.double(), dim=1)
        # what the product of the image vector and a text is multiplied with
        self._weights = self._share if isinstance(scorer, MeanSimilarity) else self._share / norms
        self._lengths = self._weights.new_zeros(texts.classes)
        self._others = self._weights.new_zeros(len(texts.features))
        for group in self._groups:
            self._measure(group)

    def _measure(self, group: SentenceGroup) -> None:
        """The lengths of the weighted sums of the texts of each class, and of those without each sentence."""
        for classes, sentences in group.parts(_ELEMENTS // self._texts.features.shape[1]):
            weights = self._weights[sentences]
            if isinstance(self._scorer, MeanSimilarity):
                self._lengths[classes] = weights.sum(1)
                self._others[sentences] = sums_of_others(weights)
                continue
            terms = (weights[..., None] * self._texts.features[sentences].double()).mT
            self._lengths[classes] = torch.linalg.vector_norm(terms.sum(-1), dim=-1)
            self._others[sentences] = torch.linalg.vector_norm(sums_of_others(terms), dim=1)

    def effects(self, views: Mapping[str, Tensor], truth: Sequence[int] | None) -> Effects:
        """See ``LeaveOneOut``."""
        texts, rule = self._texts, self._rule
        image = self._image_vectors(views)
        parts = torch.cat([image @ block.double().T for block in row_blocks(texts.features)], dim=1) * self._weights
        scores = parts.new_zeros(len(image), texts.classes).index_add_(1, texts.class_index, parts) / self._lengths
        labels = rule.labels(scores)
        case = _OwnClassMoves(scores, labels, rule)
        margins, changes = parts.new_zeros(parts.shape[1]), []
        for group in self._groups:
            if group.count == 1:
                continue
            reduced = sums_of_others(parts[:, group.sentences]) / self._others[group.sentences]
            changes.append(case.changes(group.classes, group.sentences, reduced))
            if truth is not None:
                is_own = torch.tensor(truth)[:, None] == group.classes
                raised = torch.where(is_own[..., None], scores[:, group.classes, None] - reduced, 0.0)
                margins[group.sentences] = raised.sum(0)
        names = []
        if truth is not None:
            named = image @ self._label_vectors().T
            every = torch.arange(texts.classes)
            names.append(case.changes(every, every[:, None], named[..., None]))
        usage = self._share.expand(len(image), -1)
        return Effects(scores, labels, case.seconds, usage, margins, joined(changes), joined(names))

    def _image_vectors(self, views: Mapping[str, Tensor]) -> Tensor:
        wide = {kind: rows.double() for kind, rows in views.items()}
        if isinstance(self._scorer, WeightedCosine):
            return weighted_views(full_image(wide), all_views(without_full_image(wide)), self._scorer.image_scale)
        return all_views(wide).mean(1)

    def _label_vectors(self) -> Tensor:
        labels = self._texts.labels.double()
        return labels if isinstance(self._scorer, MeanSimilarity) else unit(labels)


class _OwnClassMoves:
    """Which labels change where the score of one class alone does."""

    def __init__(self, scores: Tensor, labels: Tensor, rule: DecisionRule) -> None:
        self._scores, self._labels, self._rule = scores, labels, rule
        self._rounding = rule.rounding(scores)
        self.seconds = rule.seconds(scores, labels)

    def changes(self, classes: Tensor, items: Tensor, scores: Tensor) -> Tensor:
        """Image, item and new label, wherever it is another one: int64 [K, 3].

        Args:
            classes: int64 [g], whose scores change.
            items: int64 [g, n], by which they do.
            scores: [B, g, n], to what.
        """
        is_label = self._labels[:, None] == classes
        best = self._scores.gather(1, self._labels[:, None])[..., None]
        second = self._scores.gather(1, self.seconds[:, None])[..., None]
        rounding = self._rounding[:, None, None]
        loses = is_label[..., None] & (second - scores > rounding)
        takes = (~is_label & self._rule.candidates[classes])[..., None] & (scores - best > rounding)
        image, position, number = (loses | takes).nonzero(as_tuple=True)
        label = torch.where(is_label[image, position], self.seconds[image], classes[position])
        return torch.stack([image, items[position, number], label], dim=1)


class HardEffects:
    """The effects where each view gives its largest cosine to the class of that text (``HardMatch``).

    Leaving out a sentence moves the views that voted for it, each to its second largest cosine, and no other view; a
    class's name in place of its sentences moves the views that voted for the class, and those to which the name is
    nearer than any other text.
    """

    def __init__(self, texts: ClassTextFeatures, rule: DecisionRule) -> None:
        self._texts, self._rule = texts, rule
        self._counts = class_counts(texts.class_index, texts.classes)

    def effects(self, views: Mapping[str, Tensor], truth: Sequence[int] | None) -> Effects:
        """See ``LeaveOneOut``."""
        parts = [self._image(image, None if truth is None else truth[at]) for at, image in enumerate(all_views(views))]
        return stacked(parts)

    def _image(self, views: Tensor, true: int | None) -> ImageEffects:
        """The effects for one image, from its views [V, d]."""
        rule, index = self._rule, self._texts.class_index
        cosines = views @ self._texts.features.T
        first = cosines.max(1)
        second = cosines.scatter(1, first.indices[:, None], -torch.inf).max(1)
        scores = self._votes(index[first.indices], first.values)
        label, rounding = rule.labels(scores), rule.rounding(scores)
        used = torch.unique(first.indices)
        used = used[self._counts[index[used]] > 1]
        moved = first.indices == used[:, None]
        without = self._votes(
            torch.where(moved, index[second.indices], index[first.indices]),
            torch.where(moved, second.values, first.values),
        )
        changed = rule.without(without, label.expand(len(used)), rounding)
        margins, names = scores.new_zeros(len(index)), None
        if true is not None:
            own = torch.tensor(true)
            raised = rule.margins(scores, own) - rule.margins(without, own.expand(len(used)))
            margins[used] = torch.where(index[used] == true, raised, 0.0)
            names = self._names(views, cosines, scores, label)
        usage = torch.bincount(first.indices, minlength=len(index)) / len(views)
        changes = differing(label, used, changed)
        return ImageEffects(scores, label, rule.seconds(scores, label), usage, margins, changes, names)

    def _votes(self, classes: Tensor, values: Tensor) -> Tensor:
        """Scores [..., C] of votes of views [..., V]."""
        shape = (*classes.shape[:-1], self._texts.classes)
        return torch.zeros(shape, dtype=torch.float64).scatter_add_(-1, classes, values.double())

    def _names(self, views: Tensor, cosines: Tensor, scores: Tensor, label: Tensor) -> Tensor:
        best = cosines.new_full((len(views), self._texts.classes), -torch.inf)
        best = best.scatter_reduce(1, self._texts.class_index.expand_as(cosines), cosines, "amax")
        first = best.max(1)
        second = best.scatter(1, first.indices[:, None], -torch.inf).max(1)
        named = views @ self._texts.labels.T
        every = torch.arange(self._texts.classes)
        is_first = first.indices[:, None] == every
        others = torch.where(is_first, second.indices[:, None], first.indices[:, None])
        values = torch.where(is_first, second.values[:, None], first.values[:, None])
        # of equal cosines the first text counts, as in ``hard``
        is_named = (named > values) | ((named == values) & (every < others))
        moved = (is_named | is_first).any(0).nonzero().squeeze(1)
        without = self._votes(
            torch.where(is_named, every, others)[:, moved].T, torch.where(is_named, named, values)[:, moved].T
        )
        labels = self._rule.without(without, label.expand(len(moved)), self._rule.rounding(scores))
        return differing(label, moved, labels)


@dataclass(frozen=True, eq=False)
class SentenceGroup:
    """Classes with equally many sentences.

    Attributes:
        count: n, how many each has.
        classes: int64 [g].
        sentences: int64 [g, n].
    """

    count: int
    classes: Tensor
    sentences: Tensor

    def parts(self, sentences: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Classes and their sentences, about so many sentences at a time."""
        size = max(1, sentences // self.count)
        return zip(torch.split(self.classes, size), torch.split(self.sentences, size), strict=True)


def sentence_groups(class_index: Tensor, classes: int) -> list[SentenceGroup]:
    """The classes by how many sentences they have.

    Args:
        class_index: int64 [M], in ascending order.
        classes: C.
    """
    counts = class_counts(class_index, classes)
    starts = counts.cumsum(0) - counts
    groups = []
    for count in torch.unique(counts).tolist():
        members = (counts == count).nonzero().squeeze(1)
        groups.append(SentenceGroup(count, members, starts[members, None] + torch.arange(count)))
    return groups
