"""The index of a folder of report pages: a link to each, with its data set, model, descriptions and main numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from abs_classify.evaluation.records import ResultRecord
from abs_classify.evaluation.tables import difference_text, p_value_text, proportion_text
from abs_classify.report.highlights import highlights_markup
from abs_classify.report.layout import Highlight
from abs_core.files import atomic_write
from abs_core.text import counted, printable
from abs_core.web_page import inline_hash

__all__ = ["IndexEntry", "write_index"]

#: data sets with whose images the index opens, at most
_HIGHLIGHTS = 4


@dataclass(frozen=True)
class IndexEntry:
    """A page of the folder.

    Attributes:
        name: of its file.
        records: the results that it shows, at least one.
        highlights: what the index shows of those of the page.
    """

    name: str
    records: Sequence[ResultRecord]
    highlights: Sequence[Highlight] = ()


def write_index(entries: Sequence[IndexEntry], planned: int, folder: Path) -> Path:
    """Write ``index.html`` into a folder; one that is there is replaced.

    Args:
        entries: the pages, in order.
        planned: how many pages there will be; while there are fewer, the index says so.
        folder: of the pages.

    Returns:
        The file.

    Raises:
        StorageError: it cannot be written.
    """
    style = files("abs_classify.report").joinpath("page.css").read_text(encoding="utf-8")
    template = files("abs_classify.report").joinpath("index.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, finalize=_harmless, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    missing = "" if len(entries) >= planned else f"{len(entries)} of {planned} evaluations are done"
    text = environment.from_string(template).render(
        title=counted(planned, "evaluation", "evaluations"),
        missing=missing,
        pages=[_entry(entry) for entry in entries],
        highlights=highlights_markup(list(_highlights(entries))),
        style=Markup(style),  # noqa: S704 - our own file
        style_hash=inline_hash(style),
    )
    path = folder / "index.html"
    with atomic_write(path) as stream:
        stream.write(text.encode("utf-8"))
    return path


def _highlights(entries: Sequence[IndexEntry]) -> Iterator[tuple[Highlight, str]]:
    """Those of the first page of each data set, of a few data sets, with the addresses of their images."""
    first = {entry.records[0].dataset: entry for entry in reversed(entries)}
    shown = [entry for entry in entries if first[entry.records[0].dataset] is entry][:_HIGHLIGHTS]
    for entry in shown:
        for highlight in entry.highlights:
            rule = f"{entry.records[0].dataset}: {highlight.rule[:1].lower()}{highlight.rule[1:]}"
            yield replace(highlight, rule=rule), f"{quote(entry.name)}#image-{highlight.position}"


def _harmless(value: object) -> object:
    return value if isinstance(value, Markup) else printable(str(value))


def _entry(entry: IndexEntry) -> dict[str, Any]:
    head = entry.records[0]
    images = counted(head.details.data.images, "image", "images")
    classes = counted(head.details.classes.count, "class", "classes")
    facts = [f"model {head.details.weights.name}", f"classes from {head.details.classes.source}"]
    bases = [record.details.difference.second for record in entry.records if record.details.difference is not None]
    return {
        "link": quote(entry.name),
        "title": f"{head.dataset}: {images}, {classes}",
        "facts": "; ".join(facts),
        "base": bases[0] if bases else "",
        "rows": [_row(record) for record in entry.records],
        "notes": head.details.notes,
    }


def _row(record: ResultRecord) -> dict[str, str]:
    difference = record.details.difference
    return {
        "method": record.method,
        "top1": proportion_text(record.details.top1),
        "difference": "" if difference is None else difference_text(difference).replace("-", "\u2212"),
        "p": "" if difference is None else p_value_text(difference.p_value),
    }
