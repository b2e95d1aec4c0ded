"""From the results of a run to what a page shows: images with their attention, views, rankings and explanation.

The last part writes: the page and the pictures of images without labels, and the files beside an evaluation's results.
"""

from __future__ import annotations

import logging
import os
import platform
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from abs_classify.encoding.ranking import MethodRanking, ScoredImages, image_probabilities
from abs_classify.encoding.samples import IdentifiedSample, SkippedImage
from abs_classify.encoding.stages import Stages
from abs_classify.evaluation.calibration import calibrate
from abs_classify.evaluation.export import PredictionWriter, TextListing, write_csv
from abs_classify.evaluation.job import Evaluation, RankedPass
from abs_classify.evaluation.records import ResultRecord, redacted
from abs_classify.evaluation.results_folder import file_stem
from abs_classify.evaluation.sweep import EvaluationObserver, Sweep
from abs_classify.explanation import Explanation, RankedClass, explain, explain_seen, seen_views
from abs_classify.methods.calibration import CalibrationEntry, StoppingCalibration
from abs_classify.methods.scoring import PerViewScorer
from abs_classify.methods.views import place_views
from abs_classify.report.highlights import draw_highlights
from abs_classify.report.image_rows import ImageRows, MethodColumns, short_names
from abs_classify.report.index_page import IndexEntry, write_index
from abs_classify.report.layout import MethodPrediction, ReportImage, ReportPage, ViewPlaces
from abs_classify.report.page import write_report
from abs_classify.report.png import explanation_png
from abs_core.descriptions import LabelSpace
from abs_core.errors import UsageError
from abs_core.files import ensure_writable
from abs_core.remarks import RemarkCounter
from abs_core.text import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from abs_classify.classifier import Classifier, PredictedShard, Prediction
    from abs_classify.images import LoadedImage
    from abs_classify.methods.class_texts import ClassTexts
    from abs_classify.methods.table import Method

__all__ = [
    "EvaluationFiles",
    "ShardExplainer",
    "write_classification_report",
    "write_explanation_pictures",
]

_THUMBNAIL = 720

#: views of an explanation that are shown, and sentences of each of its two classes
_VIEWS = 8
_SENTENCES = 5

_SUBTITLE = "Training-free classification: where the model looked, and which sentences decided."


class ShardExplainer:
    """Explains one method on the images of a shard, from their cached features, and says where its views lie.

    Args:
        stages: with the features of the shard in the cache.
        method: the method to explain.
        class_texts: its texts.
        shard: the images.
        selected: positions of the only classes that may win; () for all.
        looked: how many views of each adaptive source the method looked at for each image; empty for all of them.
    """

    def __init__(
        self,
        stages: Stages,
        method: Method,
        class_texts: ClassTexts,
        shard: Sequence[IdentifiedSample],
        selected: Sequence[int],
        looked: Sequence[int] = (),
    ) -> None:
        self._stages, self._method, self._class_texts, self._selected = stages, method, class_texts, selected
        self._shard, self._looked = shard, looked
        self._views = {} if len(looked) else stages.views(shard, method.views)
        guided = any(view.needs_attention for view in method.views)
        self._attention = stages.attention(shard) if guided else None

    def explain(self, position: int, against: int | None = None) -> Explanation:
        """Why the method prefers its first class, for the image at a position in the shard.

        Args:
            position: of the image.
            against: position of the class to compare with, such as the true one; None for the second best.
        """
        if len(self._looked):
            image, looked = self._shard[position], self._looked[position]
            return explain_seen(
                self._stages, self._method, self._class_texts, image, looked, among=self._selected, against=against
            )
        views = {view.kind: self._views[view][position] for view in self._method.views}
        features = self._stages.text_features(self._class_texts)
        return explain(self._method, views, features, self._class_texts, among=self._selected, against=against)

    def attention(self, position: int) -> NDArray[np.floating] | None:
        """The attention map [g, g] of that image; None if no view of the method is guided."""
        return None if self._attention is None else self._attention[position]

    def places(self, position: int, image: LoadedImage) -> tuple[ViewPlaces, ...]:
        """Where the views of that image lie, of every kind but the full image."""
        geometry = self._stages.models.facts.geometry
        size, method = image.pixels.size, self._method
        if len(self._looked):
            method = method.seen(self._looked[position], cheap_windows=self._stages.models.facts.cheap_windows)
        placed = place_views(geometry, self.attention(position), image.id, size, method.views, seed=self._stages.seed)
        return tuple(
            ViewPlaces(
                view.kind,
                boxes[:, :4],
                grid=geometry.grid if view.kind == "window" else 0,
                area=_visible_square(size, geometry.crop_fraction) if view.kind == "window" else None,
            )
            for view, boxes in placed.items()
            if view.kind != "whole"
        )


