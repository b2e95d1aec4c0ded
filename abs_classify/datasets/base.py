"""What a data set is: images, each with the id of its class. Imports no torch and opens no image."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from abs_core.errors import DatasetError, ImageError, UsageError

__all__ = [
    "ByteSource",
    "Dataset",
    "DatasetClass",
    "Sample",
    "class_id",
    "classes_of",
    "flag",
    "read_bytes",
    "split_options",
]


@dataclass(frozen=True, slots=True)
class DatasetClass:
    """A class as a data set knows it.

    Args:
        id: the stable id by which labels are compared.
        name: what to call it in a text.
    """

    id: str
    name: str


class ByteSource(Protocol):
    """Where the bytes of an image are that has no file of its own. Immutable, hashable, and may be pickled."""

    @property
    def name(self) -> str:
        """What to call the image inside its file; together with the file's content it names the same bytes for ever."""
        ...

    def read(self) -> bytes:
        """An encoded image. Safe to call from threads.

        Raises:
            ImageError: the file that holds it cannot be read, or changed.
        """
        ...


@dataclass(frozen=True, slots=True)
class Sample:
    """An image and its class.

    Args:
        path: the image's file, or the file that holds it among others. It is there; whether the image is one is found
            out when it is opened.
        label: the id of its class.
        source: where in ``path`` the image is; None where the file is the image.
    """

    path: Path
    label: str
    source: ByteSource | None = None

    @property
    def name(self) -> str:
        """What to call the image in messages and results: unique in its data set."""
        return str(self.path) if self.source is None else f"{self.path}::{self.source.name}"

    def read(self) -> bytes:
        """The bytes of the image's file, or of the image in its file: what ``abs_classify.images.load_image`` opens.

        Raises:
            ImageError: it cannot be read; the message names it.
        """
        return read_bytes(self.path, self.name) if self.source is None else self.source.read()


@dataclass(frozen=True)
class Dataset:
    """Labelled images.

    Args:
        name: what the user named, such as ``imagefolder:./val``.
        classes: the candidate classes; every label of an item is among them.
        items: the images, in a fixed order; of a long list a sequence that makes them as they are asked for.
        benchmark: the published data set that this is, such as ``dtd``; empty for images of the user's own.
        split: which part of it, such as ``test1``; empty where there are no parts.
        selected: class ids among which the best is chosen after all ``classes`` were scored; empty for all of them.
        notes: what a reader of results must know: an incomplete set, the choice of classes.
    """

    name: str
    classes: tuple[DatasetClass, ...]
    items: Sequence[Sample]
    benchmark: str = ""
    split: str = ""
    selected: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> Iterator[str]:
        """The class id of each image, in order; of a list of millions without making an ``Item`` of each."""
        known = getattr(self.items, "labels", None)
        return iter(known) if known is not None else (item.label for item in self.items)

    @property
    def names(self) -> dict[str, str]:
        """Class id to class name, in class order."""
        return {each.id: each.name for each in self.classes}


def class_id(text: str, place: str) -> str:
    """A label as it was found, without spaces around it and in Unicode NFC, as ids in bundles are.

    Args:
        text: a folder name or a table entry.
        place: where it was found, for the error.

    Raises:
        DatasetError: it is empty, or no valid Unicode.
    """
    label = unicodedata.normalize("NFC", text).strip()
    if not label:
        raise DatasetError(f"{place} has an empty label", remedy="Give every image the id of its class")
    try:
        label.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DatasetError(f"{place} has a label that is not UTF-8: {text!r}", remedy="Rename it") from error
    return label


def classes_of(labels: Iterable[str]) -> tuple[DatasetClass, ...]:
    """The classes of some labels, sorted by id; underscores in an id are spaces in its name."""
    return tuple(DatasetClass(label, label.replace("_", " ").strip() or label) for label in sorted(set(labels)))


def read_bytes(path: Path, name: str, offset: int = 0, size: int | None = None) -> bytes:
    """Bytes of a file.

    Args:
        path: the file.
        name: what to call the image in the error.
        offset: where to start, in bytes.
        size: how many bytes; None for all.

    Raises:
        ImageError: the file cannot be read, or ends before ``size`` bytes.
    """
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            data = stream.read() if size is None else stream.read(size)
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise ImageError(
            f"cannot read the image {name!r}: {reason}", remedy="Check the path and permissions"
        ) from error
    if size is not None and len(data) != size:
        raise ImageError(f"the image {name!r} is cut off", remedy="Fetch the file again, or leave it out")
    return data


_TRUE = ("", "1", "true", "yes")


def split_options(location: str, known: Iterable[str], usage: str) -> tuple[str, Mapping[str, str]]:
    """``./dtd?split=test2&partial`` as ``./dtd`` and ``{"split": "test2", "partial": ""}``.

    A path that exists as it stands, question mark and all, has no options.

    Args:
        location: a place with or without options.
        known: the options that there are.
        usage: how a spec of this kind is written, for errors.

    Raises:
        UsageError: an unknown option, or one that is given twice.
    """
    place, mark, tail = location.rpartition("?")
    if not mark or ("://" not in location and Path(location).exists()):
        return location, {}
    options: dict[str, str] = {}
    for part in tail.split("&"):
        name, _, value = part.partition("=")
        if name not in known:
            raise UsageError(
                f"{location!r} has the unknown option {name!r}; known: {', '.join(known)}", remedy=f"Write {usage}"
            )
        if name in options:
            raise UsageError(f"{location!r} has the option {name!r} twice", remedy="Give it once")
        options[name] = value
    return place, options


def flag(options: Mapping[str, str], name: str) -> bool:
    """Whether an option that takes no value is set.

    Raises:
        UsageError: it has a value other than 1, true or yes.
    """
    if name not in options:
        return False
    if options[name].lower() not in _TRUE:
        raise UsageError(f"the option {name!r} takes no value, but got {options[name]!r}", remedy=f"Write ?{name}")
    return True
