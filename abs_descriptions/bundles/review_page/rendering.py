"""The page for a browser on which decisions are marked and saved as the CSV of ``review_file``. Pure.

It loads nothing and sends nothing: styles and script are inline and allowed by their hashes, photos are data: URIs, and
a content security policy forbids the rest. Its data is JSON, of which the scripts show every string as text; what could
hide or move other text comes with the form of ``printable`` beside it. It needs no package beyond those of bundles,
because a review happens where descriptions are written, without the classifier.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from itertools import groupby
from operator import attrgetter
from string import Template
from typing import Any

from abs_core.bundle_scores import BundleScores, ClassScore, NetGain, PulledImages, SentenceScore
from abs_core.descriptions import Description
from abs_core.labels import ClassLabel
from abs_core.text import counted, printable, visible_cell
from abs_core.web_page import embedded_json, inline_hash, page_text_script
from abs_descriptions.bundles.format import MAX_TEXT, BundleHeader
from abs_descriptions.bundles.review_file import row_id

__all__ = ["render_review_page"]

_SCRIPTS = (
    "decisions.js",
    "virtual_list.js",
    "rows.js",
    "review_file.js",
    "listing.js",
    "status.js",
    "editing.js",
    "page.js",
)

# Of one sentence, and of one list of other classes; the page shows one class less, and that there are more.
_MAX_EXAMPLES = 8
_MAX_OTHERS = 5

# Of all photos on a page, in base64: what a mail program takes, and a browser opens at once.
_MAX_PHOTO_CHARACTERS = 20_000_000


def render_review_page(
    reference: str, header: BundleHeader, records: Iterable[Description], scores: BundleScores | None = None
) -> Iterator[str]:
    """The page, block by block.

    Args:
        reference: pinned, of the bundle.
        header: of the bundle.
        records: of the bundle, grouped by class.
        scores: of the same bundle, shown beside its sentences.
    """
    style = _shipped("page.css")
    script = "\n".join([page_text_script(), *map(_shipped, _SCRIPTS)])
    policy = (
        f"default-src 'none'; img-src data:; style-src '{inline_hash(style)}'; script-src '{inline_hash(script)}'; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    head, _, tail = _shipped("page.html").partition("$data")
    values = {
        "policy": policy,
        "title": escape(printable(f"{header.name} {header.version}")),
        "reference": escape(printable(reference)),
        "style": style,
        "script": script,
    }
    yield Template(head).substitute(values)
    places = {label.id: place for place, label in enumerate(header.label_set.classes)}
    data = {
        "bundle": reference,
        "digest": reference.rpartition("#")[2],
        "file": f"{header.name}-{header.version}-decisions",
        "max_text": MAX_TEXT,
        "scores": None if scores is None else _scores(scores, places),
    }
    yield embedded_json(data).removesuffix("}") + ', "classes": ['
    yield from _classes(header.label_set.classes, records, places, scores)
    yield "]}" + Template(tail).substitute(values)


def _classes(
    labels: Iterable[ClassLabel], records: Iterable[Description], places: Mapping[str, int], scores: BundleScores | None
) -> Iterator[str]:
    """Every class with its sentences, also those that have none: a reviewer may add one."""
    class_scores = {} if scores is None else {score.class_id: score for score in scores.classes}
    sentence_scores = {} if scores is None else scores.by_sentence
    groups = groupby(records, key=attrgetter("class_id"))
    class_id, group = next(groups, ("", iter(())))
    for place, label in enumerate(labels):
        rows: list[Any] = []
        if class_id == label.id:
            rows = [_row(record, sentence_scores.get((class_id, record.text)), places) for record in group]
            class_id, group = next(groups, ("", iter(())))
        value: dict[str, Any] = {"id": label.id, "name": label.name, "rows": rows}
        value |= _shown("shown", label.name)
        if label.note:
            value["note"] = printable(label.note)
        if label.id in class_scores:
            value["score"] = _class_score(class_scores[label.id], places)
        yield ("," if place else "") + "\n" + embedded_json(value)


def _row(record: Description, score: SentenceScore | None, places: Mapping[str, int]) -> list[Any]:
    """Row id and text, and what is not as usual: another kind, a text that would hide or reorder itself, a score."""
    more: dict[str, Any] = _shown("shown", record.text)
    if more:
        more["cell"] = visible_cell(record.text)
    if record.kind != "sentence":
        more["kind"] = record.kind
    if score is not None:
        more["score"] = _sentence_score(score, places)
    return [row_id(record), record.text, more] if more else [row_id(record), record.text]


def _shown(key: str, text: str) -> dict[str, str]:
    shown = printable(text)
    return {} if shown == text else {key: shown}


def _sentence_score(score: SentenceScore, places: Mapping[str, int]) -> dict[str, Any]:
    return {
        "only": score.is_only,
        "gain": _gain(score.gain),
        "margin": score.margin,
        "changed": score.changed,
        "usage": score.usage,
        "pulled": _pulled(score.pulled, places),
        "examples": score.examples[:_MAX_EXAMPLES],
    }


def _class_score(score: ClassScore, places: Mapping[str, int]) -> dict[str, Any]:
    return {
        "images": score.images,
        "right": score.right,
        "over_name": _gain(score.over_name),
        "confused": _pulled(score.confused, places),
    }


def _gain(gain: NetGain | None) -> dict[str, Any] | None:
    if gain is None:
        return None
    bounds = {"low": gain.interval.low, "high": gain.interval.high}
    return {"won": gain.won, "lost": gain.lost, "images": gain.images, "points": gain.points, **bounds}


def _pulled(pulled: Sequence[PulledImages], places: Mapping[str, int]) -> list[list[int]]:
    return [[places.get(entry.class_id, -1), entry.images] for entry in pulled[:_MAX_OTHERS]]


def _scores(scores: BundleScores, places: Mapping[str, int]) -> dict[str, Any]:
    photos, left_out = _photos(scores)
    examples = [
        {
            "path": printable(example.path),
            "truth": None if example.true_class is None else places.get(example.true_class, -1),
            "label": places.get(example.label, -1),
            "image": photos[place],
        }
        if place in photos
        else None
        for place, example in enumerate(scores.examples)
    ]
    share = 100 * (scores.right or 0) / max(1, scores.images)
    right = "" if scores.right is None else f", {scores.right} right ({share:.1f} %)"
    facts = {
        "Images": f"{counted(scores.images, 'image', 'images')} of {printable(scores.source)}{right}",
        "Method": printable(scores.method),
        "Model": printable(scores.model),
        "Created": printable(scores.created),
    }
    remarks = [printable(remark) for remark in scores.remarks]
    if left_out:
        remarks.append(f"{counted(left_out, 'photo is', 'photos are')} left out, so that the page stays small.")
    return {"has_truth": scores.has_truth, "facts": list(facts.items()), "remarks": remarks, "examples": examples}


def _photos(scores: BundleScores) -> tuple[dict[int, str], int]:
    """Thumbnails by place, those of the costliest sentences first; how many would make the page too large."""
    photos: dict[int, str] = {}
    ordered = sorted(scores.sentences, key=lambda score: score.gain.points if score.gain else 0.0)
    room, left_out = _MAX_PHOTO_CHARACTERS, 0
    for place in dict.fromkeys(place for score in ordered for place in score.examples[:_MAX_EXAMPLES]):
        thumbnail = scores.examples[place].thumbnail
        if len(thumbnail) > room:
            left_out += 1
        elif thumbnail:
            photos[place] = thumbnail
            room -= len(thumbnail)
    return photos, left_out


def _shipped(name: str) -> str:
    return files("abs_descriptions.bundles.review_page").joinpath(name).read_text(encoding="utf-8")
