"""Classifies the images of a job again under other conditions: other classes, another order, a part of the images.

Scores are computed from the features in the store, condition after condition, so memory holds the class texts of one
condition and a label and a confidence for each image and method.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from abs_classify.encoding.ranking import ShardScorer, image_probabilities, select_classes
from abs_classify.encoding.samples import batched
from abs_classify.encoding.stages import SHARD
from abs_classify.encoding.work import WorkCounts
from abs_classify.methods.table import plan_methods
from abs_core.errors import DatasetError, UsageError

if TYPE_CHECKING:
    from abs_classify.encoding.samples import IdentifiedSample, UnreadableSample
    from abs_classify.encoding.stages import Stages
    from abs_classify.evaluation.sweep import Sweep, SweepOptions
    from abs_classify.methods.confidence import ConfidenceViews
    from abs_classify.methods.table import Method, MethodPlan
    from abs_core.descriptions import LabelSpace
    from abs_core.progress import Advance

__all__ = ["MethodLabels", "RobustnessTrials"]


@dataclass(frozen=True, eq=False)
class MethodLabels:
    """What a method says of n images under one condition.

    Args:
        labels: int32 [n], positions in the label space without conditions; C and more for added classes.
        confidences: float32 [n]; empty where they were not asked for.
    """

    labels: NDArray[np.int32]
    confidences: NDArray[np.float32]


@dataclass(eq=False)
class RobustnessTrials:
    """Classifies the images of a job under conditions.

    Args:
        sweep: with one job.
        methods: rows, whose names results have.
        options: of the sweep.
        stages: whose store gets the features with the first call.
        advance: is told of each shard that is done.
        images: that could be read, after the first call.
        work: of the first call.
    """

    sweep: Sweep
    methods: Sequence[Method]
    options: SweepOptions
    stages: Stages
    advance: Advance
    images: Sequence[IdentifiedSample] = ()
    work: WorkCounts = field(default_factory=WorkCounts)

    def __post_init__(self) -> None:
        job = self.sweep.jobs[0]
        self.space, self.positions = job.label_space, job.positions
        known = {class_id: position for position, class_id in enumerate(self.space.labels.ids)} | dict(job.positions)
        ids = self.space.labels.ids
        self.selected = [ids[known[class_id]] for class_id in job.split.dataset.selected if class_id in known]

    @property
    def truth(self) -> NDArray[np.int32]:
        """int32 [n], the positions of the true classes."""
        return np.array([self.positions[image.sample.label] for image in self.images], dtype=np.int32)

    def begin(self) -> dict[str, MethodLabels]:
        """Encode the images and classify them with all classes.

        Raises:
            DatasetError: no image could be used.
            UsageError: the store does not keep the features, so that every condition would encode the images again.
        """
        from abs_classify.methods.confidence import NEEDED_VIEWS

        job = self.sweep.jobs[0]
        self.stages.models = self.stages.models.for_methods(self.methods)
        images, _ = job.split.identify(self.stages.models.digests, self.options.on_error, self.advance)
        views = [*NEEDED_VIEWS, *(view for method in job.plans[0].methods for view in method.views)]
        self.stages.announce(images, views)
        stages = dataclasses.replace(self.stages, work=self.work)
        outcome, self.images = self._classify(stages, self.space, images, confidences=True)
        if not self.images:
            raise DatasetError(
                f"no image of {job.split.dataset.name} could be used", remedy="See the reasons with --on-error stop"
            )
        if missing := self.stages.missing_bytes(self.images, views):
            raise UsageError(
                f"the cache has no room for {missing:,} bytes of features, so images would be encoded many times",
                remedy="Raise --cache-size",
            )
        return outcome

    def labels(
        self,
        space: LabelSpace,
        *,
        part: NDArray[np.int64] | None = None,
        methods: Sequence[Method] | None = None,
        stream_seed: int | Literal["seed"] | None = "seed",
        confidences: bool = False,
    ) -> dict[str, MethodLabels]:
        """What methods say under a condition, by their names.

        Args:
            space: the candidate classes.
            part: positions of the images that there are; None for all.
            methods: None for all.
            stream_seed: of the order in which stream methods see them: that of everything, or another; None for the
                order of the data set.
            confidences: whether to compute them.
        """
        images = self.images if part is None else [self.images[position] for position in part.tolist()]
        # fresh ones, so that the texts of a condition are forgotten with it
        stages = dataclasses.replace(self.stages, work=WorkCounts())
        try:
            return self._classify(stages, space, images, methods, stream_seed, confidences=confidences)[0]
        finally:
            self.work.add(stages.work, same_images=True)

    def _classify(
        self,
        stages: Stages,
        space: LabelSpace,
        images: Sequence[IdentifiedSample | UnreadableSample],
        methods: Sequence[Method] | None = None,
        stream_seed: int | Literal["seed"] | None = "seed",
        *,
        confidences: bool,
    ) -> tuple[dict[str, MethodLabels], list[IdentifiedSample]]:
        """What methods say, and of which images, which are those that can be read."""
        from abs_classify.methods.confidence import NEEDED_VIEWS

        plan = self._plan(space, self.methods if methods is None else methods)
        scorer = ShardScorer(
            stages,
            plan.methods,
            self.options.on_error,
            NEEDED_VIEWS if confidences else (),
            self.sweep.jobs[0].split.bad,
            keep_views=confidences,
            stream_seed=self.options.seed if stream_seed == "seed" else stream_seed,
        )
        parts = _LabelCollector(self._positions(space), self._selected(space))
        readable: list[IdentifiedSample] = []
        for shard in scorer.score(batched(images, SHARD)):
            readable += shard.images
            for name, scores in shard.scores.items():
                texts = next(texts for method, texts in plan.methods.items() if method.name == name)
                seen = shard.confidence_views(name) if confidences else []
                parts.add(name, scores, image_probabilities(stages, texts, seen) if seen else None)
            self.advance(shard.size)
        for method, texts in plan.methods.items():
            if method.stream and readable:
                scores = scorer.stream_scores(method, readable)
                for start in range(0, len(readable), SHARD):
                    seen = _views_of(stages, method, readable[start : start + SHARD]) if confidences else []
                    probabilities = image_probabilities(stages, texts, seen) if seen else None
                    parts.add(method.name, scores[start : start + SHARD], probabilities)
        return parts.joined(), readable

    def _plan(self, space: LabelSpace, methods: Sequence[Method]) -> MethodPlan:
        options = self.options
        sampled = any(view.kind != "whole" for method in methods for view in method.views)
        return plan_methods(methods, space, options.views if sampled else None, options.templates, None, options.seed)

    def _positions(self, space: LabelSpace) -> NDArray[np.int32]:
        """Where the classes of a condition are in the label space; added ones behind it."""
        known = {class_id: position for position, class_id in enumerate(self.space.labels.ids)}
        added = iter(range(len(known), len(known) + len(space.labels.ids)))
        ids = space.labels.ids
        return np.array([known[class_id] if class_id in known else next(added) for class_id in ids], dtype=np.int32)

    def _selected(self, space: LabelSpace) -> list[int]:
        """Positions of the only classes that can win under a condition, which added ones can; none for all."""
        if not self.selected:
            return []
        own, chosen = self.space.labels.by_id, set(self.selected)
        return [
            position for position, class_id in enumerate(space.labels.ids) if class_id in chosen or class_id not in own
        ]


def _views_of(stages: Stages, method: Method, images: Sequence[IdentifiedSample]) -> list[ConfidenceViews]:
    """Of each image the views that its class probabilities follow from, for a stream method."""
    from abs_classify.methods.confidence import NEEDED_VIEWS, ConfidenceViews

    kinds = {view.kind: view for view in (*NEEDED_VIEWS, *method.views)}
    rows = stages.views(images, list(kinds.values()))
    return [
        ConfidenceViews.of({kind: rows[view][position] for kind, view in kinds.items()})
        for position in range(len(images))
    ]


@dataclass(eq=False)
class _LabelCollector:
    """Turns the scores of one condition into labels, shard by shard.

    Args:
        positions: int32 [C'], where its classes are in the label space.
        selected: the only classes that can win, of the C'; none for all.
    """

    positions: NDArray[np.int32]
    selected: Sequence[int]
    _labels: dict[str, list[NDArray[np.int32]]] = field(default_factory=dict)
    _confidences: dict[str, list[NDArray[np.float32]]] = field(default_factory=dict)

    def add(self, name: str, scores: np.ndarray, probabilities: np.ndarray | None) -> None:
        """Take in the scores [B, C'] of a method, and the probabilities [B, C'] if they are wanted."""
        # of equal scores the first, as everywhere
        best = select_classes(scores, self.selected).argmax(1)
        self._labels.setdefault(name, []).append(self.positions[best])
        if probabilities is not None:
            of_labels = probabilities[np.arange(len(best)), best].astype(np.float32)
            self._confidences.setdefault(name, []).append(of_labels)

    def joined(self) -> dict[str, MethodLabels]:
        """What each method says of all images."""
        none = np.empty(0, dtype=np.float32)
        return {
            name: MethodLabels(np.concatenate(parts), np.concatenate(self._confidences.get(name, [none])))
            for name, parts in self._labels.items()
        }