def _evaluation_page(
    evaluation: Evaluation, records: Sequence[ResultRecord], count: int, command: Sequence[str], index: str
) -> ReportPage:
    """The page of an evaluation.

    Args:
        evaluation: what was run.
        records: its results.
        count: images with pictures; with none the page opens with none either.
        command: the command line.
        index: the file name of the page that lists this one.
    """
    label_space, scored = evaluation.label_space, evaluation.scored
    dataset = evaluation.job.split.dataset.name
    images = counted(len(scored.images), "image", "images")
    facts = (
        ("data set", f"{dataset}: {images}, {counted(len(label_space.names), 'class', 'classes')}"),
        ("classes from", label_space.source),
        *_run_facts(evaluation.stages, command),
    )
    methods = evaluation.plan.methods
    table = _image_rows(evaluation.stages, methods, label_space, scored)
    images_at = partial(_report_images, evaluation.stages, methods, label_space, scored)
    bases = [record.details.difference.second for record in records if record.details.difference is not None]
    pictured = table.pictured(count)
    return ReportPage(
        title=f"{dataset}: {counted(len(evaluation.results), 'method', 'methods')} on {images}",
        subtitle=_SUBTITLE,
        facts=facts,
        results=tuple(records),
        table=table,
        pictured=pictured,
        images=images_at(pictured),
        highlights=draw_highlights(table, bases[0] if bases else "", images_at) if count else (),
        warnings=tuple(evaluation.warnings()),
        notes=tuple(evaluation.notes()),
        footer=_footer(evaluation.stages),
        index=index,
    )


def _classification_page(
    stages: Stages,
    methods: Mapping[Method, ClassTexts],
    label_space: LabelSpace,
    scored: ScoredImages,
    count: int,
    notes: Sequence[str],
    command: Sequence[str],
) -> ReportPage:
    """The page of images without labels; ``count`` of them get pictures. Other arguments as in ``_report_images``."""
    table = _image_rows(stages, methods, label_space, scored)
    images = counted(len(table), "image", "images")
    pictured = table.pictured(count)
    return ReportPage(
        title=f"{images}, {counted(len(label_space.names), 'class', 'classes')}",
        subtitle=_SUBTITLE,
        facts=(("classes from", label_space.source), *_run_facts(stages, command)),
        table=table,
        pictured=pictured,
        images=_report_images(stages, methods, label_space, scored, pictured),
        warnings=tuple(f"skipped {image.name}: {image.reason}" for image in scored.skipped),
        notes=tuple(notes),
        footer=_footer(stages),
    )


