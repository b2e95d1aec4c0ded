"""Robustness as tables for a terminal, Markdown and LaTeX, as one row for each number, and as JSON values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from abs_classify.evaluation.markup import csv_text, latex_preamble, markdown_cell
from abs_classify.evaluation.robustness import BINS, IntervalEstimate
from abs_classify.evaluation.sections import MARK, TableSection
from abs_core.result_tables import html_table
from abs_core.text import counted, printable

if TYPE_CHECKING:
    from abs_classify.evaluation.robustness import CalibrationEstimate, DetectionEstimate, RegimeEffect
    from abs_classify.evaluation.robustness_run import RobustnessResults

__all__ = ["NUMBER_COLUMNS", "robustness_html", "robustness_rows", "robustness_text", "robustness_value"]

#: of the rows of numbers
NUMBER_COLUMNS = ("section", "method", "condition", "measure", "value", "low", "high")

# a cell for which there is nothing to measure
_NOTHING = "-"

# characters of a remark in Markdown
_REMARK = 400

_INTERVALS = (
    "95 % intervals, each for itself: for other images, and where there are several draws for other draws of this kind "
    "(images and draws as crossed random effects); Wilson for a share in a single draw; percentiles of resampled "
    "images and draws for false positives; one that would pass 0 or 100 % ends there, since no share is beyond"
)

#: the parts of results, by the name of their attribute
_PARTS = ("confidences", "unknown", "class_order", "added", "streams", "regimes")


def robustness_text(results: RobustnessResults, form: str) -> str:
    """The results as "text", "markdown", "latex" or "csv"; ends with a line feed."""
    if form == "csv":
        rows = (["" if cell is None else cell for cell in row] for row in robustness_rows(results))
        return csv_text(NUMBER_COLUMNS, rows)
    sections = dict(_sections(results))
    if form == "latex":
        tables = [line for name, section in sections.items() for line in ("", *section.latex(f"tab:abs-{name}"))]
        facts = [f"% {printable(f'{name}: {value}')}" for name, value in _facts(results)]
        text = "\n".join([*facts, *tables, ""])
        return "\n".join([*latex_preamble(text), text])
    if form == "markdown":
        lines = [
            "## Robustness",
            "",
            *(f"- {name}: {markdown_cell(value, _REMARK)}" for name, value in _facts(results)),
        ]
        lines += [line for section in sections.values() for line in ("", *section.markdown())]
        return "\n".join([*lines, "", *(f"- {markdown_cell(text, _REMARK)}" for text in _remarks(results)), ""])
    lines = [printable(f"{name}: {value}") for name, value in _facts(results)]
    lines += [line for section in sections.values() for line in ("", *section.text())]
    remarks = [text if text.startswith("warning: ") else f"note: {text}" for text in _remarks(results)]
    return "\n".join([*lines, "", *map(printable, remarks), ""])


def robustness_value(results: RobustnessResults) -> dict[str, Any]:
    """JSON values with all digits, shares of images."""
    settings = results.settings
    return {
        **{name: [dataclasses.asdict(entry) for entry in getattr(results, name)] for name in _PARTS},
        "settings": {
            "draws": settings.draws,
            "hidden": settings.hidden,
            "present": settings.present,
            "imbalance": settings.imbalance,
            "added": None if settings.added is None else settings.added.source,
        },
        "seed": results.seed,
        "bins": BINS,
        "remarks": list(results.remarks),
        "results": [record.model_dump(mode="json") for record in results.results],
    }


def _facts(results: RobustnessResults) -> Iterator[tuple[str, str]]:
    """What was run."""
    details, settings = results.results[0].details, results.settings
    images = counted(details.data.images, "image", "images")
    yield "data set", f"{details.data.spec}: {images}, {counted(details.classes.count, 'class', 'classes')}"
    yield "classes", details.classes.source
    yield "model", f"{details.weights.name}; seed {results.seed}, {counted(settings.draws, 'draw', 'draws')}"
    if settings.added is not None:
        yield "added classes", settings.added.source


def _sections(results: RobustnessResults) -> Iterator[tuple[str, TableSection]]:
    yield "calibration", _calibration_section(results)
    yield "detection", _detection_section(results)
    if results.unknown:
        yield "unknown", _unknown_section(results)
    yield "class-order", _class_order_section(results)
    if results.added:
        yield "added", _added_section(results)
    if results.streams:
        yield "streams", _stream_section(results)
    if results.regimes:
        yield "regimes", _regime_section(results)


def _calibration_section(results: RobustnessResults) -> TableSection:
    body = [
        [
            entry.method,
            _interval(entry.top1),
            _percent(entry.confidence),
            _interval(entry.equal_width.error),
            _chance(entry.equal_width),
            _interval(entry.equal_mass.error),
            _chance(entry.equal_mass),
        ]
        for entry in results.confidences
    ]
    header = ["method", "top-1 %", "confidence %", "ECE %", "by chance", "adaptive ECE %", "by chance"]
    return TableSection(
        "calibration of the confidences",
        header,
        body,
        1,
        [
            f"expected calibration error: {BINS} bins of equal width (Guo et al. 2017); adaptive: {BINS} bins of "
            "equally many images (Nixon et al. 2019)",
            "by chance: the mean, and the 95 % quantile, of the error that perfectly calibrated confidences show with "
            "so many images; intervals hold for these bins",
        ],
    )


def _detection_section(results: RobustnessResults) -> TableSection:
    body = [[entry.method, *_detection(entry.right_or_wrong)] for entry in results.confidences]
    return TableSection(
        "right against wrong labels, by their confidence",
        ["method", "AUROC %", "FPR@95 %"],
        body,
        1,
        [
            "FPR@95: the share of wrong labels with at least the confidence that 95 % of the right ones have",
            *_one_sided(results),
        ],
    )


def _one_sided(results: RobustnessResults) -> Iterator[str]:
    """Why methods have no numbers of detection: there is nothing to tell apart."""
    missing = [entry for entry in results.confidences if entry.right_or_wrong is None]
    for is_right, kind in ((True, "wrong"), (False, "right")):
        names = [entry.method for entry in missing if (entry.top1.value == 1.0) is is_right]
        if names:
            yield f"{_NOTHING}: no label of {', '.join(names)} is {kind}, so that there is nothing to tell apart"


def _unknown_section(results: RobustnessResults) -> TableSection:
    first = results.unknown[0]
    return TableSection(
        "known against hidden classes, by the confidence of the label "
        f"({first.hidden} of {first.classes} classes hidden)",
        ["method", "top-1 % of the known", "AUROC %", "FPR@95 %", "AUROC % by draw"],
        [
            [entry.method, _interval(entry.top1), *_detection(entry.detection), _range(entry.by_draw)]
            for entry in results.unknown
        ],
        1,
        ["FPR@95: the share of images of hidden classes with at least the confidence that 95 % of the known ones have"],
    )


def _class_order_section(results: RobustnessResults) -> TableSection:
    return TableSection(
        "another order of the classes",
        ["method", "labels changed %", "images"],
        [[entry.method, _interval(entry.changed, 2), str(entry.images)] for entry in results.class_order],
        1,
        ["images: those that get another label in at least one order"],
    )


def _added_section(results: RobustnessResults) -> TableSection:
    return TableSection(
        "classes added that no image shows",
        ["method", "added", "top-1 %", "points", "lost to them %", "other changes %"],
        [
            [
                entry.method,
                str(entry.added),
                _interval(entry.top1),
                _difference(entry.difference),
                _interval(entry.lost),
                _interval(entry.changed),
            ]
            for entry in results.added
        ],
        2,
        ["points: top-1 minus that without them; other changes: labels that became another class of the data set"],
    )


def _stream_section(results: RobustnessResults) -> TableSection:
    return TableSection(
        "another order of the images, for stream methods",
        ["method", "top-1 %", "by order", "labels changed %", "top-1 % as listed"],
        [
            [
                entry.method,
                _interval(entry.top1),
                _range(entry.by_order),
                "" if entry.changed is None else _interval(entry.changed),
                _percent(entry.listed),
            ]
            for entry in results.streams
        ],
        1,
        [
            "orders drawn by the seeds, as abs eval --seeds draws them; as listed: the order of the data set, which "
            "may be by class",
            "labels changed: against the order of the first seed",
        ],
    )


def _regime_section(results: RobustnessResults) -> TableSection:
    return TableSection(
        "parts of the images by themselves, all classes being candidates",
        [
            "method",
            "regime",
            "images",
            "classes",
            "top-1 %",
            "points",
            "mean per class %",
            "points",
            "labels changed %",
        ],
        [
            [
                entry.method,
                f"{entry.regime}, {entry.factor:.3g} to 1" if entry.regime == "long tail" else entry.regime,
                f"{entry.images:.4g}",
                f"{entry.classes:.4g}",
                _interval(entry.top1),
                _difference(entry.top1_difference) if _may_change(entry) else "0  ",
                _interval(entry.mean_recall),
                _difference(entry.mean_recall_difference) if _may_change(entry) else "0  ",
                _interval(entry.changed, 2) if _may_change(entry) else "0",
            ]
            for entry in results.regimes
        ],
        2,
        [
            "points, labels changed: against the same images among all the others; a method that looks at each image "
            "alone has none (0, without an interval)",
            f"few classes: {_percent(results.settings.present)} % of the classes have images; long tail: numbers of "
            f"images fall exponentially by a factor of {results.settings.imbalance:g}, as far as there are enough",
        ],
    )


def _may_change(effect: RegimeEffect) -> bool:
    """Whether other images could show a difference: not where a method looks at each alone, and none did."""
    return effect.stream or effect.changed.value > 0


def _remarks(results: RobustnessResults) -> list[str]:
    return [_INTERVALS, *results.remarks]


def robustness_html(results: RobustnessResults) -> str:
    """Tables for a notebook."""
    return "".join(html_table(section.title, section.header, section.body) for _, section in _sections(results))


def robustness_rows(results: RobustnessResults) -> Iterator[list[object]]:
    """A row for each number, with ``NUMBER_COLUMNS``; None where it has no interval."""
    for section in _PARTS:
        for entry in getattr(results, section):
            condition = getattr(entry, "regime", "") or str(getattr(entry, "added", ""))
            for measure, value in _measures(entry):
                ends = (
                    [value.value, value.low, value.high] if isinstance(value, IntervalEstimate) else [value, None, None]
                )
                yield [section, entry.method, condition, measure, *ends]


def _measures(entry: Any, before: str = "") -> Iterator[tuple[str, IntervalEstimate | float]]:
    """The numbers of a result, those inside its parts with the name of the part before them."""
    for field in dataclasses.fields(entry):
        value = getattr(entry, field.name)
        if isinstance(value, IntervalEstimate):
            yield before + field.name, value
        elif dataclasses.is_dataclass(value):
            yield from _measures(value, f"{before}{field.name}.")
        elif isinstance(value, (list, tuple)):
            numbers = [(f"{before}{field.name}.{place}", item) for place, item in enumerate(value)]
            for name, item in numbers:
                yield from [(name, item)] if isinstance(item, float) else _measures(item, f"{name}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield before + field.name, value


def _detection(estimate: DetectionEstimate | None) -> tuple[str, str]:
    if estimate is None:
        return _NOTHING, _NOTHING
    return _interval(estimate.auroc), _interval(estimate.false_positives)


def _chance(estimate: CalibrationEstimate) -> str:
    return f"{_percent(estimate.perfect)}, {_percent(estimate.most)}"


def _interval(estimate: IntervalEstimate, digits: int = 1) -> str:
    value, low, high = (f"{100 * number:.{digits}f}" for number in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def _difference(estimate: IntervalEstimate) -> str:
    value, low, high = map(_points, (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]" + ("  " if estimate.leaves_out_zero else f" {MARK}")


def _points(share: float) -> str:
    points = round(100 * share, 1)
    return f"{points:+.1f}" if points else "0.0"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _range(values: Sequence[float]) -> str:
    return _percent(values[0]) if len(values) == 1 else f"{_percent(min(values))} to {_percent(max(values))}"
