"""A part of a report: a table with a title and what must be read below it, for a terminal, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from abs_classify.evaluation.markup import latex_table, markdown_cell, markdown_table
from abs_classify.evaluation.tables import NO_DIFFERENCE, aligned

__all__ = ["MARK", "TableSection"]

#: behind a number, in a terminal, that shows no difference; elsewhere it is "(n.s.)"
MARK = "~"

# characters of a note in Markdown
_NOTE = 400


@dataclass(frozen=True)
class TableSection:
    """A table; the first ``names`` columns are no numbers.

    Args:
        title: without a capital or a colon.
        header, body: texts, in which ``MARK`` may stand behind a number.
        names: how many columns are to the left.
        notes: lines below.
    """

    title: str
    header: Sequence[str]
    body: Sequence[Sequence[str]]
    names: int
    notes: Sequence[str] = ()

    def text(self) -> list[str]:
        """Lines for a terminal."""
        notes = [*([f"{MARK} {NO_DIFFERENCE}"] if self._has_marks else []), *self.notes]
        return [f"{self.title}:", *aligned(self.header, self.body, self.names), *notes]

    def markdown(self) -> list[str]:
        """Lines of Markdown, under a heading of the third level."""
        lines = [f"### {self.title[:1].upper()}{self.title[1:]}", ""]
        notes = (f"- {markdown_cell(note, _NOTE)}" for note in self._written_notes)
        return [*lines, *markdown_table(self.header, self._written_body, self.names), "", *notes]

    def latex(self, label: str) -> list[str]:
        """Lines of a ``table``."""
        return latex_table(self.header, self._written_body, self.names, [self.title, *self._written_notes], label)

    @property
    def _has_marks(self) -> bool:
        return any(cell.endswith(f" {MARK}") for row in self.body for cell in row)

    @property
    def _written_body(self) -> list[list[str]]:
        return [[cell.replace(f" {MARK}", " (n.s.)").strip() for cell in row] for row in self.body]

    @property
    def _written_notes(self) -> list[str]:
        return [*([f"n.s.: {NO_DIFFERENCE}"] if self._has_marks else []), *self.notes]