def _run_facts(stages: Stages, command: Sequence[str]) -> tuple[tuple[str, str], ...]:
    models = stages.models
    return (
        ("model", f"{models.label} ({models.dtype}), attention {models.attention_label}"),
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


def _explained_method(methods: Sequence[Method]) -> Method | None:
    """The method that a page explains: abs if it ran, else the last that looks at each image alone."""
    named = {method.name: method for method in methods if not method.stream}
    return named.get("abs") or (list(named.values())[-1] if named else None)


def _image_rows(
    stages: Stages, methods: Mapping[Method, ClassTexts], label_space: LabelSpace, scored: ScoredImages
) -> ImageRows:
    """What is known of every image; arguments as in ``_report_images``."""
    confidences: dict[str, list[float]] = {method.name: [] for method in methods}
    start = 0
    for shard in scored.shards:
        for position, by_method in _confidences(stages, methods, scored, shard, start, range(len(shard))).items():
            for name, row in by_method.items():
                confidences[name].append(float(row[scored.methods[name].top[start + position, 0]]))
        start += len(shard)
    explained = _explained_method(list(methods))
    return ImageRows(
        names=short_names([image.name for image in scored.images]),
        classes=list(label_space.names.values()),
        methods=[MethodColumns.of(name, ranking, confidences[name]) for name, ranking in scored.methods.items()],
        main=explained.name if explained else list(scored.methods)[-1],
        truth=scored.labels,
    )


def _report_images(
    stages: Stages,
    methods: Mapping[Method, ClassTexts],
    label_space: LabelSpace,
    scored: ScoredImages,
    pictured: Sequence[int],
) -> Iterator[ReportImage]:
    """What the page shows of each image that gets a picture.

    Args:
        stages: with the features in the cache.
        methods: those that were run, with their class texts.
        label_space: the class names.
        scored: the rankings.
        pictured: positions of the images.
    """
    method, chosen = _explained_method(list(methods)), set(pictured)
    classes = list(label_space.names.items())
    start = 0
    for shard in scored.shards:
        wanted = [position for position in range(len(shard)) if start + position in chosen]
        explainer = (
            ShardExplainer(
                stages,
                method,
                methods[method],
                shard,
                scored.selected,
                scored.methods[method.name].looked[start : start + len(shard)].tolist(),
            )
            if method and wanted
            else None
        )
        confidences = _confidences(stages, methods, scored, shard, start, wanted)
        for position in wanted:
            image = shard[position].load()
            thumbnail = image.pixels.copy()
            thumbnail.thumbnail((_THUMBNAIL, _THUMBNAIL))
            truth = scored.labels[start + position] if scored.labels else None
            yield ReportImage(
                name=shard[position].name.rpartition(os.sep)[2],
                pixels=thumbnail,
                size=image.pixels.size,
                truth=None if truth is None else classes[truth][1],
                attention=explainer.attention(position) if explainer else None,
                views=explainer.places(position, image) if explainer else (),
                predictions=tuple(_predictions(scored, start + position, classes, confidences[position])),
                explanation=_comparison(explainer.explain(position, truth)) if explainer else None,
                position=start + position,
            )
        start += len(shard)


def _confidences(
    stages: Stages,
    methods: Mapping[Method, ClassTexts],
    scored: ScoredImages,
    shard: Sequence[IdentifiedSample],
    start: int,
    wanted: Sequence[int],
) -> dict[int, dict[str, NDArray[np.floating]]]:
    """The confidences [C] of images by the method's name, as ``Classifier`` gives them; among the selected classes.

    Args:
        stages, methods, scored: as in ``_report_images``.
        shard: the images that were cached together.
        start: the position of its first image among all.
        wanted: positions in the shard.

    Returns:
        By position in the shard.
    """
    from abs_classify.methods.confidence import NEEDED_VIEWS, ConfidenceViews

    confidences: dict[int, dict[str, NDArray[np.floating]]] = {position: {} for position in wanted}
    images = [shard[position] for position in wanted]
    for method, class_texts in methods.items() if wanted else ():
        looked = scored.methods[method.name].looked[start : start + len(shard)]
        looked_at = [int(looked[position]) for position in wanted] if len(looked) else []
        views = seen_views(stages, method, images, looked_at, also=NEEDED_VIEWS)
        rows = image_probabilities(stages, class_texts, [ConfidenceViews.of(image) for image in views])
        if scored.selected:
            others = np.setdiff1d(np.arange(rows.shape[1]), scored.selected)
            rows[:, others] = 0
            rows /= rows.sum(axis=1, keepdims=True)
        for position, row in zip(wanted, rows, strict=True):
            confidences[position][method.name] = row
    return confidences


def _predictions(
    scored: ScoredImages,
    image: int,
    classes: Sequence[tuple[str, str]],
    confidences: Mapping[str, NDArray[np.floating]],
) -> Iterator[MethodPrediction]:
    for name, method_ranking in scored.methods.items():
        best, scores = method_ranking.top[image].tolist(), method_ranking.scores[image].tolist()
        ranked = zip(best, scores, strict=True)
        top = tuple(
            RankedClass(*classes[int(position)], float(score), float(confidences[name][int(position)]))
            for position, score in ranked
        )
        yield MethodPrediction(name, top, int(method_ranking.ranks[image]) if len(method_ranking.ranks) else None)


def _comparison(explanation: Explanation) -> Explanation | None:
    """The explanation with its strongest views, and the strongest sentences of either class.

    Returns:
        None if there are none, or no class to compare with.
    """
    if not explanation.views or explanation.runner_up is None:
        return None
    winner = explanation.winner.class_id
    sides = [[share for share in explanation.sentences if (share.class_id == winner) is won] for won in (True, False)]
    strongest = tuple(share for side in sides for share in side[:_SENTENCES])
    return replace(explanation, views=explanation.views[:_VIEWS], sentences=strongest)


def _visible_square(size: tuple[int, int], crop_fraction: float | None) -> tuple[float, float, float, float] | None:
    """The central square of an image that the model sees; None for all of it."""
    if crop_fraction is None:
        return None
    side = crop_fraction * min(size)
    left, upper = (size[0] - side) / 2, (size[1] - side) / 2
    return left, upper, left + side, upper + side


def write_classification_report(
    classifier: Classifier,
    predictions: Sequence[Prediction],
    path: Path,
    *,
    skipped: Sequence[SkippedImage] = (),
    command: Sequence[str] = (),
    pictures: int = 400,
) -> Path:
    """Write a page of images with their predictions, and of some of them attention, views and reasons.

    Without a cache the images are encoded once more.

    Args:
        classifier: that made the predictions.
        predictions: in the order in which they are shown.
        path: an HTML file, or a folder for ``index.html``.
        skipped: images that could not be read, to be named on the page.
        command: what the user ran, to be shown on the page.
        pictures: how many images get a picture and an explanation, the least sure ones first; about 35 kB each.

    Returns:
        The page.

    Raises:
        UsageError: the images came from an iterator.
        StorageError: the page cannot be written.
    """
    target = path if path.suffix.lower() in (".html", ".htm") else path / "index.html"
    scored = _scored_images(classifier, predictions, skipped)
    methods = {classifier.method: classifier.class_texts}
    stages = classifier.stages_of_run()
    remarks = RemarkCounter()
    for prediction in predictions:
        for kind in prediction.remarks:
            remarks.add(kind, prediction.image_name)
    notes = [*map(str, remarks.remarks), *classifier.notes]
    page = _classification_page(stages, methods, classifier.label_space, scored, pictures, notes, command)
    write_report(page, target)
    return target


def write_explanation_pictures(classifier: Classifier, predictions: Sequence[Prediction], folder: Path) -> int:
    """Write one picture for each image, named by number and image, that explains its prediction.

    Returns:
        How many.

    Raises:
        UsageError: the images came from an iterator.
        StorageError: a picture cannot be written.
    """
    scored = _scored_images(classifier, predictions, ())
    methods = {classifier.method: classifier.class_texts}
    everything = range(len(predictions))
    shown = _report_images(classifier.stages_of_run(), methods, classifier.label_space, scored, everything)
    count = 0
    for count, image in enumerate(shown, start=1):
        stem = "".join(c if c.isalnum() or c in "-_" else "_" for c in Path(image.name).stem)[:60]
        explanation_png(image, folder / f"{count:04d}-{stem}.png")
    return count


def _scored_images(
    classifier: Classifier, predictions: Sequence[Prediction], skipped: Sequence[SkippedImage]
) -> ScoredImages:
    """The predictions, with the images that were encoded together side by side."""
    placed = [(_shard_of(prediction), prediction.position) for prediction in predictions]
    shards = [
        [shard.images[position] for shard, position in group]
        for _, group in groupby(placed, key=lambda place: id(place[0]))
    ]
    top = [shard.ranking.top[position] for shard, position in placed]
    scores = [shard.ranking.scores[position] for shard, position in placed]
    looked = [prediction.views for prediction in predictions if prediction.views is not None]
    none = np.empty(0, dtype=np.int64)
    ranking = MethodRanking(np.stack(top), np.stack(scores), none, np.array(looked, dtype=np.int64))
    return ScoredImages(shards, [], {classifier.method.name: ranking}, list(skipped))


def _shard_of(prediction: Prediction) -> PredictedShard:
    if prediction.shard is None:
        raise UsageError(
            f"the image of the prediction for {prediction.image_name!r} came from an iterator",
            remedy="Classify a list of images",
        )
    return prediction.shard


_logger = logging.getLogger(__name__)


class EvaluationFiles(EvaluationObserver, AbstractContextManager["EvaluationFiles"]):
    """Writes the files that are asked for: each page as soon as its evaluation is done, the others at the end.

        with EvaluationFiles(report=Path("out")) as files:
            results = evaluate("imagefolder:./val", observer=files)

    Args:
        predictions: what was predicted for each image: ``.jsonl`` or ``.parquet``.
        texts: every text that was encoded, with digests, as lines of JSON.
        table: one row for each result, as CSV.
        calibration: how surely each image keeps the label of all its views, for ``--stopping calibrated``.
        report: an HTML page: a file, or a folder for ``index.html``; of several evaluations a folder of pages
            and their ``index.html``.
        report_images: how many images of a page get a picture and an explanation; the others are rows.
        command: the command line that pages name, from which credentials are removed.

    Raises:
        UsageError: predictions of another kind, or a file for several pages.
        MissingExtraError: pyarrow, which writes parquet, is not installed.
        StorageError: a file cannot be written. That is found before anything is computed.
    """

    def __init__(
        self,
        *,
        predictions: Path | None = None,
        texts: Path | None = None,
        table: Path | None = None,
        calibration: Path | None = None,
        report: Path | None = None,
        report_images: int = 60,
        command: Sequence[str] = (),
    ) -> None:
        self._predictions, self._texts, self._table, self._report = predictions, texts, table, report
        self._report_images, self._command, self._calibration = report_images, command, calibration
        self._is_page = report is not None and report.suffix.lower() in (".html", ".htm")
        self._writer = None if predictions is None else PredictionWriter(predictions)
        self._listing = TextListing()
        self._records: list[ResultRecord] = []
        self._entries: list[CalibrationEntry] = []
        self._combinations = 1
        self._pages: list[IndexEntry] = []
        self._stack = ExitStack()

    def __enter__(self) -> EvaluationFiles:
        if self._writer is not None:
            self._stack.enter_context(self._writer)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)
        if kind is not None:
            return
        if self._table is not None:
            write_csv(self._table, self._records)
            _logger.info("table: %s", self._table)
        if self._calibration is not None:
            StoppingCalibration.of(self._entries).write(self._calibration)
            _logger.info("calibration: %s", self._calibration)
        if self._texts is not None:
            self._listing.write(self._texts)
            _logger.info("texts: %s", self._texts)
        if self._predictions is not None:
            _logger.info("predictions: %s", self._predictions)

    def planned(self, sweep: Sweep) -> None:
        """Prove that the files can be written."""
        self._combinations = sweep.combinations
        if self._is_page and sweep.combinations > 1:
            raise UsageError(
                f"report must be a folder for {sweep.combinations} combinations, got {str(self._report)!r}",
                remedy="Name a folder",
            )
        if self._calibration is not None:
            _check_calibrated(sweep)
        page_folder = self._report.parent if self._report is not None and self._is_page else self._report
        for folder in (
            page_folder,
            *(path.parent for path in (self._table, self._texts, self._calibration) if path is not None),
        ):
            if folder is not None:
                ensure_writable(folder)

    def ranked(self, ranked: RankedPass) -> None:
        """Write the predictions of a pass."""
        if self._writer is not None:
            self._writer.add(ranked)

    def finished(self, evaluation: Evaluation, records: Sequence[ResultRecord]) -> None:
        """Write the page of an evaluation, and remember its texts and results."""
        self._records += records
        self._listing.add(evaluation)
        if self._calibration is not None:
            self._entries += calibrate(evaluation)
        if self._report is not None:
            path = self._report if self._is_page else self._report / self._page_name(records[0])
            index = "index.html" if self._combinations > 1 else ""
            page = _evaluation_page(evaluation, records, self._report_images, self._command, index)
            write_report(page, path)
            _logger.info("report: %s", path)
            if self._combinations > 1:
                self._pages.append(IndexEntry(path.name, list(records), page.highlights[-1:]))
                write_index(self._pages, self._combinations, self._report)

    def _page_name(self, record: ResultRecord) -> str:
        if self._combinations == 1:
            return "index.html"
        return f"{len(self._pages) + 1:02d}-{file_stem(record)}.html"


def _check_calibrated(sweep: Sweep) -> None:
    """Raise UsageError where a sweep gives no calibration: it is adaptive, of a share, or has no method for it."""
    if any(job.split.share is not None for job in sweep.jobs):
        raise UsageError(
            "a calibration is made of all images of a data set, and these are a share of them",
            remedy="Leave out --shard with --save-calibration",
        )
    if any(plan.adaptive is not None for job in sweep.jobs for plan in job.plans):
        raise UsageError(
            "a calibration is made of runs with all views, and these are adaptive",
            remedy="Leave out --views adaptive with --save-calibration",
        )
    if not any(isinstance(method.scorer, PerViewScorer) for method in sweep.methods):
        raise UsageError(
            "no method of this run can look at fewer views, so there is nothing to calibrate",
            remedy="Add a method such as abs",
        )
