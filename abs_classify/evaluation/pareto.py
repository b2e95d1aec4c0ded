"""What views buy: accuracy, agreement with the full run and seconds an image of methods at several numbers of views.

A point is dominated where another method or number of views is at least as accurate in less time; the others are the
Pareto front. Accuracy and agreement come from the feature store, seconds from runs over a few images without it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from abs_classify.datasets import Dataset, open_dataset
from abs_classify.encoding.feature_store import opened_store
from abs_classify.encoding.memory_store import MemoryStore
from abs_classify.encoding.stages import SHARD, ModelSettings, Stages, open_stages
from abs_classify.encoding.work import WorkCounts
from abs_classify.evaluation.job import RankedPass, run_job
from abs_classify.evaluation.records import ResultRecord
from abs_classify.evaluation.significance import wilson
from abs_classify.evaluation.sweep import (
    EvaluationObserver,
    SweepOptions,
    as_label_spaces,
    evaluate,
    plan_sweep,
)
from abs_classify.methods.adaptive import AdaptiveViews
from abs_core.errors import UsageError
from abs_core.extras import require
from abs_core.files import atomic_write
from abs_core.text import printable, visible_cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from abs_classify.encoding.spaces import PersistentStore

__all__ = ["ParetoPoint", "ParetoResults", "measure_pareto", "write_pareto"]

#: numbers of views, and agreements of adaptive views, that are measured unless others are named
VIEW_COUNTS = (1, 2, 3, 5, 8, 12, 20, 30, 50)
AGREEMENTS = (0.9, 0.95, 0.99, 0.999)

_FULL, _FULL_VIEWS = "abs", 50
_FIXED = ("clip", "cupl", "wca")


@dataclass(frozen=True)
class ParetoPoint:
    """A method with a number of views.

    Args:
        method: its name.
        views: how many views of each kind it looks at; of adaptive views the agreement that was asked for.
        mean_crops: crops that were encoded an image, on the average.
        accuracy: top-1, between 0 and 1, the mean over the seeds.
        accuracy_low, accuracy_high: its 95 % Wilson interval over the images.
        agreement: share of the images with the label that the full run of abs gives them with the same seed.
        seconds: wall time an image of reading, encoding and matching, with the model loaded and nothing in the cache.
        on_front: whether no other point is at least as accurate in less time.
    """

    method: str
    views: str
    mean_crops: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    agreement: float
    seconds: float
    on_front: bool = False


@dataclass(frozen=True)
class ParetoResults:
    """All points of a data set, in the order in which they were measured.

    Args:
        points: methods with numbers of views.
        dataset, model: their names.
        images, seeds: how many there were.
        timed: how many images the seconds were measured on.
    """

    points: Sequence[ParetoPoint]
    dataset: str
    model: str
    images: int
    seeds: int
    timed: int

    def __str__(self) -> str:
        """A table."""
        head = f"{'method':<14}{'views':>8}{'crops':>8}{'top-1 %':>9}{'agreement %':>13}{'ms/image':>10}"
        lines = [f"{self.dataset}: {self.images} images, {self.model}; * is on the Pareto front", "", head]
        lines += [
            f"{point.method:<14}{point.views:>8}{point.mean_crops:>8.1f}{100 * point.accuracy:>9.1f}"
            f"{100 * point.agreement:>13.1f}{1000 * point.seconds:>10.1f}{' *' if point.on_front else ''}"
            for point in self.points
        ]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def measure_pareto(
    dataset: str | Dataset,
    model: str = "embedded",
    *,
    views: Sequence[int] = VIEW_COUNTS,
    agreements: Sequence[float] = AGREEMENTS,
    timed: int = 24,
    cache: PersistentStore | Path | str | None = None,
    limit: int | None = None,
    stratified: bool = False,
    seeds: int = 1,
    **settings: Any,
) -> ParetoResults:
    """Measure clip, cupl, wca, and abs with several numbers of views and with adaptive views.

    Args:
        dataset, model, cache, limit, stratified, seeds, settings: as in ``evaluate``.
        views: numbers of views of each kind for abs, each 1 or more; the full run, with 50, is always measured.
        agreements: of adaptive views, each between 0 and 1.
        timed: images on which seconds are measured, at least 1.

    Raises:
        UsageError: a number of views or of timed images below 1.
        AbsError: as ``evaluate``.
    """
    if min([*views, timed]) < 1:
        raise UsageError(
            f"views and timed must be 1 or more, got {', '.join(map(str, views))} and {timed}",
            remedy="Leave them out for the usual ones",
        )
    opened = open_dataset(dataset) if isinstance(dataset, str) else dataset
    counts = sorted({*views, _FULL_VIEWS})
    plan: list[tuple[tuple[str, ...], int | AdaptiveViews | None]] = [(_FIXED, None)]
    plan += [((_FULL,), count) for count in counts]
    plan += [((_FULL,), AdaptiveViews(agreement)) for agreement in agreements]
    runs = []
    for methods, number in plan:
        labels = _Labels()
        sample: dict[str, Any] = {"limit": limit, "stratified": stratified, "seeds": seeds}
        results = evaluate(opened, model, methods, views=number, cache=cache, observer=labels, **sample, **settings)
        runs += [_Measured(record, number, labels.by_pass) for record in results]
    full = next(run for run in runs if run.views == _FULL_VIEWS)
    few = min(timed, full.record.details.data.images)
    with opened_store(cache) as store:
        clock = _Clock(
            opened, few, open_stages(store, model, _model_settings(settings), settings.get("weights")), settings
        )
        clock.seconds(_FULL, 1)  # loads what the others find loaded
        points = [run.point(full, *clock.seconds(run.record.method, run.views)) for run in runs]
    details = full.record.details
    label = details.weights.name
    return ParetoResults(_mark_front(points), opened.name, label, details.data.images, seeds, few)


@dataclass
class _Labels(EvaluationObserver):
    """Takes the predicted classes [images] of every seed and method."""

    by_pass: dict[tuple[int, str], NDArray[np.int64]] = field(default_factory=dict)

    def ranked(self, ranked: RankedPass) -> None:
        for name, ranking in ranked.scored.methods.items():
            self.by_pass[ranked.seed, name] = ranking.top[:, 0]


@dataclass(frozen=True)
class _Measured:
    """The result of a method with a number of views."""

    record: ResultRecord
    views: int | AdaptiveViews | None
    labels: dict[tuple[int, str], NDArray[np.int64]]

    def point(self, full: _Measured, seconds: float, crops: float) -> ParetoPoint:
        accuracy, images = self.record.details.seeds.mean, self.record.details.data.images
        low, high = wilson(round(accuracy * images), images)
        return ParetoPoint(self.record.method, self._label, crops, accuracy, low, high, self._agreement(full), seconds)

    @property
    def _label(self) -> str:
        if isinstance(self.views, AdaptiveViews):
            return f"P={self.views.agreement:g}"
        return "" if self.views is None else str(self.views)

    def _agreement(self, full: _Measured) -> float:
        """The mean over the seeds of the full run; what draws nothing has the same classes for each of them."""
        mine = {seed: classes for (seed, name), classes in self.labels.items() if name == self.record.method}
        first = mine[min(mine)]
        return fmean(float((mine.get(seed, first) == classes).mean()) for (seed, _), classes in full.labels.items())


@dataclass
class _Clock:
    """Measures runs over the first images of a data set with one loaded model, without what the cache has.

    Args:
        dataset, images: which images.
        stages: of the model.
        settings: as in ``evaluate``.
    """

    dataset: Dataset
    images: int
    stages: Stages
    settings: dict[str, Any]

    def seconds(self, method: str, views: int | AdaptiveViews | None) -> tuple[float, float]:
        """Seconds, and crops, an image."""
        label_spaces = as_label_spaces(self.settings.get("descriptions"), self.settings.get("labels"))
        names = [entry.name for entry in fields(SweepOptions)]
        options = {name: value for name, value in self.settings.items() if name in names}
        options |= {"methods": [method], "views": views, "limit": self.images}
        sweep = plan_sweep([self.dataset], ["model"], label_spaces, SweepOptions(**options))
        (job,) = sweep.jobs
        stages, work = self.stages.for_run(MemoryStore(4 * SHARD)), WorkCounts()
        evaluation = run_job(job, "model", stages, sweep.on_error, _silent, work)
        crops = sum(
            space.rows_computed
            for space in work.spaces.values()
            if space.space.stage == "view-features" and space.space.inputs["view"]["kind"] not in ("whole", "window")
        )
        seconds = sum(evaluation.stage_seconds.get(step, 0.0) for step in ("read", "encode", "match"))
        return seconds / self.images, crops / self.images


def _model_settings(settings: dict[str, Any]) -> ModelSettings:
    names = {entry.name for entry in fields(ModelSettings)}
    return ModelSettings(**{name: value for name, value in settings.items() if name in names})


def _silent(step: int = 1, remark: str = "") -> None:
    """Progress of a few images is not worth a line."""


def _mark_front(points: Sequence[ParetoPoint]) -> list[ParetoPoint]:
    return [
        replace(
            point,
            on_front=not any(other.seconds < point.seconds and other.accuracy >= point.accuracy for other in points),
        )
        for point in points
    ]


def write_pareto(results: ParetoResults, folder: Path) -> tuple[Path, Path]:
    """Write ``pareto.csv`` and ``pareto.png`` into a folder; what is there is replaced.

    Returns:
        Their paths.

    Raises:
        MissingExtraError: matplotlib is not installed.
        StorageError: the folder cannot be written.
    """
    picture = _draw(results)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [entry.name for entry in fields(ParetoPoint)]
    writer.writerow(["dataset", "model", "images", "seeds", *names])
    for point in results.points:
        row = [results.dataset, results.model, results.images, results.seeds, *(getattr(point, name) for name in names)]
        writer.writerow([visible_cell(cell) if isinstance(cell, str) else cell for cell in row])
    paths = folder / "pareto.csv", folder / "pareto.png"
    for path, content in zip(paths, (text.getvalue().encode("utf-8"), picture), strict=True):
        with atomic_write(path) as stream:
            stream.write(content)
    return paths


def _draw(results: ParetoResults) -> bytes:
    figures = require("matplotlib.figure", extra="plots", purpose="to draw the Pareto page")
    figure = figures.Figure(figsize=(12, 5.2), dpi=130, layout="constrained")
    accuracy, agreement = figure.subplots(1, 2, sharex=True)
    _draw_panel(accuracy, results, "accuracy")
    front = sorted((point for point in results.points if point.on_front), key=lambda point: point.seconds)
    accuracy.step(
        [1000 * point.seconds for point in front], [100 * point.accuracy for point in front],
        where="post", color="0.6", linestyle=":", label="Pareto front", zorder=0,
    )  # fmt: skip
    _draw_panel(agreement, results, "agreement")
    accuracy.set_ylabel("top-1 accuracy, %, with 95 % interval")
    agreement.set_ylabel(f"same label as abs with {_FULL_VIEWS} views of each kind, %")
    accuracy.legend(loc="best", fontsize=8)
    seeds = f", {results.seeds} seeds" if results.seeds > 1 else ""
    figure.suptitle(
        printable(f"{results.dataset}: {results.images} images, {results.model}{seeds}; seconds on {results.timed}"),
        parse_math=False,
    )
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


# Okabe and Ito's palette, which people with any colour vision can tell apart
_COLOURS = {"clip": "#000000", "cupl": "#009E73", "wca": "#CC79A7", _FULL: "#0072B2", "adaptive": "#D55E00"}
_MARKERS = {"clip": "s", "cupl": "D", "wca": "^", _FULL: "o", "adaptive": "*"}


def _draw_panel(axes: Axes, results: ParetoResults, quantity: str) -> None:
    series: dict[str, list[ParetoPoint]] = {}
    for point in results.points:
        name = "adaptive" if point.views.startswith("P=") else point.method
        series.setdefault(name, []).append(point)
    for name, points in series.items():
        x = [1000 * point.seconds for point in points]
        y = [100 * getattr(point, quantity) for point in points]
        style = "-" if len(points) > 1 else ""
        label = "abs, adaptive" if name == "adaptive" else name
        axes.plot(x, y, marker=_MARKERS[name], linestyle=style, color=_COLOURS[name], label=label, markersize=7)
        if quantity == "accuracy":
            spans = [
                [100 * (p.accuracy - p.accuracy_low) for p in points],
                [100 * (p.accuracy_high - p.accuracy) for p in points],
            ]
            axes.errorbar(x, y, yerr=spans, fmt="none", ecolor=_COLOURS[name], alpha=0.25)
        below = name == "adaptive"
        for point, left, top in zip(points, x, y, strict=True):
            axes.annotate(
                point.views.removeprefix("P="), (left, top), textcoords="offset points",
                xytext=(4, -11 if below else 5), fontsize=7, color=_COLOURS[name],
            )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds an image")
    axes.grid(visible=True, which="both", alpha=0.15)
