"""The accuracy tables: rows of numbers, and their fixed-width text for a terminal or a log.

One table for a data set, with intervals and differences; one over several data sets. Pure: results in, rows and text
out. The HTML page shows the rows of the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from abs_classify.evaluation.metrics import EvaluationResult, PairedComparison, Proportion, Spread, compare
from abs_core.text import printable

__all__ = [
    "NO_DIFFERENCE",
    "AccuracyRow",
    "OverallRow",
    "accuracy_rows",
    "difference_text",
    "p_value_text",
    "proportion_text",
    "render_differences",
    "render_overall",
    "render_spreads",
    "render_table",
]


#: What the mark behind a difference means.
NO_DIFFERENCE = "no difference that this many images can show"


_MARK = "~"


_NAME_WIDTH = 40


@dataclass(frozen=True)
class AccuracyRow:
    """One method in the table.

    Attributes:
        method: its name.
        views: which parts of an image it looks at, in a few words.
        texts: which texts it compares them with, in a few words.
        top1, top5: shares with intervals; top5 is None where there are five classes or fewer.
        difference: this method minus the base method on the same images; None for the base itself.
        mean_recall: mean recall per class, 0 to 1.
    """

    method: str
    views: str
    texts: str
    top1: Proportion
    top5: Proportion | None
    difference: PairedComparison | None
    mean_recall: float

    def to_dict(self) -> dict[str, Any]:
        """JSON values of all fields."""
        return {
            "method": self.method,
            "views": self.views,
            "texts": self.texts,
            "top1": self.top1.to_dict(),
            "top5": None if self.top5 is None else self.top5.to_dict(),
            "difference": None if self.difference is None else self.difference.to_dict(),
            "mean_recall": self.mean_recall,
        }


@dataclass(frozen=True)
class OverallRow:
    """One combination over several data sets.

    Attributes:
        labels: what was run: model, bundle, method, as far as they vary.
        accuracies: data set to top-1 accuracy, 0 to 1, one value for each seed; a data set that was not run is absent.
    """

    labels: tuple[str, ...]
    accuracies: Mapping[str, Spread]

    def mean(self, datasets: Sequence[str]) -> float | None:
        """The unweighted mean over data sets; None unless all of them are there."""
        if not all(name in self.accuracies for name in datasets):
            return None
        return sum(self.accuracies[name].mean for name in datasets) / len(datasets)


def accuracy_rows(
    results: Sequence[EvaluationResult],
    views: Mapping[str, str],
    texts: Mapping[str, str],
    base: str = "clip",
) -> tuple[AccuracyRow, ...]:
    """One row per result, in the given order, each compared with the base method if that was run.

    Args:
        results: of the same images in the same order.
        views, texts: method name to a few words; a missing name gives an empty cell.
        base: the method to compare with.

    Raises:
        UsageError: results of different numbers of images.
    """
    reference = next((result for result in results if result.method == base), None)
    return tuple(
        AccuracyRow(
            method=result.method,
            views=views.get(result.method, ""),
            texts=texts.get(result.method, ""),
            top1=result.top1,
            top5=result.top5,
            difference=None if reference is None or result is reference else compare(result, reference),
            mean_recall=result.mean_recall,
        )
        for result in results
    )


def render_table(
    rows: Sequence[AccuracyRow], label_names: Sequence[str] = (), labels: Sequence[Sequence[str]] | None = None
) -> str:
    """The table as lines of plain text without a final newline; text from outside is made harmless.

    Accuracies are in per cent with 95 % intervals, differences in percentage points.

    Args:
        rows: of the same images.
        label_names: headings of columns before the method, such as ``model``; none for one model and one bundle.
        labels: what stands in them, for each row.
    """
    base = next((row.difference.second for row in rows if row.difference is not None), None)
    header = [*label_names, "method", "views", "texts", "top-1 % [95 %]", "top-5 %"]
    if base is not None:
        header += [f"minus {base} [95 %]  ", "p"]
    before = [()] * len(rows) if labels is None else labels
    body = [[*own, *_cells(row, with_difference=base is not None)] for own, row in zip(before, rows, strict=True)]
    return "\n".join([*_aligned(header, body, len(label_names) + 3), *_footnotes(rows)])


def render_spreads(rows: Sequence[tuple[tuple[str, ...], Spread]], label_names: Sequence[str], first_seed: int) -> str:
    """What other draws of the views give: mean, standard deviation and range of top-1, in per cent.

    Args:
        rows: (labels, top-1 accuracies, 0 to 1, one for each seed).
        label_names: headings of the labels.
        first_seed: the seed of the first value.
    """
    header = [*label_names, "seeds", "mean top-1 %", "sd", "least", "most"]
    body = []
    for labels, spread in rows:
        last = first_seed + len(spread.values) - 1
        numbers = (spread.mean, spread.deviation, min(spread.values), max(spread.values))
        body.append([*labels, f"{first_seed} to {last}", *(f"{100 * number:.2f}" for number in numbers)])
    return "\n".join(_aligned(header, body, len(label_names) + 1))


def render_differences(rows: Sequence[tuple[tuple[str, ...], PairedComparison]], label_names: Sequence[str]) -> str:
    """Paired differences of top-1, in percentage points: for each data set and method first minus second.

    Args:
        rows: (labels, comparison), with as many labels as there are ``label_names``; at least one.
        label_names: headings of the labels.
    """
    header = [*label_names, "images", "only first", "only second", "first minus second [95 %]  ", "p"]
    body = []
    for labels, pair in rows:
        counts = [str(pair.images), str(pair.first_only), str(pair.second_only)]
        mark = "  " if pair.conclusive else f" {_MARK}"
        body.append([*labels, *counts, difference_text(pair) + mark, p_value_text(pair.p_value)])
    lines = _aligned(header, body, len(label_names))
    lines.append("images that only one of the two got right; 95 % interval: Newcombe (paired); p: exact McNemar")
    if not all(pair.conclusive for _, pair in rows):
        lines.append(f"{_MARK} {NO_DIFFERENCE}")
    return "\n".join(lines)


def render_overall(rows: Sequence[OverallRow], label_names: Sequence[str], datasets: Sequence[str]) -> str:
    """Top-1 accuracy in per cent: combinations as rows, data sets as columns, and their mean where all are there.

    Args:
        rows: with as many labels as there are ``label_names``.
        label_names: headings of the columns before the numbers.
        datasets: the columns, in order.
    """
    body = []
    for row in rows:
        cells = [_spread_text(row.accuracies.get(name)) for name in datasets]
        mean = row.mean(datasets)
        body.append([*row.labels, *cells, "" if mean is None else f"{100 * mean:.1f}"])
    lines = _aligned([*label_names, *datasets, "mean"], body, len(label_names))
    if any(len(spread.values) > 1 for row in rows for spread in row.accuracies.values()):
        lines.append("± standard deviation over seeds")
    return "\n".join(lines)


def proportion_text(share: Proportion) -> str:
    """``83.2 [79.1, 86.6]``: per cent with its 95 % interval."""
    return f"{100 * share.value:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def difference_text(comparison: PairedComparison) -> str:
    """``+2.5 [+0.4, +4.6]``: percentage points with their 95 % interval."""
    low, high = comparison.interval
    return f"{_signed(comparison.difference)} [{_signed(low)}, {_signed(high)}]"


def p_value_text(p_value: float) -> str:
    """``0.041`` or ``<0.001``."""
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


def _signed(share: float) -> str:
    points = round(100 * share, 1)
    return f"{points:+.1f}" if points else "0.0"


def _cells(row: AccuracyRow, *, with_difference: bool) -> list[str]:
    top5 = "" if row.top5 is None else f"{100 * row.top5.value:.1f}"
    cells = [row.method, row.views, row.texts, proportion_text(row.top1), top5]
    if not with_difference:
        return cells
    if row.difference is None:
        return [*cells, "", ""]
    mark = "  " if row.difference.conclusive else f" {_MARK}"
    return [*cells, difference_text(row.difference) + mark, p_value_text(row.difference.p_value)]


def _spread_text(spread: Spread | None) -> str:
    if spread is None:
        return ""
    mean = f"{100 * spread.mean:.1f}"
    return mean if len(spread.values) == 1 else f"{mean} ±{100 * spread.deviation:.1f}"


def _aligned(header: Sequence[str], body: Sequence[Sequence[str]], names: int) -> list[str]:
    """Lines of a table: the first ``names`` columns to the left, numbers to the right."""
    cells = [[printable(cell, _NAME_WIDTH) for cell in line] for line in [header, *body]]
    widths = [max(len(line[column]) for line in cells) for column in range(len(header))]
    lines = [
        "  ".join(
            c.ljust(w) if i < names else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return lines


def _footnotes(rows: Sequence[AccuracyRow]) -> list[str]:
    if not rows:
        return []
    notes = [
        f"{rows[0].top1.trials} images; 95 % intervals: Wilson, for differences Newcombe (paired); p: exact McNemar"
    ]
    if any(row.difference is not None and not row.difference.conclusive for row in rows):
        notes.append(f"{_MARK} {NO_DIFFERENCE}")
    return notes
