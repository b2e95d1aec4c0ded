"""The page: from plain data to one HTML file, written block by block.

The page loads nothing: styles and one script are inline and allowed by their hashes, images are data: URIs, and a
content security policy forbids the rest. Results and remarks are markup, which needs no script; images are data that
the script shows as text, of any number only those in sight: the rows of all as columns, then a picture and what is
drawn of it for each that gets one. Every string passes through ``printable``, and the escaping of Jinja2 or of JSON.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from abs_classify.evaluation.records import ResultRecord
from abs_classify.evaluation.tables import NO_DIFFERENCE, difference_text, p_value_text, proportion_text
from abs_classify.report.drawing import heat_colours, heat_png, jpeg
from abs_classify.report.highlights import highlights_markup
from abs_classify.report.image_rows import table_json
from abs_classify.report.layout import (
    Bar,
    Highlight,
    Outline,
    Panel,
    Ranking,
    Reasons,
    ReportImage,
    ReportPage,
    panels,
    ranking,
    reasons,
    tag_places,
)
from abs_core.files import atomic_write
from abs_core.text import printable
from abs_core.web_page import embedded_json, inline_hash, page_text_script, virtual_grid_script

__all__ = ["render_report", "write_report"]

_SCRIPTS = ("rows.js", "picture.js", "summary.js", "page.js")

_LONG_SIDE = 360
_TEXT_LIMIT = 2000

# A panel is about this large on screen, in CSS pixels: labels inside a drawing are sized by it.
_PANEL_SIZE = (270.0, 200.0)

#: stops of the colour scale that explains attention maps
_STOPS = 9


def write_report(page: ReportPage, path: Path) -> None:
    """Write the page as one HTML file that needs nothing else, whole or not at all.

    Memory does not grow with the number of pictures.

    Raises:
        StorageError: the file cannot be written.
    """
    with atomic_write(path) as stream:
        for block in render_report(page):
            stream.write(block.encode("utf-8"))


def render_report(page: ReportPage) -> Iterator[str]:
    """The page as HTML text, block by block; its images are gone through as it goes on."""
    style = _shipped("page.css")
    script = "\n".join([page_text_script(), virtual_grid_script(), *map(_shipped, _SCRIPTS)])
    environment = jinja2.Environment(
        autoescape=True,
        finalize=_harmless,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    table = page.table
    text = environment.from_string(
        _shipped("template.html.j2")
    ).render(
        page=page,
        style=Markup(style),  # noqa: S704 - our own file
        style_hash=inline_hash(style),
        script_hash=inline_hash(script),
        results=_results(page.results),
        images=0 if table is None else len(table),
        has_truth=table is not None and bool(table.truth),
        pictures=_pictures_text(page),
        highlights=highlights_markup([(entry, _fragment(page, entry)) for entry in page.highlights]),
        heat_stops=[_hex(colour) for colour in heat_colours()[:: 255 // (_STOPS - 1)][:_STOPS]],
    )
    # no text from outside can hold this comment, since all of it is escaped
    head, _, tail = text.partition("<!--data-->")
    yield head
    if table is not None:
        yield '<script type="application/json" id="table">'
        yield from table_json(table, page.pictured)
        yield f"</script>\n<script>{script}</script>\n"
        for image in page.images:
            yield from _picture(image)
    yield tail


def _fragment(page: ReportPage, highlight: Highlight) -> str:
    return f"#image-{highlight.position}" if highlight.position in page.pictured else ""


def _harmless(value: object) -> object:
    return value if isinstance(value, Markup) else printable(str(value), _TEXT_LIMIT)


def _shown(text: str) -> str:
    return printable(text, _TEXT_LIMIT)


def _shipped(name: str) -> str:
    return files("abs_classify.report").joinpath(name).read_text(encoding="utf-8")


def _hex(colour: Any) -> str:
    return "#" + bytes(colour).hex()


def _pictures_text(page: ReportPage) -> str:
    """How many images have pictures, and how they were chosen; empty where all have one."""
    table = page.table
    if table is None or len(page.pictured) >= len(table):
        return ""
    if not page.pictured:
        return f"No image of {len(table):,} has a picture on this page: all of them are rows."
    order = (
        f"first those that {table.main} gets wrong, then those on which methods disagree, then others, of each kind in "
        "turn one of every true class"
        if table.truth
        else "the least sure ones"
    )
    count = f"{len(page.pictured):,} of {len(table):,} images have a picture and an explanation here"
    return f"{count}: {order}. The others are rows only."


def _picture(image: ReportImage) -> Iterator[str]:
    """The thumbnail of an image, and what is drawn and written about it, as two inert elements."""
    why = reasons(image)
    unit = max(image.size[0] / _PANEL_SIZE[0], image.size[1] / _PANEL_SIZE[1])
    heat = "" if image.attention is None else base64.b64encode(heat_png(image.attention)).decode("ascii")
    details = {
        "size": image.size,
        "unit": round(unit, 4),
        "heat": heat,
        "panels": [_panel(panel, unit) for panel in panels(image)],
        "rankings": [_ranking(ranking(prediction, image.truth)) for prediction in image.predictions],
        "why": None if why is None else _reasons(why),
    }
    pixels = base64.b64encode(jpeg(image.pixels, _LONG_SIDE)).decode("ascii")
    yield f'<script type="text/plain" id="picture-{image.position}">{pixels}</script>\n'
    yield f'<script type="application/json" id="details-{image.position}">{embedded_json(details)}</script>\n'


def _panel(panel: Panel, unit: float) -> dict[str, Any]:
    """Outlines are x, y, width and height; a marked one has its number, its side, and the place of its number too."""
    places = {outline: (x, y) for outline, x, y in tag_places(panel.marked, unit)}
    return {
        "kind": panel.kind,
        "title": _shown(panel.title),
        "note": _shown(panel.note),
        "alt": _shown(panel.alt),
        "area": None if panel.area is None else _box(panel.area),
        "faint": [_box(outline) for outline in panel.faint],
        "marked": [
            [*_box(outline), outline.number, int(outline.against), *map(_short, places[outline])]
            for outline in panel.marked
        ],
    }


def _box(outline: Outline) -> list[float]:
    return [_short(value) for value in (outline.x, outline.y, outline.width, outline.height)]


def _short(value: float) -> float:
    """To a hundredth of a pixel, without a decimal where it has none."""
    rounded = round(value, 2)
    return int(rounded) if rounded == int(rounded) else rounded


def _ranking(entry: Ranking) -> dict[str, Any]:
    return {
        "method": _shown(entry.method),
        "right": entry.right,
        "confidence": entry.confidence,
        "bars": [_bar(bar) for bar in entry.bars],
        "beyond": _shown(entry.beyond),
    }


def _reasons(why: Reasons) -> dict[str, Any]:
    return {
        "method": _shown(why.method),
        "winner": _shown(why.winner),
        "other": _shown(why.runner_up),
        "otherIsTrue": why.runner_up_is_true,
        "margin": why.margin,
        "groups": [[_shown(group.label), [_bar(bar) for bar in group.bars]] for group in why.groups],
        "views": [_bar(bar) for bar in why.views],
        "otherSentences": why.other_sentences,
        "otherViews": why.other_views,
    }


def _bar(bar: Bar) -> dict[str, Any]:
    values: dict[str, Any] = {"text": _shown(bar.text), "length": round(bar.length, 1), "value": bar.value}
    if bar.is_true:
        values["isTrue"] = True
    if bar.number:
        values["number"] = bar.number
    if bar.outline is not None:
        values["outline"] = _box(bar.outline)
    if bar.sides is not None:
        values["sides"] = bar.sides
    return values


def _results(records: Sequence[ResultRecord]) -> dict[str, Any]:
    differences = [record.details.difference for record in records if record.details.difference is not None]
    ends = [abs(end) for difference in differences for end in (difference.low, difference.high)]
    reach = max(ends, default=0.0) or 1.0
    return {
        "rows": [_result(record, reach) for record in records],
        "base": differences[0].second if differences else "",
        "reach": f"{100 * reach:.1f}",
        "images": records[0].details.top1.trials if records else 0,
    }


def _result(record: ResultRecord, reach: float) -> dict[str, Any]:
    top1, top5, difference = record.details.top1, record.details.top5, record.details.difference
    cells: dict[str, Any] = {
        "method": record.method,
        "views": record.details.method.views,
        "texts": record.texts,
        "top1": proportion_text(top1),
        "range": (100 * top1.low, 100 * top1.value, 100 * top1.high),
        "top5": "" if top5 is None else f"{100 * top5.value:.1f}",
        "recall": f"{100 * record.metrics.mean_per_class_recall:.1f}",
        "difference": None,
    }
    if difference is not None:
        better = "better" if difference.difference > 0 else "worse"
        cells["difference"] = {
            "text": difference_text(difference).replace("-", "\u2212"),
            "range": [50 + 50 * value / reach for value in (difference.low, difference.difference, difference.high)],
            "p": p_value_text(difference.p_value),
            "verdict": better if difference.conclusive else NO_DIFFERENCE,
            "conclusive": difference.conclusive,
        }
    return cells
