"""Soft matching without one sentence after the other, exactly, and which sentences need not be looked at.

For view v and class c with n sentences: P_vc = sum_k e^z / n, A_vc = sum_k z e^z / n, D_v = sum_c P_vc, and the score
of c is the sum over views of s_vc = A_vc / D_v. Without sentence j of class c

    P'_vc = sum_{k != j} e^z / (n - 1),  A'_vc likewise,  D'_v = sum_{b != c} P_vb + P'_vc,

the score of c is sum_v A'_vc / D'_v, and that of every other class b is sum_v A_vb / D'_v: one sentence moves all
classes. All of these are sums over what is left, in float64.

**What cannot change a label.** Let a be the label, b another class, and 1 + e_v = D_v / D'_v the factor that every
class but c is moved by. Then s'_a - s'_b = sum_v (s_va - s_vb)(1 + e_v), so

    s'_a - s'_b >= (s_a - s_b) - sum_v |s_va - s_vb| |e_v|.                                    (1)

With p_v = P_vc / D_v, w_j = e^z_vj / sum_k e^z_vk and d = P'_vc / P_vc - 1 one has

    d = (1 - n w_j) / (n - 1),  D'_v / D_v = 1 + p_v d,  e_v = -p_v d / (1 + p_v d).           (2)

0 <= w_j <= w = max_k w_k, so d lies between (1 - n w) / (n - 1) and 1 / (n - 1). e_v falls with d, so |e_v| is at most
its larger value at the two ends: a bound for all sentences of the class from p_v and w alone, about p_v / (n - 1) where
no sentence stands out. For c itself, A'_vc = (n A_vc - z_vj e^z_vj) / (n - 1), and x e^x >= -1/e for every x, so

    A'_vc <= (n A_vc + 1/e) / (n - 1),                                                         (3)

which is divided by the smallest D'_v where it is positive, by the largest where it is not. If (1) leaves a margin over
every b, and the sum of (3) stays below s_a - sum_v |s_va| |e_v|, no sentence of c changes the label, and the class is
skipped whole. (1) is evaluated for the best other classes one by one, and for all others at once with the largest
|s_va - s_vb| of each view and the margin over the best of them. Of a class that is not skipped, e_v and the score of c
are known exactly for each sentence, (1) is evaluated again, and what is left is computed exactly. The label's own class
c = a is never skipped whole: its sentences are looked at one by one, with s'_b <= s_b + sum_v |s_vb| |e_v|.

The name of a class in place of its sentences is the same with P' and A' of one text, so that only (1) is a bound.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from abs_classify.methods.scoring import ClassTextFeatures, SoftMatch, all_views
from abs_classify.methods.sentence_effects import (
    DecisionRule,
    Effects,
    ImageEffects,
    differing,
    stacked,
    sums_of_others,
)
from abs_classify.methods.similarity import class_counts, class_sums
from abs_classify.methods.soft_matching import SoftBuffers, SoftSums, soft_sums
from abs_classify.threads import in_threads

__all__ = ["SoftEffects"]

# elements of the powers of all texts that a thread holds
_KEPT = 1 << 24

# classes whose distance from the label is bounded one by one
_RIVALS = 8

# D_v / D'_v beyond which the powers that are left may have been too small for float32; the same the other way
_MOST = 1e25

# sentences scored exactly at once
_AT_ONCE = 256


class SoftEffects:
    """The effects for soft matching.

    Args:
        scorer: its temperature.
        texts: M texts in the order of their C classes.
        rule: which class wins.
    """

    def __init__(self, scorer: SoftMatch, texts: ClassTextFeatures, rule: DecisionRule) -> None:
        self._temperature, self._texts, self._rule = scorer.temperature, texts, rule
        self._counts = class_counts(texts.class_index, texts.classes)
        self._counts_of_texts = self._counts[texts.class_index]
        self._starts = (self._counts.cumsum(0) - self._counts).tolist()
        self._idle: list[SoftBuffers] = []

    def effects(self, views: Mapping[str, Tensor], truth: Sequence[int] | None) -> Effects:
        """See ``LeaveOneOut``."""
        features = all_views(views)
        rows = max(16, _KEPT // (len(self._texts.features) + 8 * self._texts.classes))
        step = max(1, min(rows // features.shape[1], -(-len(features) // torch.get_num_threads())))
        starts = range(0, len(features), step)
        share = min(torch.get_num_threads(), len(starts))

        def work(start: int) -> list[ImageEffects]:
            block = features[start : start + step]
            true = None if truth is None else truth[start : start + step]
            with self._buffers() as buffers:
                return list(self._block(block, true, rows, buffers, share))

        _ = self._texts.soft_texts  # once, not in each thread
        return stacked([part for parts in in_threads(work, starts, ahead=2 * share) for part in parts])

    @contextmanager
    def _buffers(self) -> Iterator[SoftBuffers]:
        """Buffers that no other thread uses meanwhile."""
        buffers = self._idle.pop() if self._idle else SoftBuffers()
        try:
            yield buffers
        finally:
            self._idle.append(buffers)

    def _block(
        self, block: Tensor, truth: Sequence[int] | None, rows: int, buffers: SoftBuffers, share: int
    ) -> Iterator[ImageEffects]:
        """The effects for images [b, V, d]: for several with few texts, for one with many, whose views are cut."""
        flat, count = block.reshape(-1, block.shape[-1]), block.shape[1]
        image = torch.arange(len(flat)) // count
        sums: list[SoftSums] = []
        usage = torch.zeros(len(self._texts.features), len(block))
        for start in range(0, len(flat), rows):
            part = slice(start, start + rows)
            sums.append(soft_sums(flat[part], self._texts.soft_texts, self._temperature, buffers, share))
            weights = sums[-1].weights
            shares = weights.new_zeros(weights.shape[1], len(block))
            shares[torch.arange(len(shares)), image[part]] = (1 / sums[-1].powers.sum(0)).to(weights.dtype)
            added = (weights @ shares).float()
            usage += added if sums[-1].order is None else torch.empty_like(added).index_copy_(0, sums[-1].order, added)
        joint = torch.cat([torch.stack([part.powers, part.products, part.peaks]) for part in sums], dim=-1)
        scale = torch.cat([part.scale for part in sums])
        usage = (usage / (count * self._counts_of_texts[:, None])).T.contiguous()
        for number, views in enumerate(block):
            columns = slice(number * count, (number + 1) * count)
            case = _SoftImage(self._texts, self._counts, self._temperature, views, joint[:, :, columns], scale[columns])
            true = None if truth is None else truth[number]
            yield _Case(case, self._rule, self._starts).effects(true, usage[number])


@dataclass(eq=False)
class _SoftImage:
    """The sums of one image, with C classes and V views.

    Args:
        texts, counts, temperature: of the bundle and the method.
        views: [V, d].
        joint: [3, C, V]: P, A and the peaks of ``SoftSums``.
        scale: [V].
    """

    texts: ClassTextFeatures
    counts: Tensor
    temperature: float
    views: Tensor
    joint: Tensor
    scale: Tensor

    @property
    def powers(self) -> Tensor:
        """P [C, V]."""
        return self.joint[0]

    @property
    def products(self) -> Tensor:
        """A [C, V]."""
        return self.joint[1]

    @cached_property
    def total(self) -> Tensor:
        """D [V]."""
        return self.powers.sum(0)

    @cached_property
    def others(self) -> Tensor:
        """D without P_vc [C, V]: a difference where P_vc is at most half of D, and a sum where it may be more."""
        others = self.total - self.powers
        most = self.powers.max(0)
        rest = self.powers.scatter(0, most.indices[None], 0.0).sum(0)
        return others.scatter_(0, most.indices[None], rest[None])

    @cached_property
    def shares(self) -> Tensor:
        """s_vc [C, V], whose sums are the scores."""
        return self.products / self.total

    @cached_property
    def scaled_views(self) -> Tensor:
        """[V, d] float64, over the temperature."""
        return self.views.double() / self.temperature

    def similarities(self, texts: Tensor) -> Tensor:
        """z [m, V] of texts [m, d], in float64."""
        return texts.double() @ self.scaled_views.T

    def scores_of(self, kept: Tensor, class_index: int, further: Tensor) -> Tensor:
        """The scores [C] by their definition, from the texts ``kept`` bool [M] and ``further`` [k, V], z of one class.

        Slow, and of any similarities: nothing is divided by what the largest of all texts gives.
        """
        similarities = torch.cat([self._all_similarities[kept], further])
        index = torch.cat([self.texts.class_index[kept], torch.full((len(further),), class_index)])
        counts = torch.bincount(index, minlength=len(self.counts))
        weights = torch.softmax(similarities - counts[index, None].double().log(), dim=0)
        return class_sums((weights * similarities).sum(1), index, len(self.counts))

    @cached_property
    def _all_similarities(self) -> Tensor:
        return self.similarities(self.texts.features)

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Of each class the most |e_v| and A'_vc / D'_v for any of its sentences, by (2) and (3): [C, V] each.

        What is said of a class's only sentence has no meaning.
        """
        powers, products, peaks = self.joint
        counts = self.counts[:, None].double()
        rest = (counts - 1).clamp_min(1)
        # the peak is of float32 and may be rounded down
        heaviest = torch.where(powers > 0, peaks / (counts * powers) * (1 + 1e-5), 1.0).clamp(max=1.0)
        least = self.others + powers * (counts * (1 - heaviest) / rest)
        most = self.others + powers * (counts / rest)
        moved = torch.maximum(self.total / least - 1, 1 - self.total / most)
        risen = (counts * products + torch.exp(-1 - self.scale)) / rest
        return moved, torch.where(risen >= 0, risen / least, risen / most)


