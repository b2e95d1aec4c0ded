"""Shard by shard through a data set: identify, score, rank; bad images stop the run or are counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from abs_classify.encoding.digest_cache import DigestCache
from abs_classify.encoding.stages import IdentifiedSample, Stages, UnreadableImage, shards
from abs_core.canonical import sha256_bytes
from abs_core.errors import AbsError, ImageError, ModelError, StorageError, UsageError
from abs_core.progress import Advance
from abs_core.text import valid_unicode

if TYPE_CHECKING:
    from abs_classify.datasets import Sample
    from abs_classify.methods.class_texts import ClassTexts
    from abs_classify.methods.table import Method

__all__ = ["MethodRanking", "OnError", "ScoredImages", "SkippedImage", "identify", "rank_of_truth", "score"]


OnError = Literal["stop", "skip"]


#: classes of a ranking that are kept; the rest of the scores stay in the cache
_KEPT = 5


@dataclass(frozen=True)
class SkippedImage:
    """An image that could not be used, and why."""

    name: str
    reason: str

    @classmethod
    def of(cls, name: str, error: AbsError) -> SkippedImage:
        """With the message of an error as the reason, and both in valid Unicode, which file names need not be."""
        return cls(valid_unicode(name), valid_unicode(error.message))


@dataclass
class MethodRanking:
    """The best classes of one method for some photos.

    Args:
        top: int64 [n, k], positions of the best classes, best first; ties go to the lower position.
        scores: float32 [n, k], their scores.
        ranks: int64 [n], the place of the true class from 1 on; empty where no labels were given.
    """

    top: np.ndarray
    scores: np.ndarray
    ranks: np.ndarray


@dataclass
class ScoredImages:
    """What a run found.

    Args:
        shards: the photos that were scored, in order, as they were cached together.
        labels: the positions of their true classes; empty where no labels were given.
        methods: the rankings by the method's name.
        skipped: those that were not.
        selected: positions of the only classes that were ranked; empty for all.
    """

    shards: list[list[IdentifiedSample]]
    labels: list[int]
    methods: dict[str, MethodRanking]
    skipped: list[SkippedImage] = field(default_factory=list)
    selected: Sequence[int] = ()

    @property
    def photos(self) -> list[IdentifiedSample]:
        """All photos that were scored, in order."""
        return [photo for shard in self.shards for photo in shard]


def identify(
    items: Sequence[Sample], memo: DigestCache, on_error: OnError
) -> tuple[list[IdentifiedSample | None], list[SkippedImage]]:
    """The content ids of images; None stands for one that was skipped.

    Raises:
        ImageError: an image cannot be read and ``on_error`` is "stop".
    """
    try:
        files = [item.path for item in items if item.source is None]
        known = dict(zip(files, memo.files(files), strict=True))
    except StorageError:
        known = {}  # one of them cannot be read: find out which
    photos: list[IdentifiedSample | None] = []
    skipped = []
    for item in items:
        try:
            found = known.get(item.path) if item.source is None else None
            photos.append(IdentifiedSample(item, found or _identify(item, memo)))
        except (StorageError, ImageError) as error:
            if on_error == "stop":
                remedy = error.remedy or "Restore the file"
                raise ImageError(error.message, remedy=f"{remedy}, or use --on-error skip") from error
            photos.append(None)
            skipped.append(SkippedImage.of(item.name, error))
    return photos, skipped


def _identify(item: Sample, memo: DigestCache) -> str:
    if item.source is None:
        return memo.file(item.path)
    # the container's stamp stands for the member's: a changed shard is read anew
    return memo.derived(f"image {item.source.name}", [item.path], lambda: sha256_bytes(item.read()))


def score(
    stages: Stages,
    photos: Sequence[IdentifiedSample],
    labels: Sequence[int] | None,
    methods: Mapping[Method, ClassTexts],
    on_error: OnError,
    advance: Advance,
    selected: Sequence[int] = (),
    known_bad: dict[IdentifiedSample, SkippedImage] | None = None,
) -> ScoredImages:
    """Score photos with methods.

    Args:
        stages: the cached stages.
        photos: in order; stream methods depend on it.
        labels: positions of the true classes, or None.
        methods: each with its texts.
        on_error: whether an image that cannot be read stops the run.
        advance: is told of each finished shard.
        selected: positions of the only classes that are ranked, where a benchmark chooses them after scoring all.
        known_bad: photos that a run before could not read, which are skipped at once; those that are found are added.

    Raises:
        ImageError: an image cannot be read and ``on_error`` is "stop"; finished shards stay in the cache.
    """
    truth = dict(zip(photos, labels, strict=True)) if labels is not None else {}
    alone = {method: table for method, table in methods.items() if not method.stream}
    kept: list[list[IdentifiedSample]] = []
    bad = {} if known_bad is None else known_bad
    # encoded shard by shard with the rest, so that a bad image of theirs is found in its shard
    streamed = list(dict.fromkeys(view for method in methods if method.stream for view in method.views))
    parts: dict[str, list[MethodRanking]] = {method.name: [] for method in alone}
    with closing(stages):
        for method, table in methods.items():
            if method.stream:
                stages.texts(table)  # as ``Stages.scores`` does for the others: before any image
        for shard, following in pairwise([*shards(photos), ()]):
            then = [photo for photo in following if photo not in bad]
            work = partial(stages.scores, methods=alone, also=streamed, then=then)
            good = _without_bad(shard, work, on_error, bad)
            if good is not None:
                shard_photos, scores = good
                for name, rows in scores.items():
                    true = [truth[photo] for photo in shard_photos] if truth else None
                    parts[name].append(_sort(_select(rows, selected), true, name))
                kept.append(shard_photos)
            advance(len(shard))
    results = {name: _join(rows) for name, rows in parts.items() if rows}
    true = [truth[photo] for shard in kept for photo in shard] if truth else None
    for method, table in methods.items():
        if method.stream and kept:
            rows = _select(stages.stream_scores(kept, method, table), selected)
            results[method.name] = _sort(rows, true, method.name)
    ordered = {method.name: results[method.name] for method in methods if method.name in results}
    return ScoredImages(kept, true or [], ordered, [bad[photo] for photo in photos if photo in bad], selected)


def _without_bad(
    shard: Sequence[IdentifiedSample],
    work: Callable[[Sequence[IdentifiedSample]], dict[str, np.ndarray]],
    on_error: OnError,
    bad: dict[IdentifiedSample, SkippedImage],
) -> tuple[list[IdentifiedSample], dict[str, np.ndarray]] | None:
    good = [photo for photo in shard if photo not in bad]
    while good:
        try:
            return good, work(good)
        except UnreadableImage as found:
            if on_error == "stop":
                remedy = found.error.remedy or "Remove it"
                raise ImageError(found.error.message, remedy=f"{remedy}, or use --on-error skip") from found
            bad[found.photo] = SkippedImage.of(found.photo.name, found.error)
            good = [photo for photo in good if photo != found.photo]
    return None


def _select(scores: np.ndarray, selected: Sequence[int]) -> np.ndarray:
    """Put all but the selected classes below everything else."""
    if not selected:
        return scores
    chosen = scores[:, list(selected)]
    lowered: np.ndarray = scores.min(axis=1, keepdims=True).repeat(scores.shape[1], axis=1) - 1
    lowered[:, list(selected)] = chosen
    return lowered


def _sort(scores: np.ndarray, labels: Sequence[int] | None, method: str) -> MethodRanking:
    top = np.argsort(-scores, axis=1, kind="stable")[:, :_KEPT]
    empty = np.empty(0, dtype=np.int64)
    ranks = empty if labels is None else rank_of_truth(scores, np.asarray(labels, dtype=np.int64), method)
    return MethodRanking(top, np.take_along_axis(scores, top, axis=1), ranks)


def _join(parts: Sequence[MethodRanking]) -> MethodRanking:
    return MethodRanking(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("top", "scores", "ranks"))
    )


def rank_of_truth(
    scores: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]], method: str
) -> NDArray[np.int64]:
    """The place of the true class among all classes, 1 is best.

    Of equal scores the lower class position comes first, as in ``argmax``, so rank 1 is the same as being predicted.

    Args:
        scores: float [n, C].
        labels: int [n].
        method: named in errors.

    Returns:
        int64 [n], 1 to C.

    Raises:
        UsageError: shapes that do not fit, or a label that is no class.
        ModelError: a score that is not a finite number.
    """
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise UsageError(
            f"scores of shape {scores.shape} do not fit {labels.shape[0] if labels.ndim else 0} labels",
            remedy="Give one row of scores per image",
        )
    if labels.size and (int(np.min(labels)) < 0 or int(np.max(labels)) >= scores.shape[1]):
        raise UsageError(
            f"a label is outside 0 to {scores.shape[1] - 1}", remedy="Give the position of a class for every image"
        )
    if not np.isfinite(scores).all():
        raise ModelError(
            f"the scores of method {method!r} hold numbers that are not finite",
            remedy="Check the model's weights, or run it in float32",
        )
    true_score = np.take_along_axis(scores, labels[:, None], axis=1)
    earlier = np.arange(scores.shape[1]) < labels[:, None]
    ahead = (scores > true_score) | ((scores == true_score) & earlier)
    ranks: NDArray[np.int64] = 1 + ahead.sum(axis=1, dtype=np.int64)
    return ranks
