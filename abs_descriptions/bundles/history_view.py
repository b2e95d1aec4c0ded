"""The history of a bundle for a terminal or a file, with nothing in it that a terminal would obey.

history_lines(history, style)   for each version what it is, by whom, and what changed against its parents
graph_rows(nodes)               the lines that lead from versions to their parents, as ``git log --graph`` has them
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from abs_core.text import counted, printable
from abs_descriptions.bundles.change_view import TextStyle, label_summary, log_line
from abs_descriptions.bundles.format import Generator
from abs_descriptions.bundles.history import History, HistoryEntry, ParentChange

__all__ = ["GraphRow", "graph_rows", "history_lines", "minute"]

_PLAIN = TextStyle()
_YELLOW, _RED = "33", "31"

# authors of one version that are named, and characters of a name
_MAX_AUTHORS, _MAX_NAME = 6, 60


def history_lines(history: History, style: TextStyle = _PLAIN) -> Iterator[str]:
    """The versions of a history, a few lines each; with a graph where it is no single line of descent."""
    rows = list(graph_rows([(entry.reference, entry.summary.parents) for entry in history.entries]))
    is_line = all(row.head == "* " for row in rows)
    for entry, row in zip(history.entries, rows, strict=True):
        first, *rest = _entry_lines(entry, history.changes(entry), style)
        if is_line:
            yield first
            yield from (f"    {line}" for line in rest)
            continue
        yield row.head + first
        prefixes = [*row.opening, *[row.body] * (len(rest) - len(row.opening))]
        width = max(map(len, prefixes), default=0)
        for place, prefix in enumerate(prefixes):
            yield f"{prefix:<{width}}  {rest[place] if place < len(rest) else ''}".rstrip()
        yield from row.closing


def minute(created: str) -> str:
    """A time of creation, UTC, without seconds: "2025-01-31 12:00"."""
    return created[:16].replace("T", " ")


def _entry_lines(entry: HistoryEntry, changes: Sequence[ParentChange], style: TextStyle) -> Iterator[str]:
    summary = entry.summary
    reference = style.paint(f"{summary.name}@{summary.version}", _YELLOW)
    counts = (
        f"{counted(summary.counts.classes, 'class', 'classes')}, "
        f"{counted(summary.counts.records, 'description', 'descriptions')}"
    )
    marks = [
        *(["latest"] if entry.is_meant else []),
        *([entry.origin] if entry.origin != "store" else []),
        *([] if summary.complete else ["partial"]),
    ]
    mark = f"  ({', '.join(marks)})" if marks else ""
    yanked = "" if entry.yanked is None else style.paint(f"  YANKED: {printable(entry.yanked)}", _RED)
    yield f"{reference}  {minute(summary.created)}  {counts}{mark}{yanked}"
    if entry.authors:
        # one language model may be several generators, such as one for each pair of classes that were rewritten
        authors = list(dict.fromkeys(map(_author, entry.authors)))
        shown = ", ".join(authors[:_MAX_AUTHORS])
        beyond = len(authors) - _MAX_AUTHORS
        yield f"by {shown}{f' and {beyond} more' if beyond > 0 else ''}"
    for change in changes:
        name, _, digest = change.parent.partition("#")
        yield (
            f"from {name}: {_change_text(change)}"
            if change.found
            else f"from {name}#{digest[:19]}…, {_absence(change)}"
        )


def _author(generator: Generator) -> str:
    model = printable(generator.model, _MAX_NAME)
    if generator.backend == "import":
        return "an import, source not stated" if model == "not stated" else f"{model} (import)"
    if generator.backend == "review":
        return f"{model} (review)"
    return f"{printable(generator.backend, _MAX_NAME)} {model}"


def _absence(change: ParentChange) -> str:
    return "which is not here" if change.problem is None else f"which cannot be read: {printable(change.problem, 200)}"


def _change_text(change: ParentChange) -> str:
    if change.counts is None:
        return f"not compared: {printable(change.problem or '', 200)}"
    labels = "" if change.labels is None else label_summary(change.labels)
    return f"{log_line(change.counts)}{'; ' if labels else ''}{labels}"


@dataclass(frozen=True)
class GraphRow:
    """What stands in front of the text of one version.

    Args:
        head: in front of the first line.
        opening: of the lines after it, where the version has several parents.
        body: in front of all further lines.
        closing: lines without text after these, where branches meet.
    """

    head: str
    opening: Sequence[str]
    body: str
    closing: Sequence[str]


def graph_rows(nodes: Sequence[tuple[str, Sequence[str]]]) -> Iterator[GraphRow]:
    """A row for each version.

    Args:
        nodes: names of versions with those of their parents, each before its parents. Parents that are not among them
            are not drawn.
    """
    names = {name for name, _ in nodes}
    columns: list[str] = []
    for name, parents in nodes:
        drawn = [parent for parent in dict.fromkeys(parents) if parent in names]
        if name not in columns:
            columns.append(name)
        place = columns.index(name)
        head = "".join("* " if column == place else "| " for column in range(len(columns)))
        opening = [_fanned(len(columns) + extra, place + extra) for extra in range(len(drawn) - 1)]
        columns[place : place + 1] = drawn
        if drawn:
            body = "| " * len(columns)
            closing = list(_joined(columns))
        else:
            body = "| " * place + "  " + "| " * (len(columns) - place)
            closing = [_shifted(len(columns), place)] if place < len(columns) else []
        yield GraphRow(head, opening, body, closing)


def _fanned(columns: int, place: int) -> str:
    """The line in which a column is opened behind ``place``; those behind it move on."""
    return "| " * place + "|" + "\\ " * (columns - place)


def _shifted(columns: int, place: int) -> str:
    """The line after a column that ends: those behind it move up."""
    return "| " * place + " /" * (columns - place)


def _joined(columns: list[str]) -> Iterator[str]:
    """Lines in which columns that lead to the same version become one; changes ``columns``."""
    column = 1
    while column < len(columns):
        target = columns.index(columns[column])
        if target == column:
            column += 1
            continue
        cells = [" "] * (2 * len(columns))
        for other in range(len(columns)):
            if other < column:
                cells[2 * other] = "|"
            elif other > column:
                cells[2 * other - 1] = "/"
        for other in range(target, column - 1):
            cells[2 * other + 1] = "_"
        cells[2 * column - 1] = "/"
        del columns[column]
        yield "".join(cells).rstrip()
