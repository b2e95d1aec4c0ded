"""An attribution of a gain as text for a terminal, as Markdown and as JSON values, in percentage points of top-1."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from abs_classify.evaluation.attribution import FACTORS
from abs_classify.evaluation.markup import markdown_cell
from abs_classify.evaluation.sections import MARK, TableSection
from abs_classify.evaluation.tables import p_value_text
from abs_core.result_tables import html_table
from abs_core.text import counted, printable

if TYPE_CHECKING:
    from abs_classify.evaluation.attribution import AttributionCell, ContrastEstimate, GainAttribution
    from abs_classify.evaluation.attribution_run import AttributionResults

__all__ = [
    "attribution_html",
    "attribution_markdown",
    "attribution_rows",
    "attribution_text",
    "attribution_value",
    "attribution_verdict",
]

# characters of a text in Markdown
_TEXT = 300

_NAMES = {
    "views": "guided views",
    "texts": "descriptions",
    "matching": "soft matching",
}


def attribution_text(results: AttributionResults) -> str:
    """Tables and lines for a terminal."""
    lines = [printable(f"{name} {value}") for name, value in _facts(results)]
    lines += ["", attribution_verdict(results.attribution)]
    for section in _sections(results.attribution):
        lines += ["", *section.text()]
    remarks = [text if text.startswith("warning: ") else f"note: {text}" for text in _remarks(results)]
    return "\n".join([*lines, "", *map(printable, remarks)])


def attribution_markdown(results: AttributionResults) -> str:
    """The same tables in Markdown; ends with a line feed."""
    lines = ["## Where the gain comes from", "", f"**{attribution_verdict(results.attribution)}**", ""]
    lines += [f"- {name}: {markdown_cell(value, _TEXT)}" for name, value in _facts(results)]
    for section in _sections(results.attribution):
        lines += ["", *section.markdown()]
    lines += ["", *(f"- {markdown_cell(text, _TEXT)}" for text in _remarks(results))]
    return "\n".join([*lines, ""])


def attribution_html(results: AttributionResults) -> str:
    """The same tables for a notebook, without their notes."""
    verdict = html_table(attribution_verdict(results.attribution), ("run", ""), _facts(results))
    tables = (html_table(section.title, section.header, section.body) for section in _sections(results.attribution))
    return verdict + "".join(tables)


def attribution_rows(attribution: GainAttribution) -> list[dict[str, Any]]:
    """A row for each combination, and for each control in place of the descriptions, as columns of a data frame."""
    controls = (entry.cell for entry in attribution.controls)
    return [dataclasses.asdict(cell) for cell in (*attribution.cells, *controls)]


def attribution_value(results: AttributionResults) -> dict[str, Any]:
    """JSON values with all digits; shares of images, not percentage points."""
    attribution = results.attribution
    return {
        "method": results.method,
        "bundle": results.source,
        "images": attribution.images,
        "seeds": list(results.seeds),
        "verdict": attribution_verdict(attribution),
        "cells": [dataclasses.asdict(cell) for cell in attribution.cells],
        "total": _value(attribution.total),
        "smallest_visible_total": attribution.visible,
        "contributions": [
            {
                "factor": entry.factor,
                **_value(entry.estimate),
                "least": entry.least,
                "most": entry.most,
                "share": entry.share,
            }
            for entry in attribution.contributions
        ],
        "effects": [{"factors": list(entry.factors), **_value(entry.estimate)} for entry in attribution.effects],
        "descriptions": _value(attribution.descriptions),
        "controls": [
            {
                "control": entry.control,
                "cell": dataclasses.asdict(entry.cell),
                "remaining": _value(entry.remaining),
                "meaning": _value(entry.meaning),
                "share": entry.share,
            }
            for entry in attribution.controls
        ],
        "remarks": list(results.remarks),
        "results": [record.model_dump(mode="json") for record in results.results],
    }


def _value(estimate: ContrastEstimate) -> dict[str, Any]:
    return {**dataclasses.asdict(estimate), "conclusive": estimate.is_clear}


def _facts(results: AttributionResults) -> Iterator[tuple[str, str]]:
    """What was run."""
    details = results.results[-1].details
    images = counted(results.attribution.images, "image", "images")
    yield "data set", f"{details.data.spec}: {images}, {counted(details.classes.count, 'class', 'classes')}"
    yield "descriptions", results.source
    seeds = ", ".join(map(str, results.seeds))
    word = "seed" if len(results.seeds) == 1 else "seeds"
    yield "method", f"{results.method}: {details.method.views}; model {details.weights.name}, {word} {seeds}"


def attribution_verdict(attribution: GainAttribution) -> str:
    """A sentence that says what may be claimed."""
    total = attribution.total
    gain = f"guided views, descriptions and soft matching together: {_difference(total)} points of top-1"
    if not total.is_clear:
        images = counted(attribution.images, "image", "images")
        shows = f"{images} would show {100 * attribution.visible:.1f} points in four of five tries"
        if attribution.visible >= 1:
            shows = f"{images}, on so few of which the two differ, can show no gain"
        return f"{gain}; that is no clear gain or loss, so no share of it is claimed. {shows}"
    parts = [
        f"{_NAMES[entry.factor]} {_share(entry.share)}{'' if entry.estimate.is_clear else ' (not clear)'}"
        for entry in attribution.contributions
    ]
    return f"{gain}, of which {parts[0]}, {parts[1]} and {parts[2]}"


def _sections(attribution: GainAttribution) -> Iterator[TableSection]:
    yield TableSection(
        "all combinations, on the same images",
        [*FACTORS, "top-1 % [95 %]"],
        [[cell.views, cell.texts, cell.matching, _top1(cell)] for cell in attribution.cells],
        3,
        [],
    )
    yield _contributions(attribution)
    yield TableSection(
        "main effects and interactions",
        ["effect", "points [95 %]", "p"],
        [
            [" x ".join(entry.factors), _marked(entry.estimate), p_value_text(entry.estimate.p_value)]
            for entry in attribution.effects
        ],
        1,
        [
            "a main effect is the mean gain over the combinations of the other two; an interaction is half of what one "
            "factor changes in the gain of another",
        ],
    )
    yield _controls(attribution)


def _contributions(attribution: GainAttribution) -> TableSection:
    is_clear = attribution.total.is_clear
    shares = ["share"] if is_clear else []
    body = [
        [
            _NAMES[entry.factor],
            _marked(entry.estimate),
            p_value_text(entry.estimate.p_value),
            f"{_points(entry.least)} to {_points(entry.most)}",
            *([_share(entry.share)] if is_clear else []),
        ]
        for entry in attribution.contributions
    ]
    total = attribution.total
    body.append(["total", _marked(total), p_value_text(total.p_value), "", *(["100 %"] if is_clear else [])])
    return TableSection(
        "where the total gain comes from",
        ["factor", "points [95 %]", "p", "by order", *shares],
        body,
        1,
        [
            "the points of a factor are its Shapley value: its gain when it is switched on, averaged over the 6 orders "
            "of switching on all three; they add up to the total. By order: the least and the largest of these gains",
        ],
    )


def _controls(attribution: GainAttribution) -> TableSection:
    gain = attribution.descriptions
    names = attribution.cells[5]
    full = attribution.cells[7]
    shares = ["remains"] if gain.is_clear else []
    left = ["100 %"] if gain.is_clear else []
    body = [
        ["class names", _top1(names), "", "", *([""] if gain.is_clear else []), "", ""],
        ["descriptions", _top1(full), _marked(gain), p_value_text(gain.p_value), *left, "", ""],
    ]
    body += [
        [
            entry.control,
            _top1(entry.cell),
            _marked(entry.remaining),
            p_value_text(entry.remaining.p_value),
            *([_share(entry.share)] if gain.is_clear else []),
            _marked(entry.meaning),
            p_value_text(entry.meaning.p_value),
        ]
        for entry in attribution.controls
    ]
    unclear = [] if gain.is_clear else ["the gain of the descriptions is not clear, so nothing is said of its shares"]
    return TableSection(
        "other texts in place of the descriptions, with guided views and soft matching",
        ["texts", "top-1 % [95 %]", "over class names", "p", *shares, "descriptions over it", "p"],
        body,
        1,
        [
            *unclear,
            "shuffle and swap keep the sentences and change whose they are; waffle keeps their number only. What they "
            "win over class names does not come from what the descriptions say of a class",
        ],
    )


def _remarks(results: AttributionResults) -> list[str]:
    several = len(results.seeds) > 1
    intervals = (
        "95 % intervals: images and seeds as crossed random effects, Student's t"
        if several
        else "95 % intervals, for other images and this seed: Wilson and Newcombe (paired), Student's t for "
        "contributions and effects"
    )
    return [f"{intervals}; each for itself. p: corrected by Holm within each table but for totals", *results.remarks]


def _top1(cell: AttributionCell) -> str:
    return f"{100 * cell.top1:.1f} [{100 * cell.low:.1f}, {100 * cell.high:.1f}]"


def _difference(estimate: ContrastEstimate) -> str:
    return f"{_points(estimate.value)} [{_points(estimate.low)}, {_points(estimate.high)}]"


def _marked(estimate: ContrastEstimate) -> str:
    return _difference(estimate) + ("  " if estimate.is_clear else f" {MARK}")


def _points(share: float) -> str:
    points = round(100 * share, 1)
    return f"{points:+.1f}" if points else "0.0"


def _share(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"
