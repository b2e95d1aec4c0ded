"""Folders of labelling runs for tests, with real images, and rows that no model made."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from image_files import encode
from PIL import Image

from abs_classify.labelling.label_folder import LabelFolder
from abs_classify.labelling.locations import ImageLocation
from abs_classify.labelling.rows import ClassConfidence, LabelRow, Status
from abs_core.labels import ClassLabel

__all__ = ["CLASSES", "folder_of_confidences", "labelled_folder", "true_class"]

CLASSES = (ClassLabel("cat", "cat"), ClassLabel("dog", "dog"), ClassLabel("red_fox", "red fox"))


def labelled_folder(
    place: Path,
    count: int = 12,
    *,
    classes: tuple[ClassLabel, ...] = CLASSES,
    unreadable: int = 0,
    copies: int = 0,
    with_files: bool = True,
    threshold: float = 0.5,
) -> LabelFolder:
    """A folder ``labelled`` in ``place``, of the photos in ``photos`` beside it.

    The name of a photo begins with the id of its class, see ``true_class``. The higher the confidence of a label, the
    likelier it is right. Behind the photos come copies of the first ones, then files that are no images.

    Args:
        place: a folder.
        count: of photos, each of other pixels.
        classes: at least two.
        unreadable: how many files are no images.
        copies: how many of the photos have a copy.
        with_files: whether the photos are there; rows are all that there is of a hundred thousand.
        threshold: the confidence below which a label is doubtful.
    """
    photos = place / "photos"
    photos.mkdir(parents=True, exist_ok=True)
    numbers = random.Random(0)
    entries: list[tuple[bytes, str, LabelRow]] = []
    for index in range(count):
        truth = index % len(classes)
        path = photos / f"{classes[truth].id}-{index:06}.jpg"
        data = _photo(index, truth) if with_files else str(index).encode()
        if with_files:
            path.write_bytes(data)
        entries.append(_entry(path, data, _ranking(truth, len(classes), numbers), threshold))
    for index in range(copies):
        original = Path(entries[index][2].path)
        path = original.with_name(f"{original.stem}-copy.jpg")
        data = original.read_bytes() if with_files else str(index).encode()
        if with_files:
            path.write_bytes(data)
        entries.append(_entry(path, data, entries[index][2].ranking, threshold))
    for index in range(unreadable):
        path = photos / f"broken-{index:06}.jpg"
        path.write_bytes(b"no image")
        row = LabelRow(str(path), "failed", reason="not an image", location=ImageLocation(path))
        entries.append((bytes(path), "1", row))
    folder = LabelFolder.create(place / "labelled", classes, {"model": "none", "threshold": threshold})
    folder.prepare()
    folder.store(entries)
    return folder


def true_class(row: LabelRow) -> str:
    """The id of the class that a photo shows."""
    return Path(row.path).name.split("-")[0]


def _photo(index: int, truth: int) -> bytes:
    """A small JPEG file, different for each index, of the colour of its class."""
    pixels = np.random.default_rng(index).integers(0, 90, (12, 16, 3))
    pixels[..., truth % 3] += 150
    return encode(Image.fromarray(pixels.astype(np.uint8)), "JPEG", quality=90)


def _ranking(truth: int, classes: int, numbers: random.Random) -> tuple[ClassConfidence, ...]:
    confidence = numbers.uniform(1 / classes, 1)
    others = [position for position in range(classes) if position != truth]
    numbers.shuffle(others)
    order = [truth, *others] if numbers.random() < confidence else [others[0], truth, *others[1:]]
    rest = (1 - confidence) * min(1.0, confidence / (1 - confidence)) * 0.9
    return tuple(
        ClassConfidence(position, confidence if place == 0 else rest * 0.5**place)
        for place, position in enumerate(order[:5])
    )


def _entry(
    path: Path, data: bytes, ranking: tuple[ClassConfidence, ...], threshold: float
) -> tuple[bytes, str, LabelRow]:
    is_doubtful = ranking[0].confidence < threshold
    status: Status = "doubtful" if is_doubtful else "labelled"
    row = LabelRow(
        str(path),
        status,
        ranking,
        reason=f"confidence below {threshold}" if is_doubtful else "",
        image_id="sha256:" + hashlib.sha256(data).hexdigest(),
        location=ImageLocation(path),
    )
    return bytes(path), "1", row


def folder_of_confidences(
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
            image_id="" if confidence < 0 else f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}",
            location=ImageLocation(file),
        )
        entries.append((str(file).encode(), "stamp", row))
    folder.store(entries)
    return folder
