"""From the results of a run to what a page shows: images with their attention, views, rankings and explanation."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from abs_classify.encoding.ranking import ScoredImages
from abs_classify.encoding.samples import IdentifiedSample
from abs_classify.encoding.stages import Stages
from abs_classify.evaluation.job import Evaluation
from abs_classify.evaluation.records import ResultRecord, redacted
from abs_classify.explanation import Explanation, RankedClass, explain
from abs_classify.methods.views import place_views
from abs_classify.report.data import MethodPrediction, ReportImage, ReportPage, ViewPlaces
from abs_core.descriptions import LabelSpace
from abs_core.text import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from abs_classify.images import LoadedImage
    from abs_classify.methods.class_texts import ClassTexts
    from abs_classify.methods.table import Method

__all__ = [
    "ShardExplainer",
    "classification_page",
    "evaluation_page",
    "explained_method",
    "report_images",
]


_THUMBNAIL = 720

#: views and sentences of an explanation that are shown
_SHARES = 8
_SUBTITLE = "Training-free classification: where the model looked, and which sentences decided."


class ShardExplainer:
    """Explains one method on the images of a shard, from their cached features, and says where its views lie.

    Args:
        stages: with the features of the shard in the cache.
        method: the method to explain.
        class_texts: its texts.
        shard: the images.
        selected: positions of the only classes that may win; () for all.
    """

    def __init__(
        self,
        stages: Stages,
        method: Method,
        class_texts: ClassTexts,
        shard: Sequence[IdentifiedSample],
        selected: Sequence[int],
    ) -> None:
        self._stages, self._method, self._class_texts, self._selected = stages, method, class_texts, selected
        self._views = stages.views(shard, method.views)
        guided = any(view.needs_attention for view in method.views)
        self._attention = stages.attention(shard) if guided else None

    def explain(self, position: int) -> Explanation:
        """Why the method prefers its first class, for the image at a position in the shard."""
        views = {view.kind: self._views[view][position] for view in self._method.views}
        features = self._stages.text_features(self._class_texts)
        return explain(self._method, views, features, self._class_texts, among=self._selected)

    def attention(self, position: int) -> NDArray[np.floating] | None:
        """The attention map [g, g] of that image; None if no view of the method is guided."""
        return None if self._attention is None else self._attention[position]

    def places(self, position: int, image: LoadedImage) -> tuple[ViewPlaces, ...]:
        """Where the views of that image lie, of every kind but the full image."""
        geometry = self._stages.models.facts.geometry
        size = image.pixels.size
        placed = place_views(
            geometry, self.attention(position), image.id, size, self._method.views, seed=self._stages.seed
        )
        return tuple(
            ViewPlaces(
                view.kind,
                boxes,
                grid=geometry.grid if view.kind == "window" else 0,
                area=_visible_square(size, geometry.crop_fraction) if view.kind == "window" else None,
            )
            for view, boxes in placed.items()
            if view.kind != "whole"
        )


def evaluation_page(
    evaluation: Evaluation, records: Sequence[ResultRecord], count: int, command: Sequence[str]
) -> ReportPage:
    """The page of an evaluation.

    Args:
        evaluation: what was run.
        records: its results.
        count: images to show; of more, those on which methods disagree or are wrong come first.
        command: the command line.
    """
    label_space, scored = evaluation.label_space, evaluation.scored
    dataset = evaluation.job.split.dataset.name
    images = counted(len(scored.images), "image", "images")
    facts = (
        ("data set", f"{dataset}: {images}, {counted(len(label_space.names), 'class', 'classes')}"),
        ("classes from", label_space.source),
        *_run_facts(evaluation.stages, command),
    )
    return ReportPage(
        title=f"{dataset}: {counted(len(evaluation.results), 'method', 'methods')} on {images}",
        subtitle=_SUBTITLE,
        facts=facts,
        results=tuple(records),
        images=tuple(report_images(evaluation.stages, evaluation.plan.methods, label_space, scored, count)),
        warnings=tuple(evaluation.warnings()),
        notes=tuple(evaluation.notes()),
        footer=_footer(evaluation.stages),
    )


def classification_page(
    stages: Stages,
    methods: Mapping[Method, ClassTexts],
    label_space: LabelSpace,
    scored: ScoredImages,
    notes: Sequence[str],
    command: Sequence[str],
) -> ReportPage:
    """The page of images without labels; arguments as in ``report_images``. All images are shown."""
    count = len(scored.images)
    return ReportPage(
        title=f"{counted(count, 'image', 'images')}, {counted(len(label_space.names), 'class', 'classes')}",
        subtitle=_SUBTITLE,
        facts=(("classes from", label_space.source), *_run_facts(stages, command)),
        images=tuple(report_images(stages, methods, label_space, scored, count)),
        warnings=tuple(f"skipped {image.name}: {image.reason}" for image in scored.skipped),
        notes=tuple(notes),
        footer=_footer(stages),
    )


def _run_facts(stages: Stages, command: Sequence[str]) -> tuple[tuple[str, str], ...]:
    models = stages.models
    return (
        ("model", f"{models.name} ({models.dtype}), attention {models.attention}"),
        ("seed", str(stages.seed)),
        ("command", shlex.join(["abs", *redacted(command[1:])])),
    )


def _footer(stages: Stages) -> tuple[tuple[str, str], ...]:
    return (
        ("abs-toolkit", version("abs-toolkit")),
        ("python", platform.python_version()),
        ("model digest", stages.models.facts.model),
        ("attention digest", stages.models.facts.attention),
    )


def explained_method(methods: Sequence[Method]) -> Method | None:
    """The method that a page explains: abs if it ran, else the last that looks at each image alone."""
    named = {method.name: method for method in methods if not method.stream}
    return named.get("abs") or (list(named.values())[-1] if named else None)


def report_images(
    stages: Stages, methods: Mapping[Method, ClassTexts], label_space: LabelSpace, scored: ScoredImages, count: int
) -> Iterator[ReportImage]:
    """What the page shows of each image.

    Args:
        stages: with the features in the cache.
        methods: those that were run, with their class texts.
        label_space: the class names.
        scored: the rankings.
        count: how many images to show; those on which methods disagree come first, then those that one gets wrong.
    """
    method = explained_method(list(methods))
    chosen = _choose(scored, count)
    classes = list(label_space.names.items())
    start = 0
    for shard in scored.shards:
        wanted = [position for position in range(len(shard)) if start + position in chosen]
        explainer = (
            ShardExplainer(stages, method, methods[method], shard, scored.selected) if method and wanted else None
        )
        for position in wanted:
            image = shard[position].load()
            thumbnail = image.pixels.copy()
            thumbnail.thumbnail((_THUMBNAIL, _THUMBNAIL))
            yield ReportImage(
                name=shard[position].name.rpartition(os.sep)[2],
                pixels=thumbnail,
                size=image.pixels.size,
                truth=classes[scored.labels[start + position]][1] if scored.labels else None,
                attention=explainer.attention(position) if explainer else None,
                views=explainer.places(position, image) if explainer else (),
                predictions=tuple(_predictions(scored, start + position, classes)),
                explanation=_comparison(explainer.explain(position)) if explainer else None,
            )
        start += len(shard)


def _choose(scored: ScoredImages, count: int) -> set[int]:
    total = len(scored.images)
    if total <= count:
        return set(range(total))
    best = [ranking.top[:, 0] for ranking in scored.methods.values()]
    wrong = [ranking.ranks != 1 for ranking in scored.methods.values() if len(ranking.ranks)]

    def order(image: int) -> int:
        if len({int(classes[image]) for classes in best}) > 1:
            return 0
        return 1 if any(is_wrong[image] for is_wrong in wrong) else 2

    return set(sorted(range(total), key=order)[:count])


def _predictions(scored: ScoredImages, image: int, classes: Sequence[tuple[str, str]]) -> Iterator[MethodPrediction]:
    for name, method_ranking in scored.methods.items():
        best, scores = method_ranking.top[image].tolist(), method_ranking.scores[image].tolist()
        ranked = zip(best, scores, strict=True)
        top = tuple(RankedClass(*classes[int(position)], float(score)) for position, score in ranked)
        yield MethodPrediction(name, top, int(method_ranking.ranks[image]) if len(method_ranking.ranks) else None)


def _comparison(explanation: Explanation) -> Explanation | None:
    """The explanation with its strongest shares; None if there are none, or no runner-up to compare with."""
    if not explanation.views or explanation.runner_up is None:
        return None
    return explanation.strongest(_SHARES)


def _visible_square(size: tuple[int, int], crop_fraction: float | None) -> tuple[float, float, float, float] | None:
    """The central square of an image that the model sees; None for all of it."""
    if crop_fraction is None:
        return None
    side = crop_fraction * min(size)
    left, upper = (size[0] - side) / 2, (size[1] - side) / 2
    return left, upper, left + side, upper + side
