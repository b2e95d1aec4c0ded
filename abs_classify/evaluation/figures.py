"""Figures for a paper, as PNG and PDF: accuracy with intervals and against cost, gains by class, reliability."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from abs_classify.evaluation.class_accuracy import ClassGain, class_gains
from abs_classify.evaluation.paper_table import ResultRow, ResultTable, result_table
from abs_classify.evaluation.records import ResultRecord
from abs_classify.evaluation.results_folder import PredictionReader
from abs_core.errors import ResultError
from abs_core.extras import require
from abs_core.files import atomic_write
from abs_core.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    from abs_classify.evaluation.robustness import ConfidenceQuality

__all__ = ["draw_accuracy", "draw_cost", "draw_gains", "draw_reliability", "write_figures", "write_reliability"]

_COLOUR, _GAIN, _LOSS = "#0072B2", "#0072B2", "#D55E00"
_NAME, _GAINS = 40, 40

# height of a line of names, of the height of a figure
_LINE = 0.028

# numbers of crops that an axis names
_CROPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


def write_figures(
    results: Sequence[ResultRecord], folder: Path, *, base: str = "clip", predictions: PredictionReader | None = None
) -> list[Path]:
    """Write ``accuracy``, ``cost`` and, for each row that has a base, ``gains-NN-METHOD`` as ``.png`` and ``.pdf``.

    Files of these names are replaced. Gains by class are drawn of results whose predictions were kept, over the base of
    the same run.

    Args:
        results, base, predictions: as in ``result_table``.
        folder: is made if need be.

    Returns:
        The files.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ResultError, StorageError: as ``result_table``, or the folder cannot be written.
    """
    reader = PredictionReader.of(results) if predictions is None else predictions
    table = result_table(results, base=base, predictions=reader)
    paths = _write(draw_accuracy(table), folder, "accuracy") + _write(draw_cost(table), folder, "cost")
    for number, row in enumerate(table.rows, start=1):
        run = None if row.base is None else reader.find(row.record)
        if run is None or row.base is None or not run.of(row.base):
            continue
        gains = class_gains(run, row.record.method, row.base)
        title = " ".join([*row.labels, f"{row.record.method} minus {row.base}"])
        method = "".join(char if char.isalnum() or char in "._-" else "-" for char in row.record.method)[:60]
        paths += _write(draw_gains(gains, title), folder, f"gains-{number:02d}-{method}")
    return paths


def draw_accuracy(table: ResultTable) -> Figure:
    """Top-1 of each row with its 95 % interval, the first row at the top."""
    figure, axes = _figure(len(table.rows))
    for place, row in enumerate(table.rows):
        value = row.record.details.seeds.mean
        _interval(axes, place, value, row.low, row.high, _COLOUR)
    _name_rows(axes, [_label(row) for row in table.rows])
    axes.set_xlabel("top-1 accuracy, %, with 95 % interval (Wilson)")
    _title(axes, table.caption)
    return figure


def draw_cost(table: ResultTable) -> Figure:
    """Top-1 against the crops that were encoded an image besides the whole one."""
    figure, axes = _figure(12)
    for row in table.rows:
        value = row.record.details.seeds.mean
        spans = [[100 * (value - row.low)], [100 * (row.high - value)]]
        axes.errorbar([row.crops], [100 * value], yerr=spans, fmt="o", color=_COLOUR, ecolor=_COLOUR, alpha=0.6)
    # a method without crops has its place at 0, those with many do not press the others together
    most = max(row.crops for row in table.rows)
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xticks(ticks := [0, *(tick for tick in _CROPS if tick <= 2 * most)], list(map(str, ticks)))
    axes.set_xlim(-0.2, 3 * max(1.0, most))
    axes.set_xlabel("crops an image, besides the whole image")
    axes.set_ylabel("top-1 accuracy, %, with 95 % interval (Wilson)")
    axes.grid(visible=True, alpha=0.15)
    _name_points(axes, table.rows)
    _title(axes, table.caption)
    return figure


def _name_points(axes: Axes, rows: Sequence[ResultRow]) -> None:
    """Name the points of ``draw_cost``, those with as many crops one below the other."""
    low, high = axes.get_ylim()
    key = attrgetter("crops")
    for crops, group in groupby(sorted(rows, key=key), key=key):
        column = sorted(group, key=lambda row: row.record.details.seeds.mean)
        values = [100 * row.record.details.seeds.mean for row in column]
        for row, value, height in zip(column, values, _spread(values, _LINE * (high - low)), strict=True):
            note = axes.annotate(
                "", (crops, value), (12, height), textcoords=("offset points", "data"), fontsize=7, va="center",
                arrowprops={"arrowstyle": "-", "color": "0.7", "linewidth": 0.5, "shrinkB": 0, "relpos": (0, 0.5)},
            )  # fmt: skip
            _plain(note, _label(row))


def _spread(values: Sequence[float], gap: float) -> list[float]:
    """Ascending values, moved apart until neighbours are ``gap`` apart, around the same mean."""
    places: list[float] = []
    for value in values:
        places.append(max(value, places[-1] + gap) if places else value)
    shift = (sum(places) - sum(values)) / len(places)
    return [place - shift for place in places]


def draw_gains(gains: Sequence[ClassGain], title: str) -> Figure:
    """What each class gains, with its 95 % interval; of many classes those that gain and lose most.

    Args:
        gains: of classes, those first that gain most; at least one.
        title: what is compared.

    Raises:
        ResultError: no class has images.
    """
    if not gains:
        raise ResultError("no class has images, so there are no gains to draw", remedy="Name a run with images")
    half = _GAINS // 2
    shown = [*gains[:half], *gains[-half:]] if len(gains) > _GAINS else list(gains)
    figure, axes = _figure(len(shown))
    for place, gain in enumerate(shown):
        test = gain.paired
        _interval(axes, place, test.difference, test.low, test.high, _LOSS if test.difference < 0 else _GAIN)
    _name_rows(axes, [f"{gain.class_name} ({gain.paired.images})" for gain in shown])
    axes.axvline(0, color="0.5", linewidth=0.8)
    axes.set_xlabel("gain, points of top-1, with 95 % interval, not corrected (images of the class)")
    cut = f"; {len(shown)} of {len(gains)} classes" if len(shown) < len(gains) else ""
    _title(axes, title + cut)
    return figure


def write_reliability(confidences: Sequence[ConfidenceQuality], folder: Path) -> list[Path]:
    """Write ``reliability`` as ``.png`` and ``.pdf``; files of these names are replaced.

    Args:
        confidences: of ``RobustnessResults``, at least one.
        folder: is made if need be.

    Raises:
        MissingExtraError: matplotlib is not installed.
        StorageError: the folder cannot be written.
    """
    return _write(draw_reliability(confidences), folder, "reliability")


def draw_reliability(confidences: Sequence[ConfidenceQuality]) -> Figure:
    """Accuracy with its 95 % interval against confidence, and how many images have it: a panel for each method."""
    columns = min(3, len(confidences))
    rows = -(-len(confidences) // columns)
    figures = require("matplotlib.figure", extra="plots", purpose="to draw figures")
    figure: Figure = figures.Figure(figsize=(0.6 + 3.2 * columns, 0.6 + 3.2 * rows), dpi=150, layout="compressed")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat
    for quality, axes in zip(confidences, panels, strict=False):
        images = sum(entry.images for entry in quality.bins)
        places = [entry.confidence for entry in quality.bins]
        axes.bar(places, [entry.images / images for entry in quality.bins], width=0.03, color="0.85")
        axes.plot([0, 1], [0, 1], color="0.5", linewidth=0.8, linestyle="--")
        spans = [
            [max(0.0, entry.accuracy - entry.low) for entry in quality.bins],
            [max(0.0, entry.high - entry.accuracy) for entry in quality.bins],
        ]
        accuracies = [entry.accuracy for entry in quality.bins]
        axes.errorbar(places, accuracies, yerr=spans, fmt="o-", color=_COLOUR, capsize=2, markersize=3, linewidth=0.8)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        error = quality.equal_width
        axes.set_title(
            f"{printable(quality.method, _NAME)}\nECE {100 * error.error.value:.1f} %, by chance "
            f"{100 * error.perfect:.1f} %",
            fontsize=9,
            parse_math=False,
        )
    for axes in panels:
        axes.set_visible(False)
    figure.supxlabel("confidence", fontsize=9)
    figure.supylabel("accuracy with 95 % interval; grey: share of the images", fontsize=9)
    return figure


def _figure(rows: int) -> tuple[Figure, Axes]:
    figures = require("matplotlib.figure", extra="plots", purpose="to draw figures")
    figure: Figure = figures.Figure(figsize=(8, 1.6 + 0.26 * rows), dpi=150, layout="constrained")
    return figure, figure.subplots()


def _interval(axes: Axes, place: int, value: float, low: float, high: float, colour: str) -> None:
    spans = [[100 * max(0.0, value - low)], [100 * max(0.0, high - value)]]
    axes.errorbar([100 * value], [place], xerr=spans, fmt="o", color=colour, ecolor=colour, capsize=2, markersize=4)


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [printable(name, _NAME) for name in names], fontsize=8)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)  # a name with two dollars is no formula
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=True, axis="x", alpha=0.15)


def _label(row: ResultRow) -> str:
    return " ".join([*row.labels, row.record.method])


def _plain(text: Text, content: str) -> None:
    text.set_parse_math(False)
    text.set_text(printable(content, _NAME))


def _title(axes: Axes, text: str) -> None:
    axes.set_title(printable(text, 110), fontsize=9, parse_math=False)


def _write(figure: Figure, folder: Path, name: str) -> list[Path]:
    # without dates and versions: equal results give equal files
    options: dict[str, dict[str, None]] = {
        "png": {"Software": None},
        "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    }
    paths = []
    for kind, metadata in options.items():
        stream = io.BytesIO()
        figure.savefig(stream, format=kind, metadata=metadata)
        path = folder / f"{name}.{kind}"
        with atomic_write(path) as file:
            file.write(stream.getvalue())
        paths.append(path)
    return paths
