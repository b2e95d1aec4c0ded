"""What every reader of a published layout offers: what it needs to be there, and the images it then finds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from abs_classify.datasets.base import Item
from abs_classify.datasets.label_sets import LabelSet
from abs_core.errors import DatasetError

__all__ = ["Missing", "Reader", "unknown_class", "wanted_file", "wanted_folder"]


@dataclass(frozen=True)
class Missing:
    """Something that a reader needs and that is not there.

    Args:
        path: where it should be.
        what: what it is, such as "the list of test images".
        remedy: what else than extracting an archive brings it; empty where nothing does.
    """

    path: Path
    what: str
    remedy: str = ""


class Reader(Protocol):
    """One official layout of one part of a data set."""

    @property
    def layout(self) -> str:
        """The files and folders it reads, for lists and messages."""
        ...

    @property
    def needs(self) -> int:
        """How many things must be there at least; ``missing`` names at most as many."""
        ...

    def missing(self, root: Path, labels: LabelSet) -> tuple[Missing, ...]:
        """What is not there; empty where ``items`` can be called. Cheap: reads no list and opens no image."""
        ...

    def items(self, root: Path, labels: LabelSet) -> Iterator[Item]:
        """The images in the order of the layout; those that a list names may be absent.

        Raises:
            DatasetError: an annotation file is broken, names a class that ``labels`` lacks, or leads outside ``root``.
        """
        ...


def wanted_file(path: Path, what: str, remedy: str = "") -> tuple[Missing, ...]:
    """Empty if there is such a file that is not empty."""
    try:
        there = path.is_file() and path.stat().st_size > 0
    except OSError:
        there = False
    return () if there else (Missing(path, what, remedy),)


def wanted_folder(path: Path, what: str, remedy: str = "") -> tuple[Missing, ...]:
    """Empty if there is such a folder with something in it."""
    try:
        there = path.is_dir() and any(path.iterdir())
    except OSError:
        there = False
    return () if there else (Missing(path, what, remedy),)


def unknown_class(place: str, label: object, labels: LabelSet) -> DatasetError:
    """The error for a label that the published label set does not have."""
    return DatasetError(
        f"{place} has the label {label!r}, which is none of the {len(labels.ids)} classes of {labels.name!r}",
        remedy="Check that this is the data set that you named, or read it as imagefolder: or csv:",
    )
