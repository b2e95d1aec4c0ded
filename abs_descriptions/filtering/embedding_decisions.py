"""Which sentences to keep by their embeddings: pure functions of a matrix, class indices and texts. Needs numpy alone.

Shapes: n sentences, d dimensions, C classes; ``vectors`` [n, d] float32 unit rows, ``class_indices`` [n] positions.
Within a class, sentences are sorted by text before anything is compared, so no result depends on the order of the
records, and every tie goes to the text that comes first. No n x n matrix is ever held: similarities are computed within
a class, or between a block of sentences and the C class centroids.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from abs_core.errors import ModelError, UsageError
from abs_descriptions.filtering.criteria import Criteria, Decision, Decisions
from abs_descriptions.generation.cleaning import RejectionReason

__all__ = ["decide"]

Floats: TypeAlias = NDArray[np.float32]
Places: TypeAlias = NDArray[np.int64]
_BLOCK = 512

# Sentences that are compared with all centroids at once.
_ROWS = 4096

# A class with fewer sentences has no meaningful spread, so none of them counts as off-topic.
_MIN_FOR_SPREAD = 5

# The smallest spread that is used: in a class of near-copies every other sentence would otherwise be off-topic.
_MAD_FLOOR = 0.05

# Makes the median absolute deviation comparable with a standard deviation (Iglewicz and Hoaglin 1993).
_MAD_SCALE = 0.6745


def decide(vectors: Floats, class_indices: Sequence[int], texts: Sequence[str], criteria: Criteria) -> Decisions:
    """Judge every sentence: near duplicates first, then off-topic and misplaced ones, then the choice of ``keep``.

    Args:
        vectors: [n, d] unit rows.
        class_indices: n class positions, 0 or above.
        texts: n texts; they break ties.
        criteria: what to apply.

    Raises:
        UsageError: lengths that do not match.
        ModelError: a vector that is not a unit vector; the message names the text.
    """
    _validate(vectors, class_indices, texts)
    order = np.array(sorted(range(len(texts)), key=lambda i: (class_indices[i], texts[i])), dtype=np.int64)
    run = _FilterRun(np.asarray(vectors, dtype=np.float32)[order], np.asarray(class_indices, dtype=np.int64)[order])
    alive = np.arange(len(order), dtype=np.int64)
    # The vectors are finite, as was checked. Some matrix products compute lanes beyond the data, which they discard;
    # what happens to lie there may set the processor's flag for an invalid operation.
    with np.errstate(invalid="ignore"):
        if criteria.near_duplicate is not None:
            alive = run.drop_near_duplicates(alive, criteria.near_duplicate)
        alive, protected = run.drop_misplaced(alive, criteria)
        if criteria.keep is not None:
            run.choose(alive, criteria.keep, criteria.diversity)
    decisions: list[Decision] = [Decision(None, {})] * len(order)
    for place, decision in run.decisions.items():
        neighbour = None if decision.neighbour is None else int(order[decision.neighbour])
        decisions[int(order[place])] = Decision(decision.reason, decision.measured, neighbour, decision.rival)
    return Decisions(tuple(decisions), protected)


@dataclass
class _FilterRun:
    """Sentences sorted by class and text, and the decisions on them so far."""

    vectors: Floats
    class_indices: Places
    decisions: dict[int, Decision] = field(default_factory=dict)

    def drop_near_duplicates(self, alive: Places, limit: float) -> Places:
        """Of sentences that are too similar, the one nearest to the class stays."""
        kept = []
        for members in _groups(alive, self.class_indices):
            rows = self.vectors[members]
            visit = np.argsort(-_own_similarity(rows), kind="stable")
            stays, twins = _first_of_each(rows[visit], limit)
            kept.append(np.sort(members[visit[stays]]))
            for row, (other, cosine) in twins.items():
                measured = {"cosine": cosine, "limit": limit}
                self.decisions[int(members[visit[row]])] = Decision(
                    RejectionReason.NEAR_DUPLICATE, measured, neighbour=int(members[visit[other]])
                )
        return np.concatenate(kept)

    def drop_misplaced(self, alive: Places, criteria: Criteria) -> tuple[Places, int]:
        """Remove sentences too far from their class, or nearer to another; all judged on the same centroids."""
        class_indices, rows = self.class_indices[alive], self.vectors[alive]
        groups = list(_groups(np.arange(len(alive)), class_indices))
        similarity = np.concatenate([_own_similarity(rows[members]) for members in groups])
        rival, rivals = _nearest_other_class(rows, class_indices, groups)
        score = np.concatenate([_modified_z(similarity[members]) for members in groups])
        margin = similarity - rival
        far = np.zeros(len(alive), bool) if criteria.off_topic is None else score < -criteria.off_topic
        misplaced = np.zeros(len(alive), bool) if criteria.nearer is None else margin < -criteria.nearer
        goes = far | misplaced
        merit = np.where(np.isnan(margin), similarity, margin)
        protected = 0
        for members in groups:
            lacking = min(criteria.least, len(members)) - int((~goes[members]).sum())
            if lacking > 0:
                gone = members[goes[members]]
                goes[gone[np.argsort(-merit[gone], kind="stable")][:lacking]] = False
                protected += lacking
        for row, place in enumerate(alive.tolist()):
            measured = _numbers(similarity=similarity[row], rival=rival[row], z=score[row])
            reason = None if not goes[row] else RejectionReason.OFF_TOPIC if far[row] else RejectionReason.OTHER_CLASS
            limit = criteria.off_topic if reason is RejectionReason.OFF_TOPIC else criteria.nearer
            if reason is not None and limit is not None:
                measured["limit"] = limit
            nearest = None if math.isnan(rival[row]) else int(rivals[row])
            self.decisions[place] = Decision(reason, measured, rival=nearest)
        return alive[~goes], protected

    def choose(self, alive: Places, keep: int, diversity: float) -> None:
        """Of each class the ``keep`` sentences that maximal marginal relevance picks."""
        for members in _groups(alive, self.class_indices):
            if len(members) <= keep:
                continue
            rows = self.vectors[members]
            chosen, nearest, cosines = _marginal_relevance(rows, keep, diversity)
            rest = np.setdiff1d(np.arange(len(members)), chosen)
            for row in rest.tolist():
                place = int(members[row])
                measured = {**self.decisions[place].measured, "cosine": _rounded(cosines[row])}
                self.decisions[place] = Decision(
                    RejectionReason.SURPLUS, measured, int(members[nearest[row]]), self.decisions[place].rival
                )


def _validate(vectors: Floats, class_indices: Sequence[int], texts: Sequence[str]) -> None:
    if vectors.ndim != 2 or not len(vectors) == len(class_indices) == len(texts) or not len(texts):
        raise UsageError(
            f"texts, class indices and embeddings must have one length, "
            f"got {len(texts)}, {len(class_indices)} and {list(vectors.shape)}"
        )
    norms = np.linalg.norm(vectors, axis=1)
    bad = np.flatnonzero(~(np.abs(norms - 1) < 1e-3))
    if len(bad):
        raise ModelError(
            f"the encoder gave a vector of length {norms[bad[0]]:.3g} for {texts[bad[0]][:80]!r}",
            remedy="Use another sentence encoder, or remove this text",
        )


def _groups(places: Places, class_indices: Places) -> Iterator[Places]:
    """The places of each class; ``class_indices`` is sorted along ``places``."""
    edges = [0, *(np.flatnonzero(np.diff(class_indices[places])) + 1).tolist(), len(places)]
    for start, stop in pairwise(edges):
        yield places[start:stop]


def _own_similarity(rows: Floats) -> Floats:
    """Cosine of each row with the mean of the others, [m]; 1 for a row without others, which is its whole class."""
    if len(rows) == 1:
        return np.ones(1, dtype=np.float32)
    rest = rows.sum(axis=0, dtype=np.float64) - rows
    cosines: Floats = np.einsum("md,md->m", rest, rows) / np.maximum(np.linalg.norm(rest, axis=1), 1e-12)
    return cosines.astype(np.float32)


def _nearest_other_class(rows: Floats, class_indices: Places, groups: Sequence[Places]) -> tuple[Floats, Places]:
    """For each row the largest cosine with the centroid of another class, and that class; NaN if there is none."""
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


def _modified_z(similarity: Floats) -> Floats:
    """0.6745 (x - median) / MAD of the similarities of one class; 0 for a class too small to have a spread."""
    if len(similarity) < _MIN_FOR_SPREAD:
        return np.zeros(len(similarity), dtype=np.float32)
    distance = similarity - np.median(similarity)
    scores: Floats = _MAD_SCALE * distance / max(float(np.median(np.abs(distance))), _MAD_FLOOR)
    return scores.astype(np.float32)


def _first_of_each(rows: Floats, limit: float) -> tuple[list[int], dict[int, tuple[int, float]]]:
    """The rows that are kept, and for each of the others the kept row it is too similar to, and their cosine."""
    kept: list[int] = []
    twins: dict[int, tuple[int, float]] = {}
    store = np.empty_like(rows)
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        known = len(kept)
        before = block @ store[:known].T if known else np.full((len(block), 1), -np.inf, dtype=np.float32)
        nearest, best = before.argmax(axis=1), before.max(axis=1)
        inside = block @ block.T
        for row in range(len(block)):
            cosine, other = float(best[row]), kept[nearest[row]] if known else -1
            fresh = [place - start for place in kept[known:]]
            if fresh and (value := float(np.max(inside[row, fresh]))) > cosine:
                cosine, other = value, start + fresh[int(np.argmax(inside[row, fresh]))]
            if cosine >= limit:
                twins[start + row] = (other, _rounded(cosine))
            else:
                store[len(kept)] = block[row]
                kept.append(start + row)
    return kept, twins


def _marginal_relevance(rows: Floats, keep: int, diversity: float) -> tuple[Places, Places, Floats]:
    """Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998) with the class itself as the query.

    Returns:
        The chosen rows [keep]; for every row the most similar chosen one [m], and their cosine [m].
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


def _numbers(*, similarity: float, rival: float, z: float) -> dict[str, float]:
    measured = {"class-similarity": similarity, "rival-similarity": rival, "modified-z": z}
    return {name: _rounded(value) for name, value in measured.items() if math.isfinite(value)}


def _rounded(value: float) -> float:
    # As many digits as a reader can use; the last ones differ between processors.
    return round(float(value), 4)