class _Case:
    """The decision of one image: what can change it, and how.

    Args:
        image: its sums.
        rule: which class wins.
        starts: the first sentence of each class.
    """

    def __init__(self, image: _SoftImage, rule: DecisionRule, starts: Sequence[int]) -> None:
        self._image, self._rule, self._starts = image, rule, starts
        shares = image.shares
        self.scores = shares.sum(1)
        self.label = rule.labels(self.scores)
        self.second = rule.seconds(self.scores, self.label)
        self._rounding = rule.rounding(self.scores)
        # half of it covers what the bounds themselves are rounded by
        self._slack = 0.5 * float(self._rounding)
        candidates = rule.candidates.nonzero().squeeze(1)
        self._mine = shares[self.label]
        order = self.scores[candidates].argsort(descending=True)
        rivals = candidates[order]
        rivals = rivals[rivals != self.label]
        near, far = rivals[:_RIVALS], rivals[_RIVALS:]
        #: for each rival, and for all others at once: the margin, and the distance [V] that (1) multiplies
        self._margins = self.scores[self.label] - self.scores[near]
        self._distances = (self._mine - shares[near]).abs()
        if len(far):
            low, high = shares[far].aminmax(dim=0)
            farthest = torch.maximum(self._mine - low, high - self._mine)
            self._margins = torch.cat([self._margins, self.scores[self.label] - self.scores[far[:1]]])
            self._distances = torch.cat([self._distances, farthest[None]])
        self._largest = shares[rivals].abs().amax(0)

    def effects(self, true: int | None, usage: Tensor) -> ImageEffects:
        """Everything that leaving out sentences changes."""
        image, margins = self._image, torch.zeros(len(usage), dtype=torch.float64)
        changes = []
        for class_index in self._doubtful(true).tolist():
            sentences = slice(self._starts[class_index], self._starts[class_index] + int(image.counts[class_index]))
            case = _Removal.of(image, class_index, image.texts.features[sentences])
            chosen = torch.arange(case.count)
            if class_index != true:
                chosen = chosen[~self._is_safe(case)]
            for part in torch.split(chosen, _AT_ONCE):
                scores = case.scores(part, sentences.start)
                labels = self._rule.without(scores, self.label.expand(len(part)), self._rounding)
                changes.append(differing(self.label, part + sentences.start, labels))
                if class_index == true:
                    own = torch.tensor(true)
                    raised = self._rule.margins(case.before, own) - self._rule.margins(scores, own.expand(len(part)))
                    margins[part + sentences.start] = raised
        return ImageEffects(
            self.scores,
            self.label,
            self.second,
            usage,
            margins,
            torch.cat(changes) if changes else torch.empty(0, 2, dtype=torch.int64),
            None if true is None else self._names(),
        )

    def _doubtful(self, true: int | None) -> Tensor:
        """The classes of which the bounds do not show that no sentence changes the label; and the true class."""
        moved, risen = self._image.bounds()
        doubtful = self._parts(moved)
        lowest = self.scores[self.label] - moved @ self._mine.abs()
        doubtful |= self._rule.candidates & ~(risen.sum(1) <= lowest + self._slack)
        doubtful[self.label] = True
        if true is not None:
            doubtful[true] = True
        return (doubtful & (self._image.counts > 1)).nonzero().squeeze(1)

    def _parts(self, moved: Tensor) -> Tensor:
        """Whether factors up to 1 + ``moved`` [k, V] may take the lead from the label, by (1): bool [k]."""
        return ~(moved @ self._distances.T <= self._margins + self._slack).all(1)

    def _is_safe(self, case: _Removal) -> Tensor:
        """Of which sentences of a class (1) shows that the label stays: bool [n]."""
        moved = case.factors - 1
        if case.class_index == int(self.label):
            highest = self.scores[self.second] + moved.abs() @ self._largest
            return ~case.is_lost & (highest <= case.own + self._slack)
        mine = case.factors @ self._mine
        overtakes = ~(case.own <= mine + self._slack) & self._rule.candidates[case.class_index]
        return ~(case.is_lost | self._parts(moved.abs()) | overtakes)

    def _names(self) -> Tensor:
        """Class and label now, of the classes whose name alone gives the image another label."""
        image = self._image
        similarities = image.similarities(image.texts.labels)
        powers = torch.exp(similarities - image.scale)
        totals = image.others + powers
        factors = image.total / totals
        own = (similarities * powers / totals).sum(1)
        doubtful = self._parts((factors - 1).abs())
        doubtful |= self._rule.candidates & ~(own <= factors @ self._mine + self._slack)
        # the name, or what it replaces, has nearly all the weight of a view
        is_lost = ~((factors <= _MOST) & (powers <= _MOST * image.total)).all(1)
        doubtful |= is_lost
        doubtful[self.label] = True
        rows = []
        for part in torch.split(doubtful.nonzero().squeeze(1), _AT_ONCE):
            scores = (factors[part] @ image.shares.T).scatter_(1, part[:, None], own[part, None])
            for row in is_lost[part].nonzero().squeeze(1).tolist():
                kept = image.texts.class_index != part[row]
                scores[row] = image.scores_of(kept, int(part[row]), similarities[part[row], None])
            labels = self._rule.without(scores, self.label.expand(len(part)), self._rounding)
            rows.append(differing(self.label, part, labels))
        return torch.cat(rows)


