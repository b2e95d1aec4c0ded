"""Folders of labelling runs without a model, for tests of what is exported of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from image_files import picture

from abs_classify.labelling.decisions import DecisionLog, ReviewDecision
from abs_classify.labelling.label_folder import LabelFolder
from abs_classify.labelling.locations import ImageLocation
from abs_classify.labelling.rows import ClassConfidence, LabelRow, Status
from abs_core.labels import ClassLabel

__all__ = ["CLASSES", "HOSTILE_CLASSES", "HOSTILE_NAMES", "decide", "image_id", "make_run", "row", "save_photos"]

CLASSES = (ClassLabel("cat", "Katze"), ClassLabel("dog", "dog & <co>"), ClassLabel("owl", "owl"))

HOSTILE_CLASSES = (
    ClassLabel("con", "CON"),
    ClassLabel("dots", "../.."),
    ClassLabel("slash", "a/b\\c"),
    ClassLabel("markup", "\"<&'>]]>"),
    ClassLabel("formula", "=1+1"),
    ClassLabel("lower", "con"),
    ClassLabel("long", "long " * 60),
)

#: as file systems allow them
HOSTILE_NAMES = (
    "a b&<c>'\".jpg",
    "=cmd|x.jpg",
    "100%#?.jpg",
    "ünïcode 猫.jpg",
    "line\nfeed.jpg",
    "rtl\u202egpj.jpg",
    "bytes\udcff.jpg",
    "no ending",
    "a.b.c.jpg",
    "bell\x07.jpg",
)


def image_id(path: str) -> str:
    return "sha256:" + hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()


def save_photos(folder: Path, names: Sequence[str], size: tuple[int, int] = (60, 40)) -> list[Path]:
    """Write JPEG files, whatever their names say."""
    paths = []
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(*size).save(path, "JPEG")
        paths.append(path)
    return paths


def row(
    file: Path,
    label: int | None = 0,
    status: Status = "labelled",
    *,
    classes: int = 3,
    confidence: float = 0.75,
    box: tuple[float, float, float, float] | None = None,
    member: str = "",
) -> LabelRow:
    """A row of an image, with the next class in second place."""
    text = str(file) + (f"::{member}" if member else "") + ("" if box is None else f"#xywh={box}")
    ranking: tuple[ClassConfidence, ...] = ()
    if label is not None:
        ranking = (ClassConfidence(label, confidence), ClassConfidence((label + 1) % classes, (1 - confidence) / 2))
    path = text.encode("utf-8", "backslashreplace").decode()
    location = ImageLocation(file, member, box)
    return LabelRow(path, status, ranking, image_id=image_id(text), location=location, reason="" if label else "why")


def make_run(path: Path, rows: Sequence[LabelRow], classes: Sequence[ClassLabel] = CLASSES) -> LabelFolder:
    """The folder of a run with these rows."""
    folder = LabelFolder.create(path, classes, {})
    folder.prepare()
    folder.store([(f"{number}".encode(), "1", entry) for number, entry in enumerate(rows)])
    return folder


def decide(folder: LabelFolder, reviewer: str, **labels: str) -> None:
    """Decide on rows by their numbers (``_1="cat"``); an empty label rejects."""
    decisions = []
    for number, label in labels.items():
        entry = folder.row(int(number[1:]))
        assert entry is not None
        decisions.append(
            ReviewDecision(entry.image_id, "label", label) if label else ReviewDecision(entry.image_id, "reject")
        )
    with DecisionLog(folder.path, reviewer) as log:
        log.append(decisions)
