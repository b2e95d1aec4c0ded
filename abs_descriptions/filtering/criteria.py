"""Which sentences to keep: pure functions of an embedding matrix, class_indices and texts. numpy alone.

Shapes: n sentences, d dimensions, C classes; ``vectors`` [n, d] float32 unit rows, ``class_indices`` [n] positions.
Within a class sentences stand in the order of their texts before anything is compared, so no result depends on the
order of the records, and every tie goes to the text that comes first. No n x n matrix is ever held: similarities are
taken within a class, or between a block of sentences and the C class centroids.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from abs_core.errors import ModelError, UsageError
from abs_descriptions.generation.cleaning import RejectionReason

__all__ = ["Criteria", "Decision", "Decisions", "decide", "top_by_weight"]


Floats: TypeAlias = NDArray[np.float32]


Places: TypeAlias = NDArray[np.int64]


_BLOCK = 512


#: sentences that are compared with all centroids at once
_ROWS = 4096


#: a class with fewer sentences has no spread to speak of, so none of them is called off-topic
_LEAST_SPREAD = 5


#: the least spread that is believed: a class of near-copies would otherwise call every other sentence off-topic
_MAD_FLOOR = 0.05


#: makes the median absolute deviation comparable with a standard deviation (Iglewicz and Hoaglin 1993)
_MAD_SCALE = 0.6745


@dataclass(frozen=True)
class Criteria:
    """What a sentence must be to stay; None leaves a criterion out.

    Args:
        near_duplicate: cosine from which on two sentences of a class are one, in (0, 1].
        off_topic: a sentence whose similarity to its class has a modified z-score below minus this is off-topic.
        nearer: by how much more similar a sentence may be to another class than to its own, a difference of cosines.
        keep: at most so many sentences of each class, chosen for being typical and diverse.
        diversity: how much the choice of ``keep`` minds likeness to what is chosen already, in [0, 1]: 0 takes the most
            typical sentences, 1 those farthest apart.
        least: what ``off_topic`` and ``nearer`` leave of a class at least, the best ones staying.

    Raises:
        UsageError: a number out of its range.
    """

    near_duplicate: float | None = 0.95
    off_topic: float | None = 3.5
    nearer: float | None = 0.1
    keep: int | None = None
    diversity: float = 0.5
    least: int = 1

    def __post_init__(self) -> None:
        if self.near_duplicate is not None and not 0 < self.near_duplicate <= 1:
            raise UsageError(
                f"near duplicates are told by a cosine of {self.near_duplicate}",
                remedy="Give a number above 0, up to 1",
            )
        for name, value in (("off-topic", self.off_topic), ("nearer", self.nearer)):
            if value is not None and not (value >= 0 and math.isfinite(value)):
                raise UsageError(f"the limit {name} is {value}", remedy="Give a number from 0 on")
        if not 0 <= self.diversity <= 1:
            raise UsageError(f"the diversity is {self.diversity}", remedy="Give a number from 0 to 1")
        if self.least < 1 or (self.keep is not None and self.keep < 1):
            raise UsageError("a class would keep no sentence", remedy="Keep at least 1")


@dataclass(frozen=True)
class Decision:
    """What became of one sentence.

    Args:
        reason: why it goes, or None if it stays.
        measured: the numbers that were compared, by name.
        neighbour: position of the sentence that it was compared with, or None.
        rival: position of the class that it is nearest to besides its own, or None.
    """

    reason: RejectionReason | None
    measured: Mapping[str, float]
    neighbour: int | None = None
    rival: int | None = None


@dataclass(frozen=True)
class Decisions:
    """One decision for each sentence, in the order of the input, and how many were kept for ``least`` alone."""

    each: tuple[Decision, ...]
    spared: int


def decide(vectors: Floats, class_indices: Sequence[int], texts: Sequence[str], criteria: Criteria) -> Decisions:
    """Judge every sentence: near-duplicates first, then off-topic and misplaced ones, then the choice of ``keep``.

    Args:
        vectors: [n, d] unit rows.
        class_indices: n class positions, 0 or above.
        texts: n texts; they break ties.
        criteria: what to apply.

    Raises:
        UsageError: lengths that do not fit.
        ModelError: a vector that is no unit vector; the message names the text.
    """
    _check(vectors, class_indices, texts)
    order = np.array(sorted(range(len(texts)), key=lambda i: (class_indices[i], texts[i])), dtype=np.int64)
    problem = _Problem(np.asarray(vectors, dtype=np.float32)[order], np.asarray(class_indices, dtype=np.int64)[order])
    alive = np.arange(len(order), dtype=np.int64)
    if criteria.near_duplicate is not None:
        alive = problem.drop_near_duplicates(alive, criteria.near_duplicate)
    alive, spared = problem.drop_misplaced(alive, criteria)
    if criteria.keep is not None:
        problem.choose(alive, criteria.keep, criteria.diversity)
    found: list[Decision] = [Decision(None, {})] * len(order)
    for place, decision in problem.decisions.items():
        neighbour = None if decision.neighbour is None else int(order[decision.neighbour])
        found[int(order[place])] = Decision(decision.reason, decision.measured, neighbour, decision.rival)
    return Decisions(tuple(found), spared)


def top_by_weight(
    weights: Sequence[float],
    class_indices: Sequence[Hashable],
    texts: Sequence[str],
    *,
    keep: int | None,
    share: float | None,
) -> tuple[bool, ...]:
    """The sentences that carry the weight of their class: the heaviest ones, ties to the text that comes first.

    Args:
        weights: n weights, none negative.
        class_indices: n classes.
        texts: n texts; they break ties.
        keep: at most so many of each class.
        share: only as many of each class as together hold this share of its weight, in (0, 1].

    Returns:
        Whether each sentence stays. Every class keeps at least one.

    Raises:
        UsageError: neither ``keep`` nor ``share``, or one out of range.
    """
    if (keep is None) == (share is None):
        raise UsageError("sentences are chosen by number or by mass", remedy="Give one of the two")
    if (keep is not None and keep < 1) or (share is not None and not 0 < share <= 1):
        raise UsageError(
            f"cannot keep {keep if share is None else share} of each class",
            remedy="Give a number of 1 or more, or a share above 0, up to 1",
        )
    stays = [False] * len(texts)
    for members in _members(class_indices).values():
        ranked = sorted(members, key=lambda i: (-weights[i], texts[i]))
        total, held = math.fsum(weights[i] for i in ranked), 0.0
        for rank, i in enumerate(ranked):
            enough = rank >= keep if keep is not None else held >= (share or 1.0) * total and rank > 0
            if enough:
                break
            stays[i] = True
            held += weights[i]
    return tuple(stays)


@dataclass
class _Problem:
    """Sentences sorted by class and text, and what was decided of them so far."""

    vectors: Floats
    class_indices: Places
    decisions: dict[int, Decision] = field(default_factory=dict)

    def drop_near_duplicates(self, alive: Places, limit: float) -> Places:
        """Of sentences that are too alike the one nearest to the class stays."""
        kept = []
        for members in _groups(alive, self.class_indices):
            rows = self.vectors[members]
            visit = np.argsort(-_own_similarity(rows), kind="stable")
            stays, twins = _first_of_each(rows[visit], limit)
            kept.append(np.sort(members[visit[stays]]))
            for at, (other, cosine) in twins.items():
                measured = {"cosine": cosine, "limit": limit}
                self.decisions[int(members[visit[at]])] = Decision(
                    RejectionReason.NEAR_DUPLICATE, measured, neighbour=int(members[visit[other]])
                )
        return np.concatenate(kept)

    def drop_misplaced(self, alive: Places, criteria: Criteria) -> tuple[Places, int]:
        """Sentences too far from their class, or nearer to another; all judged at once on the same centroids."""
        class_indices, rows = self.class_indices[alive], self.vectors[alive]
        groups = list(_groups(np.arange(len(alive)), class_indices))
        own = np.concatenate([_own_similarity(rows[members]) for members in groups])
        rival, rivals = _nearest_other_class(rows, class_indices, groups)
        score = np.concatenate([_modified_z(own[members]) for members in groups])
        margin = own - rival
        far = np.zeros(len(alive), bool) if criteria.off_topic is None else score < -criteria.off_topic
        misplaced = np.zeros(len(alive), bool) if criteria.nearer is None else margin < -criteria.nearer
        goes = far | misplaced
        merit = np.where(np.isnan(margin), own, margin)
        spared = 0
        for members in groups:
            lacking = min(criteria.least, len(members)) - int((~goes[members]).sum())
            if lacking > 0:
                gone = members[goes[members]]
                goes[gone[np.argsort(-merit[gone], kind="stable")][:lacking]] = False
                spared += lacking
        for at, place in enumerate(alive.tolist()):
            measured = _numbers(own=own[at], rival=rival[at], z=score[at])
            reason = None if not goes[at] else RejectionReason.OFF_TOPIC if far[at] else RejectionReason.OTHER_CLASS
            limit = criteria.off_topic if reason is RejectionReason.OFF_TOPIC else criteria.nearer
            if reason is not None and limit is not None:
                measured["limit"] = limit
            nearest = None if math.isnan(rival[at]) else int(rivals[at])
            self.decisions[place] = Decision(reason, measured, rival=nearest)
        return alive[~goes], spared

    def choose(self, alive: Places, keep: int, diversity: float) -> None:
        """Of each class the ``keep`` sentences that maximal marginal relevance picks."""
        for members in _groups(alive, self.class_indices):
            if len(members) <= keep:
                continue
            rows = self.vectors[members]
            chosen, nearest, cosines = _marginal_relevance(rows, keep, diversity)
            rest = np.setdiff1d(np.arange(len(members)), chosen)
            for at in rest.tolist():
                place = int(members[at])
                measured = {**self.decisions[place].measured, "cosine": _rounded(cosines[at])}
                self.decisions[place] = Decision(
                    RejectionReason.SURPLUS, measured, int(members[nearest[at]]), self.decisions[place].rival
                )


def _check(vectors: Floats, class_indices: Sequence[int], texts: Sequence[str]) -> None:
    if vectors.ndim != 2 or not len(vectors) == len(class_indices) == len(texts) or not len(texts):
        raise UsageError(
            f"{len(texts)} texts, {len(class_indices)} class_indices and embeddings {list(vectors.shape)} do not fit"
        )
    norms = np.linalg.norm(vectors, axis=1)
    bad = np.flatnonzero(~(np.abs(norms - 1) < 1e-3))
    if len(bad):
        raise ModelError(
            f"the encoder gave a vector of length {norms[bad[0]]:.3g} for {texts[bad[0]][:80]!r}",
            remedy="Use another sentence encoder, or remove this text",
        )


def _members(class_indices: Sequence[Hashable]) -> dict[Hashable, list[int]]:
    found: dict[Hashable, list[int]] = {}
    for at, owner in enumerate(class_indices):
        found.setdefault(owner, []).append(at)
    return found


def _groups(places: Places, class_indices: Places) -> Iterator[Places]:
    """The places of each class; ``class_indices`` is sorted along ``places``."""
    own = class_indices[places]
    edges = [0, *(np.flatnonzero(np.diff(own)) + 1).tolist(), len(places)]
    for start, stop in pairwise(edges):
        yield places[start:stop]


def _own_similarity(rows: Floats) -> Floats:
    """Cosine of each row with the mean of the others, [m]; 1 for a row without others: it is its class."""
    if len(rows) == 1:
        return np.ones(1, dtype=np.float32)
    rest = rows.sum(axis=0, dtype=np.float64) - rows
    cosines: Floats = np.einsum("md,md->m", rest, rows) / np.maximum(np.linalg.norm(rest, axis=1), 1e-12)
    return cosines.astype(np.float32)


def _nearest_other_class(rows: Floats, class_indices: Places, groups: Sequence[Places]) -> tuple[Floats, Places]:
    """For each row the largest cosine with the centroid of another class, and that class; NaN where there is none."""
    classes = np.array([class_indices[members[0]] for members in groups])
    sums = np.stack([rows[members].sum(axis=0, dtype=np.float64) for members in groups])
    centroids = (sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    best, which = np.full(len(rows), np.nan, dtype=np.float32), np.zeros(len(rows), dtype=np.int64)
    if len(classes) == 1:
        return best, which
    slots = np.searchsorted(classes, class_indices)
    for start in range(0, len(rows), _ROWS):
        cosines = rows[start : start + _ROWS] @ centroids.T
        here = np.arange(len(cosines))
        cosines[here, slots[start : start + _ROWS]] = -np.inf
        nearest = cosines.argmax(axis=1)
        best[start : start + _ROWS] = cosines[here, nearest]
        which[start : start + _ROWS] = classes[nearest]
    return best, which


def _modified_z(own: Floats) -> Floats:
    """0.6745 (x - median) / MAD of the similarities of one class; 0 for a class too small to have a spread."""
    if len(own) < _LEAST_SPREAD:
        return np.zeros(len(own), dtype=np.float32)
    distance = own - np.median(own)
    scores: Floats = _MAD_SCALE * distance / max(float(np.median(np.abs(distance))), _MAD_FLOOR)
    return scores.astype(np.float32)


def _first_of_each(rows: Floats, limit: float) -> tuple[list[int], dict[int, tuple[int, float]]]:
    """Rows in order, each kept unless it is too like one that was kept; for the others that one and the cosine."""
    kept: list[int] = []
    twins: dict[int, tuple[int, float]] = {}
    store = np.empty_like(rows)
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        known = len(kept)
        before = block @ store[:known].T if known else np.full((len(block), 1), -np.inf, dtype=np.float32)
        nearest, best = before.argmax(axis=1), before.max(axis=1)
        inside = block @ block.T
        for at in range(len(block)):
            cosine, other = float(best[at]), kept[nearest[at]] if known else -1
            fresh = [place - start for place in kept[known:]]
            if fresh and (value := float(np.max(inside[at, fresh]))) > cosine:
                cosine, other = value, start + fresh[int(np.argmax(inside[at, fresh]))]
            if cosine >= limit:
                twins[start + at] = (other, _rounded(cosine))
            else:
                store[len(kept)] = block[at]
                kept.append(start + at)
    return kept, twins


def _marginal_relevance(rows: Floats, keep: int, diversity: float) -> tuple[Places, Places, Floats]:
    """Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998) with the class itself as the query.

    Returns:
        The chosen rows [keep]; for every row the chosen one that is most like it [m], and their cosine [m].
    """
    typical = _own_similarity(rows)
    cosines = np.full(len(rows), -np.inf, dtype=np.float32)
    nearest = np.zeros(len(rows), dtype=np.int64)
    free = np.ones(len(rows), dtype=bool)
    chosen: list[int] = []
    for _ in range(keep):
        score = (1 - diversity) * typical - diversity * cosines if chosen else typical
        pick = int(np.argmax(np.where(free, score, -np.inf)))
        chosen.append(pick)
        free[pick] = False
        likeness = rows @ rows[pick]
        nearest = np.where(likeness > cosines, pick, nearest)
        cosines = np.maximum(cosines, likeness)
    return np.array(chosen, dtype=np.int64), nearest, cosines


def _numbers(*, own: float, rival: float, z: float) -> dict[str, float]:
    measured = {"class-similarity": own, "rival-similarity": rival, "modified-z": z}
    return {name: _rounded(value) for name, value in measured.items() if math.isfinite(value)}


def _rounded(value: float) -> float:
    # what a reader can use; the last digits differ between processors
    return round(float(value), 4)
