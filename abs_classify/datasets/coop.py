"""The split files of the CoOp suite (Zhou et al., 2022): ``{"train": [[path, label, classname], ...], "val", "test"}``.

The label is a position in an order that only that suite has (it leaves classes out, renames them, sorts anew). So the
class is taken from the image's path, and label and class must go together in the whole file. Flowers102 and
StanfordCars keep every image in one folder; there the label is the official class number less one, and the names are
held against the published ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abs_classify.datasets.base import Item
from abs_classify.datasets.files import MAX_ANNOTATION_BYTES, inside
from abs_classify.datasets.label_sets import LabelSet, fold
from abs_classify.datasets.layout import Missing, unknown_class, wanted_file, wanted_folder
from abs_core.errors import DatasetError

__all__ = ["CoopSplit", "by_breed", "by_folder", "by_label", "by_letter"]

#: From path, label and name of an entry to the class id.
EntryLabel = Callable[[str, int, LabelSet], str | None]

_AGAIN = "Fetch the split file again; DATASETS.md of the CoOp repository links it"
# Published names differ in spelling between sources; a shifted or permuted list has next to none in common.
_ALIKE = 0.8


def by_folder(path: str, _label: int, labels: LabelSet) -> str | None:
    """The class that the image's folder names."""
    return labels.find(path.rpartition("/")[0])


def by_letter(path: str, _label: int, labels: LabelSet) -> str | None:
    """The class that the image's folder names, less the folder of one letter above it."""
    return labels.find(path.rpartition("/")[0].partition("/")[2])


def by_breed(path: str, _label: int, labels: LabelSet) -> str | None:
    """The class that the file's name begins with: ``Abyssinian_201.jpg``."""
    return labels.find(path.rpartition("_")[0])


def by_label(_path: str, label: int, labels: LabelSet) -> str | None:
    """The class whose official number is one more than the label."""
    return labels.at(label)


@dataclass(frozen=True)
class CoopSplit:
    """One part of a split file.

    Args:
        file: the split file, relative to the root.
        part: ``train``, ``val`` or ``test``.
        images: the folder that its paths start from, relative to the root.
        label: says an entry's class.
    """

    file: str
    part: str
    images: str
    label: EntryLabel = by_folder

    @property
    def layout(self) -> str:
        """The files and folders it reads."""
        return f"{self.file} ({self.part}) and {self.images}/"

    @property
    def needs(self) -> int:
        """How many things must be there."""
        return 2

    def missing(self, root: Path, labels: LabelSet) -> tuple[Missing, ...]:  # noqa: ARG002 - as of every reader
        """The split file, the folder of images, or both."""
        where = f"Download {self.file} (linked in DATASETS.md of the CoOp repository) to {str(root / self.file)!r}"
        return (
            *wanted_file(root / self.file, "the split of the CoOp suite", where),
            *wanted_folder(root / self.images, "the folder of images"),
        )

    def items(self, root: Path, labels: LabelSet) -> Iterator[Item]:
        """The images in the order of the file."""
        file = root / self.file
        entries = _entries(file, self.part)
        ids: dict[int, str] = {}
        spelled: dict[str, str] = {}
        for number, (path, label, name) in enumerate(entries, 1):
            place = f"entry {number} of {self.part!r} in {str(file)!r}"
            found = self.label(path, label, labels)
            if found is None:
                raise unknown_class(place, f"{label} ({path})", labels)
            if ids.setdefault(label, found) != found:
                raise DatasetError(
                    f"{place} gives {found!r} the label {label}, which is that of {ids[label]!r}", remedy=_AGAIN
                )
            spelled[found] = name
            yield Item(inside(root / self.images, path, place), found)
        if len(set(ids.values())) != len(ids):
            raise DatasetError(f"{str(file)!r} gives one class several labels", remedy=_AGAIN)
        if self.label is by_label:
            _check_names(file, spelled, labels)


def _entries(file: Path, part: str) -> list[tuple[str, int, str]]:
    try:
        if file.stat().st_size > MAX_ANNOTATION_BYTES:
            raise DatasetError(f"{str(file)!r} has more than {MAX_ANNOTATION_BYTES >> 20} MB", remedy=_AGAIN)
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DatasetError(f"cannot read {str(file)!r}: {reason}", remedy="Check its permissions") from error
    except (ValueError, RecursionError) as error:
        # an HTML page that says "too many downloads" is what often lies here
        raise DatasetError(f"{str(file)!r} is no JSON file", remedy=_AGAIN) from error
    rows = content.get(part) if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(map(_is_entry, rows)):
        raise DatasetError(f"{str(file)!r} has no list {part!r} of [path, label, classname]", remedy=_AGAIN)
    return [(row[0], row[1], row[2]) for row in rows]


def _is_entry(row: Any) -> bool:
    return (
        isinstance(row, list)
        and len(row) == 3
        and isinstance(row[0], str)
        and type(row[1]) is int
        and isinstance(row[2], str)
    )


def _check_names(file: Path, spelled: dict[str, str], labels: LabelSet) -> None:
    """Refuse labels that count in another order than the published classes do."""
    # the suite puts the year of a car first, so words are compared as a set
    words = {name: sorted(fold(word) for word in name.replace("-", " ").split()) for name in labels.names.values()}
    alike = sum(
        sorted(fold(word) for word in name.replace("-", " ").split()) == words[labels.names[label]]
        for label, name in spelled.items()
    )
    if alike < _ALIKE * len(spelled):
        raise DatasetError(
            f"{alike} of {len(spelled)} class names in {str(file)!r} are those of {labels.name!r} at their labels, "
            "so its labels count in another order",
            remedy=_AGAIN,
        )
