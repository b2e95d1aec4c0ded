"""The page of a bundle's scores: classes, sentences and photos in one HTML file that loads and sends nothing.

Styles and the script are inline and allowed by their hashes, photos are data: URIs, and a content security policy
forbids the rest. The scores are JSON inside the page, which shows 50 sentences at a time, whatever their number.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from abs_core.bundle_scores import BundleScores, ClassScore, ExampleImage, NetGain, PulledImages, SentenceScore
from abs_core.files import atomic_write
from abs_core.text import printable
from abs_core.web_page import embedded_json, inline_hash, page_text_script

__all__ = ["page_text", "write_score_page"]

_READING = (
    "A sentence is compared with leaving it out: every image is classified with it and without it, all else as it is. "
    "Gains of single sentences do not add up.",
    "Points are of top-1 over all images. Intervals are 95 % each, paired by image, and not corrected for their "
    "number: of many without any effect, some leave out 0 by chance. Confirm on other images what is chosen here.",
    "The margin is by how much a sentence raises its own class above the best other one, the mean over the images of "
    "its class, in units of the method's score. Usage is its share of the weight of all sentences.",
)
_WITHOUT_TRUTH = (
    "The true classes are not known, so nothing is won or lost: usage, labels that change without a sentence, and the "
    "class that comes second are what the images alone tell."
)


def write_score_page(scores: BundleScores, path: Path) -> None:
    """Write the page, whole or not at all; a file there is replaced.

    Raises:
        StorageError: it cannot be written.
    """
    page = page_text(scores).encode()
    with atomic_write(path) as stream:
        stream.write(page)


def page_text(scores: BundleScores) -> str:
    """The page as text."""
    style, scripts = _shipped("score_page.css"), (page_text_script(), _shipped("score_page.js"))
    hashes = " ".join(f"'{inline_hash(script)}'" for script in scripts)
    policy = (
        f"default-src 'none'; img-src data:; style-src '{inline_hash(style)}'; script-src {hashes}; "
        "base-uri 'none'; form-action 'none'"
    )
    head, _, rest = _shipped("score_page.html").partition("<!--style-->")
    body, _, tail = rest.partition("<!--data-->")
    meta = f'<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{policy}">'
    head = head.replace('<meta charset="utf-8">', meta, 1)
    data = f'<script type="application/json" id="data">{embedded_json(_content(scores))}</script>\n'
    inline = data + "".join(f"<script>{script}</script>\n" for script in scripts)
    return f"{head}<style>{style}</style>{body}{inline}{tail}"


class _Names:
    """Numbers classes: those of the bundle in its order, then ids that only sentences or images name."""

    def __init__(self, scores: BundleScores) -> None:
        self.names = [printable(entry.name) for entry in scores.classes]
        self._positions = {entry.class_id: position for position, entry in enumerate(scores.classes)}

    def position(self, class_id: str) -> int:
        """The number of a class."""
        if class_id not in self._positions:
            self._positions[class_id] = len(self.names)
            self.names.append(printable(class_id))
        return self._positions[class_id]

    def counts(self, parts: tuple[PulledImages, ...]) -> list[list[int]]:
        """Pairs of a class's number and how many images."""
        return [[self.position(part.class_id), part.images] for part in parts]


def _content(scores: BundleScores) -> dict[str, Any]:
    """What the script reads: rows as lists, since there may be very many."""
    names = _Names(scores)
    reading = _READING if scores.has_truth else (_WITHOUT_TRUTH, _READING[2])
    return {
        "bundle": printable(scores.bundle),
        "source": printable(scores.source),
        "method": printable(scores.method),
        "model": printable(scores.model),
        "created": printable(scores.created),
        "truth": scores.has_truth,
        "images": scores.images,
        "right": scores.right,
        "remarks": [*map(printable, scores.remarks), *reading],
        "classes": [_class(entry, names) for entry in scores.classes],
        "sentences": [_sentence(entry, names) for entry in scores.sentences],
        "examples": [_example(entry, names) for entry in scores.examples],
        "names": names.names,
    }


def _class(entry: ClassScore, names: _Names) -> list[Any]:
    return [printable(entry.class_id), entry.images, entry.right, _gain(entry.over_name), names.counts(entry.confused)]


def _sentence(entry: SentenceScore, names: _Names) -> list[Any]:
    return [
        names.position(entry.class_id),
        printable(entry.text),
        entry.is_only,
        _gain(entry.gain),
        None if entry.margin is None else _short(entry.margin),
        entry.changed,
        _short(entry.usage),
        names.counts(entry.pulled),
        list(entry.examples),
    ]


def _example(entry: ExampleImage, names: _Names) -> list[Any]:
    truth = None if entry.true_class is None else names.position(entry.true_class)
    return [printable(entry.path), truth, names.position(entry.label), entry.thumbnail]


def _gain(gain: NetGain | None) -> list[Any] | None:
    if gain is None:
        return None
    return [gain.won, gain.lost, gain.images, _short(gain.interval.low), _short(gain.interval.high)]


def _short(value: float) -> float:
    """Enough digits to show and to sort by."""
    return float(f"{value:.6g}")


def _shipped(name: str) -> str:
    return files("abs_classify.report").joinpath(name).read_text(encoding="utf-8")
