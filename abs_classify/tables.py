"""The accuracy table: rows of numbers, and their fixed-width text for a terminal or a log.

Pure: results in, rows and text out. The HTML page shows the same rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from abs_classify.evaluation import EvaluationResult, PairedComparison, Proportion, compare
from abs_core.printable import printable

__all__ = [
    "NO_DIFFERENCE",
    "AccuracyRow",
    "accuracy_rows",
    "difference_text",
    "p_value_text",
    "proportion_text",
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


def render_table(rows: Sequence[AccuracyRow]) -> str:
    """The table as lines of plain text without a final newline; text from outside is made harmless.

    Accuracies are in per cent with 95 % intervals, differences in percentage points.
    """
    base = next((row.difference.second for row in rows if row.difference is not None), None)
    header = ["method", "views", "texts", "top-1 % [95 %]", "top-5 %"]
    if base is not None:
        header += [f"minus {base} [95 %]  ", "p"]
    body = [_cells(row, with_difference=base is not None) for row in rows]
    cells = [[printable(cell, _NAME_WIDTH) for cell in line] for line in [header, *body]]
    widths = [max(len(line[column]) for line in cells) for column in range(len(header))]
    lines = [_line(line, widths) for line in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*lines, *_footnotes(rows)])


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


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    # names to the left, numbers to the right
    parts = [c.ljust(w) if i < 3 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
    return "  ".join(parts).rstrip()


def _footnotes(rows: Sequence[AccuracyRow]) -> list[str]:
    if not rows:
        return []
    notes = [
        f"{rows[0].top1.trials} images; 95 % intervals: Wilson, for differences Newcombe (paired); p: exact McNemar"
    ]
    if any(row.difference is not None and not row.difference.conclusive for row in rows):
        notes.append(f"{_MARK} {NO_DIFFERENCE}")
    return notes
