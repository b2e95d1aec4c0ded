"""What a data set is: images, each with the id of its class. Imports no torch and opens no image."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from abs_core.descriptions import LabelSpace
from abs_core.errors import DatasetError, ImageError, LabelError, UsageError
from abs_core.labels import ClassLabel, LabelSet, compact, shipped_label_set, shipped_label_sets

__all__ = [
    "ByteSource",
    "Dataset",
    "Sample",
    "class_id",
    "class_positions",
    "classes_of",
    "flag",
    "label_at",
    "numbered_classes",
    "read_bytes",
    "split_options",
]


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
        samples: the images, in a fixed order; of a long list a sequence that makes them as they are asked for.
        benchmark: the published data set that this is, such as ``dtd``; empty for images of the user's own.
        split: which part of it, such as ``test1``; empty where there are no parts.
        selected: class ids among which the best is chosen after all ``classes`` were scored; empty for all of them.
        notes: what a reader of results must know: an incomplete set, the choice of classes.
    """

    name: str
    classes: tuple[ClassLabel, ...]
    samples: Sequence[Sample]
    benchmark: str = ""
    split: str = ""
    selected: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> Iterator[str]:
        """The class id of each image, in order; of a list of millions without making an ``Item`` of each."""
        known = getattr(self.samples, "labels", None)
        return iter(known) if known is not None else (item.label for item in self.samples)

    @property
    def names(self) -> dict[str, str]:
        """Class id to class name, in class order."""
        return {label.id: label.name for label in self.classes}

    @property
    def label_set(self) -> LabelSet:
        """The candidate classes as a label set named after the data set.

        Raises:
            LabelError: there are none, or two of them have one id.
        """
        return LabelSet(self.name, self.classes)


def class_positions(dataset: Dataset, space: LabelSpace) -> dict[str, int]:
    """For each class of the data set that has images, its position in a label space, found by id, else by name.

    Raises:
        DatasetError: the label space lacks such a class, or two of them are one class in it.
    """
    positions = {class_id: position for position, class_id in enumerate(space.labels.ids)}
    used = set(dataset.labels)
    assigned: dict[int, str] = {}
    for label in dataset.classes:
        if label.id not in used:
            continue
        position = positions[_resolve(label, dataset, space).id]
        if position in assigned:
            raise DatasetError(
                f"the classes {assigned[position]!r} and {label.id!r} of {dataset.name} are one class in "
                f"{space.source}",
                remedy="Give the classes ids of their own",
            )
        assigned[position] = label.id
    return {class_id: position for position, class_id in assigned.items()}


def _resolve(label: ClassLabel, dataset: Dataset, space: LabelSpace) -> ClassLabel:
    try:
        return space.labels.resolve(label.id)
    except LabelError:
        pass
    try:
        return space.labels.resolve(label.name)
    except LabelError as error:
        raise DatasetError(
            f"the data set {dataset.name} has the class {label.id!r}, which {space.source} lacks",
            remedy=error.remedy or "Use a bundle for these classes, or write one with `abs gen-descriptions`",
        ) from error


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


def classes_of(labels: Iterable[str]) -> tuple[ClassLabel, ...]:
    """The classes of some labels, sorted by id; underscores in an id are spaces in its name."""
    return tuple(ClassLabel(label, label.replace("_", " ").strip() or label) for label in sorted(set(labels)))


# Sources spell names differently ("tench, Tinca tinca"); a list in another order has next to none in common.
_ALIKE = 0.5


def numbered_classes(names: Sequence[str] | None, chosen: str | None, place: str) -> tuple[ClassLabel, ...]:
    """The classes in the order of their numbers.

    Args:
        names: the class names that come with the data, by number; None if none do.
        chosen: the shipped label set that the user says they are; None to recognise one whose names are these, in this
            order. Without any, a class's id is its name.
        place: names the data set in errors.

    Raises:
        UnknownNameError: there is no such label set.
        DatasetError: the chosen set has other classes or another order than the names, or nothing names the classes.
    """
    if chosen is not None:
        known = shipped_label_set(chosen)
        if names is not None:
            _check_names(names, known, place)
        return known.classes
    if names is None:
        raise DatasetError(
            f"{place} has numbers for labels, and nothing says which classes they are",
            remedy="Name one of the shipped label sets, such as ?classes=imagenet, if its order is meant",
        )
    compact_names = [compact(name) for name in names]
    for candidate in map(shipped_label_set, shipped_label_sets()):
        if compact_names in (list(map(compact, candidate.names.values())), list(map(compact, candidate.ids))):
            return candidate.classes
    counts = Counter(names)
    ids = [f"{name} ({number})" if counts[name] > 1 else name for number, name in enumerate(names)]
    return tuple(ClassLabel(class_id(text, place), name) for text, name in zip(ids, names, strict=True))


def label_at(classes: Sequence[ClassLabel], number: int, place: str) -> str:
    """The id of a numbered class.

    Raises:
        DatasetError: the number is out of range.
    """
    if not 0 <= number < len(classes):
        raise DatasetError(
            f"{place} has the label {number}, but there are {len(classes)} classes, numbered from 0",
            remedy="Check that the class names belong to these images",
        )
    return classes[number].id


def _check_names(names: Sequence[str], known: LabelSet, place: str) -> None:
    remedy = "Leave out classes=, or name the label set that these images have"
    if len(names) != len(known.classes):
        raise DatasetError(
            f"{place} has {len(names)} classes, but the label set {known.name!r} has {len(known.classes)}",
            remedy=remedy,
        )
    alike = 0
    for name, label in zip(names, known.classes, strict=True):
        parts = {compact(name), *(compact(part) for part in name.split(","))}
        alike += bool(parts & {compact(label.id), compact(label.name)})
    if alike < _ALIKE * len(names):
        raise DatasetError(
            f"only {alike} of the {len(names)} class names of {place} stand where {known.name!r} has them, "
            "so its order is another",
            remedy=remedy,
        )


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