@dataclass(eq=False)
class _Removal:
    """One class without each of its n sentences.

    Attributes:
        image: its sums.
        class_index: c.
        factors: [n, V], D_v / D'_v.
        own: [n], the score of c.
        before: [C], the scores with all sentences, from the same float64 sums, so that differences are exact.
    """

    image: _SoftImage
    class_index: int
    factors: Tensor
    own: Tensor
    before: Tensor

    @classmethod
    def of(cls, image: _SoftImage, class_index: int, texts: Tensor) -> _Removal:
        """From the texts [n, d] of the class, 2 or more."""
        similarities = image.similarities(texts)
        powers = torch.exp(similarities - image.scale)
        rest = len(texts) - 1
        left = sums_of_others(powers.T).T / rest
        totals = image.others[class_index] + left
        products = sums_of_others((similarities * powers).T).T / rest
        own = (products / totals).sum(1)
        total = image.others[class_index] + powers.mean(0)
        before = image.shares @ (image.total / total)
        before[class_index] = ((similarities * powers).mean(0) / total).sum()
        return cls(image, class_index, image.total / totals, own, before)

    @property
    def count(self) -> int:
        """n."""
        return len(self.own)

    @cached_property
    def is_lost(self) -> Tensor:
        """Which sentences have nearly all the weight of a view, so that too few digits are left of the rest: [n]."""
        return ~(self.factors <= _MOST).all(1)

    def scores(self, sentences: Tensor, start: int) -> Tensor:
        """The scores [k, C] of all classes without each of some sentences.

        Args:
            sentences: [k], positions in the class.
            start: the position of the class's first sentence among all.
        """
        scores = self.factors[sentences] @ self.image.shares.T
        scores[:, self.class_index] = self.own[sentences]
        for row in self.is_lost[sentences].nonzero().squeeze(1).tolist():
            kept = torch.arange(len(self.image.texts.features)) != start + int(sentences[row])
            scores[row] = self.image.scores_of(kept, self.class_index, scores.new_empty(0, len(self.image.scale)))
        return scores
