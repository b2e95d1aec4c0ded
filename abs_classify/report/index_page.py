"""The index of a folder of report pages: a link to each, with its data set, model, descriptions and main numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from abs_classify.evaluation.records import ResultRecord
from abs_classify.evaluation.tables import difference_text, p_value_text, proportion_text
from abs_core.files import atomic_write
from abs_core.text import counted, printable
from abs_core.web_page import inline_hash

__all__ = ["IndexEntry", "write_index"]


@dataclass(frozen=True)
class IndexEntry:
    """A page of the folder: the name of its file, and the results that it shows, at least one."""

    name: str
    records: Sequence[ResultRecord]


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
        style=Markup(style),  # noqa: S704 - our own file
        style_hash=inline_hash(style),
    )
    path = folder / "index.html"
    with atomic_write(path) as stream:
        stream.write(text.encode("utf-8"))
    return path


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
    }


def _row(record: ResultRecord) -> dict[str, str]:
    difference = record.details.difference
    return {
        "method": record.method,
        "top1": proportion_text(record.details.top1),
        "difference": "" if difference is None else difference_text(difference).replace("-", "\u2212"),
        "p": "" if difference is None else p_value_text(difference.p_value),
    }
