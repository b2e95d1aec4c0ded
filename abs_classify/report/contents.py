"""From what a run found to what a page shows: photos with attention, views, rankings and reasons."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, cast

from abs_classify.encoding.ranking import ScoredImages
from abs_classify.encoding.stages import IdentifiedSample, Stages
from abs_classify.evaluation.job import Evaluation
from abs_classify.evaluation.records import ResultRecord, redacted
from abs_classify.evaluation.results_folder import file_stem
from abs_classify.report.page import write_report
from abs_core.descriptions import LabelSpace
from abs_core.errors import UsageError
from abs_core.files import ensure_writable
from abs_core.text import counted

if TYPE_CHECKING:
    import numpy as np

    from abs_classify.explanation import Explanation
    from abs_classify.images import LoadedImage
    from abs_classify.methods.class_texts import ClassTexts
    from abs_classify.methods.table import Method
    from abs_classify.report.data import MethodPrediction, ReportImage, ReportPage, ViewKind, ViewPlaces
    from abs_classify.report.data import ReportExplanation as ShownExplanation

__all__ = [
    "EvaluationPages",
    "Explained",
    "classification_page",
    "evaluation_page",
    "explained_method",
    "report_images",
]


_THUMBNAIL = 720


_SENTENCES, _VIEWS = 8, 8


_SUBTITLE = "Training-free classification: where the model looked, and which sentences decided."


class Explained:
    """A photo with its features at hand: explains one method, and draws the views of it."""

    def __init__(
        self,
        stages: Stages,
        method: Method,
        table: ClassTexts,
        shard: Sequence[IdentifiedSample],
        selected: Sequence[int],
    ) -> None:
        self._stages, self._method, self._table, self._selected = stages, method, table, selected
        self._views = stages.views(shard, method.views)
        guided = any(view.needs_attention for view in method.views)
        self._attention = stages.attention(shard) if guided else None

    def explain(self, at: int) -> Explanation:
        """Why the method prefers its first class, for the photo at a place in the shard."""
        from abs_classify.explanation import explain

        views = {view.kind: self._views[view][at] for view in self._method.views}
        return explain(self._method, views, self._stages.texts(self._table), self._table, among=self._selected)

    def attention(self, at: int) -> np.ndarray | None:
        """The attention map [g, g] of that photo, or None."""
        if self._attention is None:
            return None
        one: np.ndarray = self._attention[at]
        return one

    def places(self, at: int, image: LoadedImage) -> tuple[ViewPlaces, ...]:
        """Where the views of that photo lie."""
        from abs_classify.methods.views import place_views
        from abs_classify.report.data import ViewPlaces

        geometry = self._stages.models.facts.geometry
        size = image.pixels.size
        placed = place_views(geometry, self.attention(at), image.id, size, self._method.views, seed=self._stages.seed)
        return tuple(
            ViewPlaces(
                cast("ViewKind", view.kind),
                boxes,
                grid=geometry.grid if view.kind == "window" else 0,
                area=_seen(size, geometry.crop_fraction) if view.kind == "window" else None,
            )
            for view, boxes in placed.items()
            if view.kind != "whole"
        )


class EvaluationPages:
    """Writes a page for each evaluation.

    Args:
        path: a file for the page of the only evaluation, or a folder.
        images: how many images a page shows.
        command: the command line.
    """

    def __init__(self, path: Path, images: int, command: Sequence[str]) -> None:
        self._path, self._images, self._command = path, images, command
        self._is_page = path.suffix.lower() in (".html", ".htm")
        self._count, self._expected = 0, 1

    def require_room(self, evaluations: int) -> None:
        """Prove that so many pages can be written, before the work that they show.

        Raises:
            UsageError: there are several, and the path is that of one page.
            StorageError: the folder cannot be written.
        """
        if self._is_page and evaluations > 1:
            raise UsageError(
                f"--report {str(self._path)!r} is one page, and there are {evaluations} combinations",
                remedy="Name a folder",
            )
        ensure_writable(self._path.parent if self._is_page else self._path)
        self._expected = evaluations

    def add(self, evaluation: Evaluation, records: Sequence[ResultRecord]) -> Path:
        """Write the page of an evaluation and return its path."""
        self._count += 1
        path = self._path
        if not self._is_page:
            name = f"{self._count:02d}-{file_stem(records[0])}.html" if self._expected > 1 else "index.html"
            path = path / name
        write_report(evaluation_page(evaluation, records, self._images, self._command), path)
        return path


def evaluation_page(
    evaluation: Evaluation, records: Sequence[ResultRecord], count: int, command: Sequence[str]
) -> ReportPage:
    """The page of an evaluation.

    Args:
        evaluation: what was run.
        records: its results.
        count: photos to show; those on which methods disagree or are wrong come first when there are more.
        command: the command line.
    """
    from abs_classify.report.data import ReportPage

    label_space, scored = evaluation.label_space, evaluation.scored
    dataset = evaluation.job.split.dataset.name
    images = counted(len(scored.photos), "image", "images")
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
        photos=tuple(report_images(evaluation.stages, evaluation.plan.methods, label_space, scored, count)),
        warnings=tuple(evaluation.warnings()),
        notes=tuple(evaluation.notes()),
        footer=_footer(evaluation.stages),
    )


def classification_page(
    stages: Stages,
    methods: Mapping[Method, ClassTexts],
    vocabulary: LabelSpace,
    scored: ScoredImages,
    notes: Sequence[str],
    command: Sequence[str],
) -> ReportPage:
    """The page of photos without labels; arguments as in ``report_photos``, all photos are shown."""
    from abs_classify.report.data import ReportPage

    count = len(scored.photos)
    return ReportPage(
        title=f"{counted(count, 'photo', 'photos')}, {counted(len(vocabulary.names), 'class', 'classes')}",
        subtitle=_SUBTITLE,
        facts=(("classes from", vocabulary.source), *_run_facts(stages, command)),
        photos=tuple(report_images(stages, methods, vocabulary, scored, count)),
        warnings=tuple(f"skipped {one.name}: {one.reason}" for one in scored.skipped),
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
        ("tower", stages.models.facts.model),
        ("attention", stages.models.facts.attention),
    )


def explained_method(methods: Sequence[Method]) -> Method | None:
    """The method that a page explains: abs if it ran, else the last that looks at each image alone."""
    named = {method.name: method for method in methods if not method.stream}
    return named.get("abs") or (list(named.values())[-1] if named else None)


def report_images(
    stages: Stages, methods: Mapping[Method, ClassTexts], vocabulary: LabelSpace, scored: ScoredImages, count: int
) -> Iterator[ReportImage]:
    """What the page shows of each photo.

    Args:
        stages: with the features in the cache.
        methods: those that were run, with their texts.
        vocabulary: the class names.
        scored: the rankings.
        count: photos to show.
    """
    from abs_classify.report.data import ReportImage

    method = explained_method(list(methods))
    chosen = _choose(scored, count)
    names = list(vocabulary.names.values())
    start = 0
    for shard in scored.shards:
        wanted = [at for at in range(len(shard)) if start + at in chosen]
        explained = Explained(stages, method, methods[method], shard, scored.selected) if method and wanted else None
        for at in wanted:
            image = shard[at].load()
            thumbnail = image.pixels.copy()
            thumbnail.thumbnail((_THUMBNAIL, _THUMBNAIL))
            yield ReportImage(
                name=shard[at].name.rpartition(os.sep)[2],
                image=thumbnail,
                size=image.pixels.size,
                truth=names[scored.labels[start + at]] if scored.labels else None,
                attention=explained.attention(at) if explained else None,
                views=explained.places(at, image) if explained else (),
                predictions=tuple(_predictions(scored, start + at, names)),
                explanation=_shown(explained.explain(at), vocabulary) if explained else None,
            )
        start += len(shard)


def _choose(scored: ScoredImages, count: int) -> set[int]:
    total = len(scored.photos)
    if total <= count:
        return set(range(total))
    tops = [found.top[:, 0] for found in scored.methods.values()]
    wrong = [found.ranks != 1 for found in scored.methods.values() if len(found.ranks)]

    def dull(at: int) -> int:
        disagree = len({int(top[at]) for top in tops}) > 1
        return 0 if disagree else 1 if any(one[at] for one in wrong) else 2

    return set(sorted(range(total), key=dull)[:count])


def _predictions(scored: ScoredImages, at: int, names: Sequence[str]) -> Iterator[MethodPrediction]:
    from abs_classify.report.data import ClassScore, MethodPrediction

    for name, found in scored.methods.items():
        top = tuple(
            ClassScore(names[position], float(score))
            for position, score in zip(found.top[at].tolist(), found.scores[at].tolist(), strict=True)
        )
        yield MethodPrediction(name, top, int(found.ranks[at]) if len(found.ranks) else None)


def _shown(explanation: Explanation, vocabulary: LabelSpace) -> ShownExplanation | None:
    from abs_classify.report.data import ReportExplanation as ShownExplanation
    from abs_classify.report.data import SentencePart, ViewPart

    if not explanation.views or explanation.runner_up is None:
        return None
    names = vocabulary.names
    return ShownExplanation(
        method=explanation.method,
        winner=names[explanation.winner],
        runner_up=names[explanation.runner_up],
        margin=explanation.margin,
        sentences=tuple(
            SentencePart(one.text, names[one.class_id], one.contribution) for one in explanation.sentences[:_SENTENCES]
        ),
        views=tuple(
            ViewPart(cast("ViewKind", one.kind), one.index, one.contribution) for one in explanation.views[:_VIEWS]
        ),
        sentence_count=len(explanation.sentences),
        view_count=len(explanation.views),
    )


def _seen(size: tuple[int, int], crop_fraction: float | None) -> tuple[float, float, float, float] | None:
    """The central square of an image that the model sees; None for all of it."""
    if crop_fraction is None:
        return None
    side = crop_fraction * min(size)
    left, upper = (size[0] - side) / 2, (size[1] - side) / 2
    return left, upper, left + side, upper + side
