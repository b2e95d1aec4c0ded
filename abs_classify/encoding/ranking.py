"""Shard by shard through images: score and rank; an image that cannot be read stops the run or is left out."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from abs_classify.encoding.samples import (
    IdentifiedSample,
    ImageFacts,
    OnError,
    SkippedImage,
    UnreadableImage,
    UnreadableSample,
    batched,
    stopping_error,
)
from abs_classify.encoding.stages import SHARD, Stages
from abs_classify.methods.random import shuffled_order
from abs_classify.methods.views import GuidedViews
from abs_core.errors import AbsError, ModelError, UsageError
from abs_core.progress import Advance
from abs_core.remarks import Remark, RemarkCounter

if TYPE_CHECKING:
    from abs_classify.encoding.view_plan import MethodScores
    from abs_classify.methods.adaptive import RuleSource
    from abs_classify.methods.class_texts import ClassTexts
    from abs_classify.methods.confidence import ConfidenceViews
    from abs_classify.methods.table import Method
    from abs_classify.methods.views import ViewSource

__all__ = [
    "MethodRanking",
    "ScoredImages",
    "ScoredShard",
    "ShardScorer",
    "image_probabilities",
    "image_remarks",
    "rank_classes",
    "rank_images",
    "rank_of_truth",
    "select_classes",
]

#: classes of a ranking that are kept; the rest of the scores are forgotten
_KEPT = 5


@dataclass
class MethodRanking:
    """The best classes of one method for some images.

    Args:
        top: int64 [n, k], positions of the best classes, best first; ties go to the lower position.
        scores: float32 [n, k], their scores.
        ranks: int64 [n], the place of the true class from 1 on; empty where no labels were given.
        looked: int64 [n], how many views of each kind an adaptive method looked at; empty where it is none.
    """

    top: np.ndarray
    scores: np.ndarray
    ranks: np.ndarray
    looked: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))


@dataclass
class ScoredImages:
    """The images of a run and the classes that each method ranked first for them.

    Args:
        shards: the images that were scored, in order, as they were cached together.
        labels: the positions of their true classes; empty where no labels were given.
        methods: the rankings by the method's name.
        skipped: the images that could not be read.
        selected: positions of the only classes that were ranked; empty for all.
        facts: what is known of each image that was scored, in order.
    """

    shards: list[list[IdentifiedSample]]
    labels: list[int]
    methods: dict[str, MethodRanking]
    skipped: list[SkippedImage] = field(default_factory=list)
    selected: Sequence[int] = ()
    facts: list[ImageFacts] = field(default_factory=list)

    @property
    def images(self) -> list[IdentifiedSample]:
        """All images that were scored, in order."""
        return [image for shard in self.shards for image in shard]


@dataclass(frozen=True)
class ScoredShard:
    """The readable images of one shard, with their scores.

    Args:
        images: in order; none where no image of the shard could be read.
        scores: float32 [B, C] by the name of each method that looks at an image alone.
        skipped: the images of the shard that could not be read.
        facts: what is known of each image.
        looked: int64 [B], how many views of each kind an adaptive method looked at, by its name.
        views: of each image the unit features [n, d] by kind of view that a method looked at, and of those encoded
            besides that are of no kind of its own, by its name; empty where they were not asked for.
    """

    images: Sequence[IdentifiedSample]
    scores: Mapping[str, np.ndarray]
    skipped: Sequence[SkippedImage]
    facts: Sequence[ImageFacts]
    looked: Mapping[str, np.ndarray] = field(default_factory=dict)
    views: Mapping[str, Sequence[Mapping[str, np.ndarray]]] = field(default_factory=dict)

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """What was guessed, scaled or left out to make the pixels of its images."""
        return image_remarks(self.images, self.facts)

    @property
    def size(self) -> int:
        """How many images of the shard are done."""
        return len(self.images) + len(self.skipped)

    def confidence_views(self, method: str) -> list[ConfidenceViews]:
        """Of each image the views that its class probabilities follow from.

        Args:
            method: the name of one whose ``views`` are there, with ``NEEDED_VIEWS``.
        """
        import torch

        from abs_classify.methods.confidence import ConfidenceViews

        return [
            ConfidenceViews.of({kind: torch.from_numpy(rows) for kind, rows in image.items()})
            for image in self.views[method]
        ]


@dataclass
class ShardScorer:
    """Scores images shard by shard with the methods that look at an image alone, and encodes the views of the others.

    Args:
        stages: of this run.
        methods: each with its class texts.
        on_error: whether an image that cannot be read stops the run.
        also: views that are encoded besides.
        skipped: images that are known to be unreadable, which are left out; those that turn out to be so are added.
        partial_shards: whether, of the shard with an image that stops the run, the images before it are scored.
        adaptive: how adaptive methods look at views; None has all methods look at all of theirs.
        keep_views: whether results have the features of the views that methods looked at.
        stream_seed: of the order in which stream methods see the images; None for the order given.
    """

    stages: Stages
    methods: Mapping[Method, ClassTexts]
    on_error: OnError = "stop"
    also: Sequence[ViewSource] = ()
    skipped: dict[IdentifiedSample | UnreadableSample, SkippedImage] = field(default_factory=dict)
    partial_shards: bool = False
    adaptive: RuleSource | None = None
    keep_views: bool = False
    stream_seed: int | None = None

    def stream_scores(self, method: Method, images: Sequence[IdentifiedSample]) -> np.ndarray:
        """Scores [n, C] of a stream method, in the order of the images whatever the order in which it sees them."""
        order = np.arange(len(images))
        if self.stream_seed is not None:
            order = shuffled_order(self.stream_seed, [image.id for image in images])
        shards = list(batched([images[position] for position in order.tolist()], SHARD))
        rows = self.stages.stream_scores(shards, method, self.methods[method])
        scores = np.empty_like(rows)
        scores[order] = rows
        return scores

    def score(
        self, shards: Iterable[Sequence[IdentifiedSample | UnreadableSample]], *, ahead: bool = True
    ) -> Generator[ScoredShard, None, None]:
        """Score images, and close the stages in the end.

        Args:
            shards: the images, in order.
            ahead: whether to take the next shard, and begin with its images, while this one is encoded.

        Yields:
            One result for each shard.

        Raises:
            ImageError: an image cannot be read and ``on_error`` is "stop"; what was computed stays in the cache.
            UsageError: the attention map has fewer patches than a ``top_k``; before any image is read.
        """
        with closing(self.stages):
            self._check_top_k()
            for method, class_texts in self.methods.items():
                if method.stream:
                    self.stages.text_features(class_texts)  # as ``Stages.scores`` does: before any image
            pairs = pairwise(chain(shards, [()])) if ahead else ((shard, ()) for shard in shards)
            for shard, following in pairs:
                scored, failure = self._score_shard(shard, following)
                yield scored
                if failure is not None:
                    raise stopping_error(failure) from failure

    def _check_top_k(self) -> None:
        guided = [(method.name, view) for method in self.methods for view in method.views]
        guided += [(f"views {view.kind}", view) for view in self.also]
        for name, view in guided:
            if not isinstance(view, GuidedViews) or not view.guided or view.top_k is None:
                continue
            facts = self.stages.models.facts
            patches = facts.attention_grid**2
            if view.top_k > patches:
                raise UsageError(
                    f"the parameter 'top_k' of {name!r} must be from 1 to {patches}, the patches of the attention maps "
                    f"of {self.stages.models.label} here, got {view.top_k}",
                    remedy="Choose a number in that range, or none for a tenth of the patches",
                )

    def _score_shard(
        self,
        shard: Sequence[IdentifiedSample | UnreadableSample],
        following: Sequence[IdentifiedSample | UnreadableSample],
    ) -> tuple[ScoredShard, AbsError | None]:
        """The scores of the readable images, where an error ends the run of those before it, and that error."""
        then = [entry for entry in following if isinstance(entry, IdentifiedSample) and entry not in self.skipped]
        images, failure = self._readable(shard)
        while images:
            try:
                known = self.stages.known_facts(images)
                scores = self._scores(images, then)
                facts = self.stages.complete_facts(images, known)
            except UnreadableImage as unreadable:
                if self.on_error == "stop":
                    images, failure = self._before(unreadable.image, images), unreadable.error
                else:
                    self.skipped[unreadable.image] = SkippedImage.of(unreadable.image.name, unreadable.error)
                    images = [image for image in images if image != unreadable.image]
            else:
                skipped = self._skipped_of(shard)
                return ScoredShard(images, scores.by_method, skipped, facts, scores.looked, scores.views), failure
        return ScoredShard([], {}, self._skipped_of(shard), []), failure

    def _scores(self, images: Sequence[IdentifiedSample], then: Sequence[IdentifiedSample]) -> MethodScores:
        alone = {method: class_texts for method, class_texts in self.methods.items() if not method.stream}
        # encoded shard by shard with the rest, so that an unreadable image of theirs is found in its shard
        streamed = [view for method in self.methods if method.stream for view in method.views]
        also = list(dict.fromkeys([*streamed, *self.also]))
        return self.stages.scores(images, alone, also, then, self.adaptive, keep_views=self.keep_views)

    def _readable(
        self, shard: Sequence[IdentifiedSample | UnreadableSample]
    ) -> tuple[list[IdentifiedSample], AbsError | None]:
        """The images that are not known to be unreadable; if that ends the run, those before the first one."""
        images: list[IdentifiedSample] = []
        for entry in shard:
            if isinstance(entry, UnreadableSample):
                if self.on_error == "stop":
                    return images if self.partial_shards else [], entry.error
                self.skipped[entry] = SkippedImage.of(entry.name, entry.error)
            elif entry not in self.skipped:
                images.append(entry)
        return images, None

    def _before(self, unreadable: IdentifiedSample, images: list[IdentifiedSample]) -> list[IdentifiedSample]:
        return images[: images.index(unreadable)] if self.partial_shards else []

    def _skipped_of(self, shard: Sequence[IdentifiedSample | UnreadableSample]) -> list[SkippedImage]:
        return [self.skipped[image] for image in shard if image in self.skipped]


def rank_images(
    scorer: ShardScorer,
    images: Sequence[IdentifiedSample],
    advance: Advance,
    labels: Sequence[int] | None = None,
    selected: Sequence[int] = (),
) -> ScoredImages:
    """Score images with methods, and rank the classes of each.

    Args:
        scorer: the methods, and what they run on.
        images: in order.
        advance: is called with the size of each finished shard.
        labels: positions of the true classes, or None.
        selected: positions of the only classes that are ranked, where a benchmark chooses them after scoring all.

    Raises:
        ImageError: as in ``ShardScorer.score``.
    """
    truth = dict(zip(images, labels, strict=True)) if labels is not None else {}
    shards: list[list[IdentifiedSample]] = []
    skipped: list[SkippedImage] = []
    facts: list[ImageFacts] = []
    parts: dict[str, list[MethodRanking]] = {}
    for scored in scorer.score(batched(images, SHARD)):
        if scored.images:
            true = [truth[image] for image in scored.images] if truth else None
            for name, rows in scored.scores.items():
                ranking = rank_classes(select_classes(rows, selected), true, name)
                parts.setdefault(name, []).append(replace(ranking, looked=scored.looked.get(name, ranking.looked)))
            shards.append(list(scored.images))
            facts += scored.facts
        skipped += scored.skipped
        advance(scored.size)
    rankings = {name: _join(rows) for name, rows in parts.items()}
    true = [truth[image] for shard in shards for image in shard] if truth else None
    for method in scorer.methods:
        if method.stream and shards:
            scores = scorer.stream_scores(method, [image for shard in shards for image in shard])
            rows = select_classes(scores, selected)
            rankings[method.name] = rank_classes(rows, true, method.name)
    ordered = {method.name: rankings[method.name] for method in scorer.methods if method.name in rankings}
    return ScoredImages(shards, true or [], ordered, skipped, selected, facts)


def image_probabilities(stages: Stages, class_texts: ClassTexts, images: Sequence[ConfidenceViews]) -> np.ndarray:
    """The class probabilities of images by their views, float32 [B, C]: what confidences follow from everywhere."""
    from abs_classify.methods.confidence import class_probabilities

    texts, temperature = stages.text_features(class_texts), 1 / stages.models.facts.logit_scale
    probabilities: np.ndarray = class_probabilities(images, texts, temperature).numpy()
    return probabilities


def image_remarks(images: Sequence[IdentifiedSample], facts: Sequence[ImageFacts]) -> tuple[Remark, ...]:
    """The remarks on decoded images, counted by kind."""
    counter = RemarkCounter()
    for image, known in zip(images, facts, strict=True):
        for kind in known.remarks:
            counter.add(kind, image.name)
    return counter.remarks


def select_classes(scores: np.ndarray, selected: Sequence[int]) -> np.ndarray:
    """Scores [n, C] with all but the classes at the selected positions below everything else; as given if none are."""
    if not selected:
        return scores
    chosen = scores[:, list(selected)]
    lowered: np.ndarray = scores.min(axis=1, keepdims=True).repeat(scores.shape[1], axis=1) - 1
    lowered[:, list(selected)] = chosen
    return lowered


def rank_classes(scores: np.ndarray, labels: Sequence[int] | None, method: str, count: int = _KEPT) -> MethodRanking:
    """The best classes of each image.

    Args:
        scores: float32 [n, C].
        labels: positions of the true classes, or None.
        method: named in errors.
        count: how many classes to keep.

    Raises:
        ModelError: as in ``rank_of_truth``, where there are labels.
    """
    top = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    empty = np.empty(0, dtype=np.int64)
    ranks = empty if labels is None else rank_of_truth(scores, np.asarray(labels, dtype=np.int64), method)
    return MethodRanking(top, np.take_along_axis(scores, top, axis=1), ranks)


def _join(parts: Sequence[MethodRanking]) -> MethodRanking:
    return MethodRanking(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("top", "scores", "ranks", "looked"))
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
            f"every label must be a class index from 0 to {scores.shape[1] - 1}",
            remedy="Give the position of a class for every image",
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
