"""A comparison of two versions of a bundle as text for a terminal, as Markdown for a merge request, and as JSON values.

Text from outside is made harmless: nothing that a terminal would obey, nothing that Markdown would read as markup, as a
link or as a name to notify.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from abs_classify.evaluation.markup import markdown_cell
from abs_classify.evaluation.tables import aligned, difference_text, p_value_text, proportion_text
from abs_core.text import counted, printable

if TYPE_CHECKING:
    from abs_classify.evaluation.bundle_comparison import BundleComparison, ClassComparison, SentenceComparison
    from abs_classify.evaluation.metrics import PairedComparison

__all__ = ["class_value", "summary_markdown", "summary_text", "summary_value"]

# how many classes and sentences a summary names
_CLASSES, _SENTENCES = 15, 20

# characters of a text on a terminal
_TEXT = 300

# characters of a summary in Markdown: a comment of GitHub holds 65,536
_ROOM = 60_000

_NOT_CORRECTED = (
    "intervals of single classes and sentences are 95 % each and not corrected for their number: of 100 without any "
    "effect about 5 leave out 0 by chance. The gain over all images decides; the rest says where to look"
)
_ALONE = "won alone: over all images, NEW against NEW without this change; gains of single changes do not add up"


def summary_text(comparison: BundleComparison) -> str:
    """Tables and lines for a terminal."""
    lines = [printable(f"OLD {comparison.old}"), printable(f"NEW {comparison.new}")]
    gain, results = comparison.gain, comparison.results
    if gain is None or results is None:
        return "\n".join([*lines, comparison.verdict])
    lines += [printable(f"{name} {value}") for name, value in _facts(comparison)]
    lines += ["", *_gain_lines(comparison, gain), "", comparison.verdict]
    for title, classes in _class_groups(comparison):
        header, body = _class_table(classes)
        rows = [[entry.name, *cells] for entry, cells in zip(classes, body, strict=True)]
        lines += ["", f"{title}:", *aligned(header, rows, 1)]
    for title, sentences in _sentence_groups(comparison):
        lines += ["", f"{title}:", *(line for entry in sentences for line in _sentence_lines(comparison, entry))]
    lines += ["", *(printable(_line(text)) for text in _notes(comparison))]
    return "\n".join(lines)


def summary_markdown(comparison: BundleComparison) -> str:
    """A section of a merge request, in the Markdown that GitHub and GitLab share; ends with a line feed."""
    mark = "✅" if comparison.passed else "❌"
    lines = ["## Test of the descriptions", "", f"{mark} **{_sentence(comparison.verdict)}**", ""]
    lines += [
        f"- {name}: {markdown_cell(value, _TEXT)}" for name, value in (("old", comparison.old), ("new", comparison.new))
    ]
    gain, results = comparison.gain, comparison.results
    if gain is None or results is None:
        return "\n".join([*lines, ""])
    lines += [f"- {name}: {markdown_cell(value, _TEXT)}" for name, value in _facts(comparison)]
    top1 = [record.details.top1 for record in results]
    lines += [
        "",
        "| | top-1 % [95 %] | right |",
        "|:--|--:|--:|",
        *(
            f"| {name} | {proportion_text(share)} | {share.successes} of {share.trials} |"
            for name, share in zip(("old", "new"), top1, strict=True)
        ),
        f"| **gain** | **{difference_text(gain)}** | {_won_lost(gain)} |",
    ]
    for title, classes in _class_groups(comparison):
        header, body = _class_table(classes)
        lines += ["", f"### {_sentence(title)}", "", *_table(header, left=1)]
        lines += [_row([markdown_cell(entry.name), *cells]) for entry, cells in zip(classes, body, strict=True)]
    for title, sentences in _sentence_groups(comparison):
        lines += ["", f"### {_sentence(title)}", "", *_table(["class", "change", "sentence", *_ALONE_HEADER], left=3)]
        lines += [_row(_sentence_cells(comparison, entry)) for entry in sentences]
    lines += ["", "<details><summary>Remarks</summary>", ""]
    notes = [f"- {markdown_cell(note, _TEXT)}" for note in _notes(comparison)]
    sizes = itertools.accumulate((len(note) + 1 for note in notes), initial=sum(len(line) + 1 for line in lines))
    kept = sum(size <= _ROOM for size in sizes) - 1
    beyond = [f"- {len(notes) - kept} more remarks, see --json"] if kept < len(notes) else []
    return "\n".join([*lines, *notes[:kept], *beyond, "", "</details>", ""])


def summary_value(comparison: BundleComparison) -> dict[str, Any]:
    """JSON values: all classes and changed sentences, with all digits."""
    return {
        "old": comparison.old,
        "new": comparison.new,
        "passed": comparison.passed,
        "verdict": comparison.verdict,
        "criteria": dataclasses.asdict(comparison.criteria),
        "gain": _gain_value(comparison.gain),
        "classes": [class_value(entry) for entry in comparison.classes],
        "sentences": [_sentence_value(entry) for entry in comparison.sentences],
        "remarks": list(comparison.remarks),
        "results": [record.model_dump(mode="json") for record in comparison.results or ()],
    }


def _gain_value(gain: PairedComparison | None) -> dict[str, Any] | None:
    if gain is None:
        return None
    return {
        "images": gain.images,
        "right_before": gain.both + gain.second_only,
        "right_after": gain.both + gain.first_only,
        "won": gain.first_only,
        "lost": gain.second_only,
        "points": 100 * gain.difference,
        "low": 100 * gain.low,
        "high": 100 * gain.high,
        "p_value": gain.p_value,
    }


def class_value(entry: ClassComparison) -> dict[str, Any]:
    """What the change did to a class, as JSON values; gains in points of top-1."""
    return {
        "class": entry.class_id,
        "name": entry.name,
        "added": entry.added,
        "removed": entry.removed,
        "edited": entry.edited,
        "gain": _gain_value(entry.gain),
        "alone": _gain_value(entry.alone),
        "lost_to": [{"class": class_id, "images": images} for class_id, images in entry.lost_to],
    }


def _sentence_value(entry: SentenceComparison) -> dict[str, Any]:
    old, new = entry.change.old, entry.change.new
    return {
        "class": entry.change.class_id,
        "change": entry.change.kind,
        "old": None if old is None else old.text,
        "new": None if new is None else new.text,
        "edited_by": None if new is None else new.provenance.edited_by,
        "alone": _gain_value(entry.alone),
        "relabelled": entry.relabelled,
        "is_only": entry.is_only,
    }


def _facts(comparison: BundleComparison) -> Iterator[tuple[str, str]]:
    """What was run."""
    assert comparison.results is not None  # the callers asked
    record = comparison.results[1]
    details = record.details
    images = counted(details.data.images, "image", "images")
    yield "data set", f"{details.data.spec}: {images}, {counted(details.classes.count, 'class', 'classes')}"
    seed = details.seeds.seeds[0]
    yield "method", f"{record.method}: {details.method.views}; model {details.weights.name}, seed {seed}"


def _gain_lines(comparison: BundleComparison, gain: PairedComparison) -> list[str]:
    assert comparison.results is not None  # the callers asked
    top1 = [record.details.top1 for record in comparison.results]
    body = [
        [name, proportion_text(share), f"{share.successes} of {share.trials}"]
        for name, share in zip(("old", "new"), top1, strict=True)
    ]
    return aligned(["", "top-1 % [95 %]", "right"], [*body, ["gain", difference_text(gain), _won_lost(gain)]], 1)


def _won_lost(gain: PairedComparison) -> str:
    p = p_value_text(gain.p_value)
    return f"{gain.first_only} won, {gain.second_only} lost, p {'< ' + p[1:] if p[0] == '<' else '= ' + p}"


_CLASS_HEADER = ("change", "won alone [95 %]", "images", "right before", "after", "won", "lost", "gain [95 %]")
_OF_CHANGES = 2  # the first columns, which say something of classes that changed
_ALONE_HEADER = ("won", "lost", "won alone [95 %]")


def _class_groups(comparison: BundleComparison) -> Iterator[tuple[str, Sequence[ClassComparison]]]:
    """The changed classes, those first that cost or win most alone; and the others whose own images did."""
    changed = [entry for entry in comparison.classes if entry.is_changed]
    moved = [
        entry
        for entry in comparison.classes
        if entry.gain and entry.gain.first_only + entry.gain.second_only and not entry.is_changed
    ]
    for title, classes in (("classes that changed", changed), ("other classes that won or lost images", moved)):
        if classes:
            ranked = sorted(classes, key=_class_rank)
            yield _titled(title, len(ranked), _CLASSES), ranked[:_CLASSES]


def _moved(entry: ClassComparison) -> int:
    """How many of its own images are right in one of the two versions only."""
    return 0 if entry.gain is None else entry.gain.first_only + entry.gain.second_only


def _titled(title: str, total: int, shown: int) -> str:
    return title if total <= shown else f"{title}, {shown} of {total}"


def _class_rank(entry: ClassComparison) -> tuple[float, ...]:
    """What moves most comes first, losses before gains."""
    alone = entry.alone or entry.gain
    if alone is None:
        return (0.0,)
    net, moved = alone.first_only - alone.second_only, alone.first_only + alone.second_only
    return -abs(net), net, -moved


def _class_table(classes: Sequence[ClassComparison]) -> tuple[list[str], list[list[str]]]:
    """The header, and the cells after the name of each class; what changed only of classes that changed."""
    first = 0 if any(entry.is_changed for entry in classes) else _OF_CHANGES
    return ["class", *_CLASS_HEADER[first:]], [_class_cells(entry)[first:] for entry in classes]


def _class_cells(entry: ClassComparison) -> list[str]:
    change = " ".join(
        f"{sign}{count}" for sign, count in (("+", entry.added), ("-", entry.removed), ("~", entry.edited)) if count
    )
    alone = "" if entry.alone is None else difference_text(entry.alone)
    gain = entry.gain
    if gain is None:
        return [change, alone, "0", "", "", "", "", ""]
    before, after = gain.both + gain.second_only, gain.both + gain.first_only
    counts = map(str, (gain.images, before, after, gain.first_only, gain.second_only))
    return [change, alone, *counts, difference_text(gain)]


def _sentence_groups(comparison: BundleComparison) -> Iterator[tuple[str, Sequence[SentenceComparison]]]:
    """The changed sentences, those first that cost or win most alone."""
    if comparison.sentences:
        ranked = sorted(comparison.sentences, key=_sentence_rank)
        yield _titled("sentences that changed", len(ranked), _SENTENCES), ranked[:_SENTENCES]


def _sentence_rank(entry: SentenceComparison) -> tuple[float, ...]:
    if entry.alone is None:
        return (1.0,)
    net = entry.alone.first_only - entry.alone.second_only
    return -abs(net), net, -(entry.relabelled or 0)


def _alone_cells(entry: SentenceComparison) -> list[str]:
    if entry.alone is None:
        return ["", "", "the only sentence" if entry.is_only else ""]
    return [str(entry.alone.first_only), str(entry.alone.second_only), difference_text(entry.alone)]


def _sentence_lines(comparison: BundleComparison, entry: SentenceComparison) -> Iterator[str]:
    name = _name(comparison, entry.change.class_id)
    won, lost, interval = _alone_cells(entry)
    alone = f"{won} won, {lost} lost, {interval}" if won else interval or "not undone alone"
    yield printable(f"  {name}: {alone}")
    if entry.change.old is not None:
        yield f"    - {printable(entry.change.old.text, _TEXT)}"
    if entry.change.new is not None:
        yield f"    + {printable(entry.change.new.text, _TEXT)}"


def _sentence_cells(comparison: BundleComparison, entry: SentenceComparison) -> list[str]:
    texts = [markdown_cell(text) for text in entry.change.texts]
    shown = texts[0] if len(texts) == 1 else f"<del>{texts[0]}</del><br><ins>{texts[1]}</ins>"
    return [markdown_cell(_name(comparison, entry.change.class_id)), entry.change.kind, shown, *_alone_cells(entry)]


def _name(comparison: BundleComparison, class_id: str) -> str:
    return next(entry.name for entry in comparison.classes if entry.class_id == class_id)


def _line(remark: str) -> str:
    return remark if remark.startswith("warning: ") else f"note: {remark}"


def _notes(comparison: BundleComparison) -> list[str]:
    """What must be said beside the tables."""
    taken = [
        f"{entry.name} lost {counted(images, 'image', 'images')} to {_name(comparison, class_id)}"
        for entry in sorted(comparison.classes, key=_class_rank)[:_CLASSES]
        for class_id, images in entry.lost_to[:1]
    ]
    return [*taken, _ALONE, _NOT_CORRECTED, *comparison.remarks]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _table(header: Sequence[str], left: int) -> list[str]:
    return [_row(header), "|" + "|".join(":--" if place < left else "--:" for place in range(len(header))) + "|"]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
