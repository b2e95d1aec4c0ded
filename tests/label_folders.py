"""Folders of labelling runs for tests: real images, rows made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from image_files import encode
from PIL import Image

from abs_classify.labelling.label_folder import LabelFolder
from abs_classify.labelling.locations import ImageLocation
from abs_classify.labelling.rows import ClassConfidence, LabelRow
from abs_core.canonical import sha256_bytes
from abs_core.labels import ClassLabel

__all__ = ["labelled_folder"]


def labelled_folder(
    path: Path,
    confidences: Sequence[float],
    *,
    classes: Sequence[str] = ("cat", "dog", "eel"),
    names: Sequence[str] = (),
) -> LabelFolder:
    """The folder of a run over images of one colour each, the label of image i the class i modulo their number.

    Args:
        path: the folder; the images are in ``images`` beside it.
        confidences: of the images; below a half they are doubtful, below zero they cannot be read.
        classes: names of the classes, whose ids are ``c0``, ``c1``, ...
        names: how the images are called, of as many as there are; the rest have numbers.
    """
    folder = LabelFolder.create(path, [ClassLabel(f"c{number}", name) for number, name in enumerate(classes)], {})
    images = path.parent / "images"
    images.mkdir(exist_ok=True)
    entries = []
    for number, confidence in enumerate(confidences):
        file = images / f"{number:04}.png"
        file.write_bytes(encode(Image.new("RGB", (48, 36), (number % 251, number // 251 % 251, 90)), "PNG"))
        shown = names[number] if number < len(names) else f"images/{number:04}.png"
        label, count = number % len(classes), len(classes)
        ranking = (
            ClassConfidence(label, confidence),
            ClassConfidence((label + 1) % count, (1 - confidence) * 0.6),
            ClassConfidence((label + 2) % count, (1 - confidence) * 0.4),
        )
        row = LabelRow(
            shown,
            "failed" if confidence < 0 else "doubtful" if confidence < 0.5 else "labelled",
            () if confidence < 0 else ranking,
            reason="" if confidence >= 0.5 else "cut off" if confidence < 0 else "its confidence is below 0.5",
            image_id="" if confidence < 0 else sha256_bytes(file.read_bytes()),
            location=ImageLocation(file),
        )
        entries.append((str(file).encode(), "stamp", row))
    folder.store(entries)
    return folder
