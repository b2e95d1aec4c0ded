"""Tables of classes as text, Markdown, CSV and JSON values: accuracies, confused pairs, gains over another method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from abs_classify.evaluation.class_accuracy import (
    ClassGain,
    ClassTable,
    ConfusionMatrix,
    class_gains,
    class_table,
    gains_model,
)
from abs_classify.evaluation.markup import csv_text, markdown_cell, markdown_table
from abs_classify.evaluation.predictions import RunPredictions
from abs_classify.evaluation.tables import aligned, difference_text, p_value_text
from abs_core.files import atomic_write
from abs_core.text import counted, json_text, printable

__all__ = ["ClassPage", "class_page", "write_matrix"]


@dataclass(frozen=True)
class ClassPage:
    """What one method does class by class, and what it gains over another.

    Attributes:
        title: what was run.
        table: the classes.
        against: the other method; empty for none.
        gains: over it, those first that gain most; empty without another method.
        limit: how many classes and pairs text and Markdown show; all have their place in CSV and JSON.
    """

    title: str
    table: ClassTable
    against: str
    gains: Sequence[ClassGain]
    limit: int

    def text(self) -> str:
        """For a terminal."""
        lines = [printable(self.title)]
        for heading, header, body, names in self._sections():
            lines += ["", f"{heading}:", *aligned(header, body, names)]
        return "\n".join([*lines, "", *self._notes()])

    def markdown(self) -> str:
        """In the Markdown of GitHub and GitLab, ends with a line feed."""
        lines = [f"## {markdown_cell(self.title, 300)}"]
        for heading, header, body, names in self._sections():
            lines += ["", f"### {heading[:1].upper()}{heading[1:]}", "", *markdown_table(header, body, names)]
        return "\n".join([*lines, "", *(f"- {markdown_cell(note, 1000)}" for note in self._notes()), ""])

    def csv(self) -> str:
        """A row for each class, with all digits; ends with a line feed."""
        gains = {gain.class_id: gain for gain in self.gains}
        rows = []
        for entry in self.table.classes:
            row: dict[str, object] = {"method": self.table.method, **asdict(entry)}
            if self.against:
                gain = gains.get(entry.class_id)
                test = None if gain is None else gain.paired
                row["against"] = self.against
                for name in ("difference", "low", "high", "first_only", "second_only", "p_value"):
                    row[f"gain_{name}"] = None if test is None else getattr(test, name)
                row["gain_corrected_p"] = None if gain is None else gain.corrected_p
            rows.append(row)
        return csv_text(list(rows[0]), [list(row.values()) for row in rows])

    def to_dict(self) -> dict[str, Any]:
        """JSON values with all digits."""
        gains = [gain.to_dict() for gain in self.gains]
        return {"title": self.title, **self.table.to_dict(), "against": self.against or None, "gains": gains}

    def _sections(self) -> list[tuple[str, list[str], list[list[str]], int]]:
        """Heading, header, cells, and how many columns are names."""
        worst = sorted(self.table.classes, key=lambda entry: (entry.accuracy, -entry.images))
        accuracies = [
            [
                entry.class_name,
                str(entry.images),
                f"{entry.right:.4g}",
                f"{100 * entry.accuracy:.1f} [{100 * entry.low:.1f}, {100 * entry.high:.1f}]",
                "" if entry.precision is None else f"{100 * entry.precision:.1f}",
            ]
            for entry in worst[: self.limit]
        ]
        confused = [
            [pair.truth, pair.predicted, f"{pair.images:.4g}", f"{100 * pair.share:.1f}"]
            for pair in self.table.confused[: self.limit]
        ]
        header = ["class", "images", "right", "accuracy % [95 %]", "precision %"]
        sections = [
            (self._titled("classes, the least accurate first", len(worst)), header, accuracies, 1),
            (
                self._titled("most confused pairs", len(self.table.confused)),
                ["class", "taken for", "images", "% of the class"],
                confused,
                2,
            ),
        ]
        return sections + self._gain_sections()

    def _gain_sections(self) -> list[tuple[str, list[str], list[list[str]], int]]:
        header = ["class", "images", "won", "lost", "gain [95 %]", "p (Holm)"]
        better = [gain for gain in self.gains if gain.paired.difference > 0]
        worse = [gain for gain in reversed(self.gains) if gain.paired.difference < 0]
        return [
            (
                self._titled(f"classes that {verb} from {printable(self.against)} to {self.table.method}", len(gains)),
                header,
                [_gain_cells(gain) for gain in gains[: self.limit]],
                1,
            )
            for verb, gains in (("gain", better), ("lose", worse))
            if self.against
        ]

    def _titled(self, text: str, count: int) -> str:
        return f"{text}, {self.limit} of {count}" if count > self.limit else text

    def _notes(self) -> list[str]:
        notes = ["95 % intervals of accuracies: Wilson, over the images of a class"]
        if self.table.draws > 1:
            notes.append(f"numbers of images are means over {self.table.draws} seeds")
        if self.gains:
            notes.append(f"gains in percentage points; {gains_model(self.gains)}")
            notes.append(f"p (Holm): corrected for the {counted(len(self.gains), 'class', 'classes')} with images")
        return notes


def class_page(
    predictions: RunPredictions, method: str, against: str = "", *, title: str = "", limit: int = 20
) -> ClassPage:
    """What one method does class by class.

    Args:
        predictions: of a run.
        method: its name.
        against: another method of the run, to state gains over it; empty for none.
        title: what was run; empty for the method alone.
        limit: how many classes and pairs text and Markdown show.

    Raises:
        UnknownNameError: a method was not run.
    """
    gains = class_gains(predictions, method, against) if against else []
    return ClassPage(title or method, class_table(predictions, method), against, gains, limit)


def write_matrix(matrix: ConfusionMatrix, path: Path) -> None:
    """Write a confusion matrix as CSV, true classes as rows, or as JSON by its ending; a file of that name is replaced.

    Raises:
        StorageError: the file cannot be written.
    """
    with atomic_write(path) as stream:
        if path.suffix.lower() == ".json":
            stream.write((json_text(matrix.to_dict()) + "\n").encode("utf-8"))
            return
        stream.write(csv_text(["true class", *matrix.class_names], []).encode("utf-8"))
        for row in matrix.rows():
            # a line at a time: of 20,000 classes the matrix has 400 million cells
            stream.write(csv_text([str(row[0])], [])[:-1].encode("utf-8"))
            stream.write("".join(f",{count}" for count in row[1:]).encode("ascii") + b"\n")


def _gain_cells(gain: ClassGain) -> list[str]:
    test = gain.paired
    counts = [str(test.images), f"{test.first_only:.4g}", f"{test.second_only:.4g}"]
    return [gain.class_name, *counts, difference_text(test), p_value_text(gain.corrected_p)]
