"""What a data set is: samples, each an image with the id of its class. Imports no torch and opens no image."""

from __future__ import annotations

import errno
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from abs_classify.datasets.class_order import classes_by_name
from abs_core.descriptions import LabelSpace
from abs_core.errors import DatasetError, ImageError, LabelError, UsageError
from abs_core.files import open_regular
from abs_core.labels import ClassLabel, LabelSet, compact, read_labels, shipped_label_set, shipped_label_sets
from abs_core.remarks import Remark
from abs_core.text import counted, quoted

__all__ = [
    "ByteSource",
    "Dataset",
    "Sample",
    "class_id",
    "class_positions",
    "classes_of",
    "existing_path",
    "flag",
    "label_at",
    "label_in",
    "named_label_set",
    "numbered_classes",
    "read_bytes",
    "split_options",
]


class ByteSource(Protocol):
    """Where the bytes of an image are that has no file of its own. Immutable, hashable, and can be pickled."""

    @property
    def name(self) -> str:
        """The image's name inside its file. With the content of the file it identifies the image's bytes."""
        ...

    def read(self) -> bytes:
        """The encoded image. Safe to call from threads.

        Raises:
            ImageError: the file that contains it cannot be read, or has changed.
        """
        ...


@dataclass(frozen=True, slots=True)
class Sample:
    """An image and its class.

    Args:
        path: the image's file, or the file that contains it among others. The file exists; whether it is a readable
            image shows when it is opened.
        label: the id of its class.
        source: where in ``path`` the image is; None if the file is the image.
    """

    path: Path
    label: str
    source: ByteSource | None = None

    @property
    def name(self) -> str:
        """What to call the image in messages and results: unique in its data set."""
        return str(self.path) if self.source is None else f"{self.path}::{self.source.name}"

    def read(self) -> bytes:
        """The encoded image, as ``abs_classify.images.load_image`` takes it.

        Raises:
            ImageError: it cannot be read; the message names it.
        """
        return read_bytes(self.path, self.name) if self.source is None else self.source.read()


@dataclass(frozen=True)
class Dataset:
    """Labelled images.

    Args:
        name: as the user wrote it, such as ``imagefolder:./val``.
        classes: the candidate classes; the label of every sample is the id of one.
        samples: in a fixed order. For a long list this is a sequence that creates them on access.
        benchmark: the published data set that this is, such as ``dtd``; empty for a user's own images.
        split: such as ``test1``; empty if there are no splits.
        selected: ids of the classes that can win, although all ``classes`` are scored; empty if all of them can.
        notes: what a reader of the results must know, such as an incomplete set or the choice of classes.
        remarks: what was left out, guessed or translated when the images were listed, counted.
    """

    name: str
    classes: tuple[ClassLabel, ...]
    samples: Sequence[Sample]
    benchmark: str = ""
    split: str = ""
    selected: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    remarks: tuple[Remark, ...] = ()

    def __repr__(self) -> str:
        images = counted(len(self.samples), "image", "images")
        return f"<Dataset {self.name!r}: {images}, {counted(len(self.classes), 'class', 'classes')}>"

    @property
    def labels(self) -> Iterator[str]:
        """The class id of each sample, in order. For a long list no ``Sample`` is created."""
        labels = getattr(self.samples, "labels", None)
        return iter(labels) if labels is not None else (sample.label for sample in self.samples)

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
    """The position in a label space of each class of the data set that has images; matched by id, else by name.

    Raises:
        DatasetError: a class is not in the label space, or two classes are the same one there.
    """
    positions = {class_id: position for position, class_id in enumerate(space.labels.ids)}
    used = set(dataset.labels)
    candidates = {label: _candidate(label, space) for label in dataset.classes if label.id in used}
    _refuse_missing([label for label, found in candidates.items() if found is None], len(candidates), dataset, space)
    assigned: dict[int, str] = {}
    for label, candidate in candidates.items():
        position = positions[candidate.id] if candidate is not None else -1
        if position in assigned:
            raise DatasetError(
                f"the classes {assigned[position]!r} and {label.id!r} of {dataset.name} are the same class in "
                f"{space.source}",
                remedy="Give the two classes different ids",
            )
        assigned[position] = label.id
    return {class_id: position for position, class_id in assigned.items()}


def _candidate(label: ClassLabel, space: LabelSpace) -> ClassLabel | None:
    for text in (label.id, label.name):
        with suppress(LabelError):
            return space.labels.resolve(text)
    return None


# how many classes a message names
_NAMED = 5


def _refuse_missing(missing: Sequence[ClassLabel], used: int, dataset: Dataset, space: LabelSpace) -> None:
    """Refuse candidate classes that lack classes of the data set: how many, which, and what to use instead.

    Raises:
        DatasetError: there is one at least.
    """
    if not missing:
        return
    shown = ", ".join(repr(label.id) for label in missing[:_NAMED]) + (", ..." if len(missing) > _NAMED else "")
    if len(missing) == 1:
        message = f"the class {shown} of the data set {dataset.name} is not a candidate class of {space.source}"
    else:
        message = (
            f"{len(missing)} of the {used} classes of the data set {dataset.name} are not candidate classes of "
            f"{space.source}: {shown}"
        )
    spelling = _spelling_remedy(missing[0], space)
    if spelling or len(missing) < used:
        raise DatasetError(message, remedy=spelling or "Use a bundle, or --labels, that has these classes too")
    theirs = ", ".join(repr(name) for name in list(space.names.values())[:3])
    name = dataset.name.partition(":")[0]
    labels = name if name in shipped_label_sets() else "LABELS"
    raise DatasetError(
        f"{message}; the candidates are of another kind ({theirs}, ...)",
        remedy=f"Use class names alone with --labels {labels}, or write descriptions of these classes with "
        f"`abs gen-descriptions {labels} --name NAME`",
    )


def _spelling_remedy(label: ClassLabel, space: LabelSpace) -> str:
    """The candidate that is almost called so; empty if there is none."""
    try:
        space.labels.resolve(label.name)
    except LabelError as error:
        return error.remedy if error.remedy.startswith(("Write ", "Use an id")) else ""
    return ""


def class_id(text: str, where: str) -> str:
    """A label as class id: without surrounding spaces and in Unicode NFC, as ids in bundles are.

    Args:
        text: a folder name or a table entry.
        where: how an error begins: "line 3 of 'photos.csv'".

    Raises:
        DatasetError: it is empty, or is not valid Unicode.
    """
    label = unicodedata.normalize("NFC", text).strip()
    if not label:
        raise DatasetError(f"{where} has an empty label", remedy="Give every image the id of its class")
    try:
        label.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DatasetError(f"{where} has a label that is not valid UTF-8: {text!r}", remedy="Rename it") from error
    return label


def classes_of(labels: Iterable[str]) -> tuple[ClassLabel, ...]:
    """The classes with these ids, sorted by id. A class's name is its id with spaces for underscores."""
    return tuple(ClassLabel(label, label.replace("_", " ").strip() or label) for label in sorted(set(labels)))


def named_label_set(name: str) -> LabelSet:
    """The label set that an option ``classes`` names: a shipped one, or a file of class names in their order.

    Raises:
        UnknownNameError, LabelError, StorageError: as ``abs_core.labels.read_labels``.
    """
    return shipped_label_set(name) if name in shipped_label_sets() else read_labels(name)


_CLASS_NUMBER = re.compile(r"(\d{1,9})(?:\.0+)?")


def label_in(label_set: LabelSet, text: str, where: str) -> str:
    """The id of the class of a label set that a label means: its id, else its name, else its number from 0 on.

    Raises:
        DatasetError: none.
    """
    try:
        return label_set.resolve(text).id
    except LabelError as error:
        if (found := label_set.find_id(text)) is not None:
            return found
        if number := _CLASS_NUMBER.fullmatch(text):
            return label_at(label_set.classes, int(number[1]), where)
        raise DatasetError(f"{where}: {error.message}", remedy=error.remedy) from error


def numbered_classes(names: Sequence[str] | None, label_set: str | None, where: str) -> tuple[ClassLabel, ...]:
    """The classes in the order of their numbers, for data whose labels are numbers.

    Args:
        names: the class names that come with the data, by number; None if there are none.
        label_set: the label set that the user names, as ``named_label_set`` takes it; None: the shipped one whose names
            are these in this order, if there is one. Otherwise the id of a class is its name.
        where: names the data set in errors.

    Raises:
        UnknownNameError: there is no such label set.
        DatasetError: the named set has other classes, or an order that the names do not make clear; or nothing says
            what the numbers mean.
    """
    if label_set is not None:
        named = named_label_set(label_set)
        return named.classes if names is None else classes_by_name(names, named, where)
    if names is None:
        raise DatasetError(
            f"the labels of {where} are numbers, and the classes that they stand for are not given",
            remedy="Name the label set whose order the numbers follow, such as ?classes=imagenet",
        )
    compact_names = [compact(name) for name in names]
    for candidate in map(shipped_label_set, shipped_label_sets()):
        if compact_names in (list(map(compact, candidate.names.values())), list(map(compact, candidate.ids))):
            return candidate.classes
    counts = Counter(names)
    ids = [f"{name} ({number})" if counts[name] > 1 else name for number, name in enumerate(names)]
    return tuple(ClassLabel(class_id(text, where), name) for text, name in zip(ids, names, strict=True))


def label_at(classes: Sequence[ClassLabel], number: int, where: str) -> str:
    """The id of the class with a number, counted from 0.

    Raises:
        DatasetError: the number is out of range.
    """
    if not 0 <= number < len(classes):
        raise DatasetError(
            f"{where}: the label must be a class number from 0 to {len(classes) - 1}, got {number}",
            remedy="Check that the class names belong to these images",
        )
    return classes[number].id


def read_bytes(path: Path, name: str, offset: int = 0, size: int | None = None) -> bytes:
    """The bytes of an image.

    Args:
        path: the file.
        name: of the image, for errors.
        offset: where the image starts, in bytes.
        size: of the image, in bytes; None: up to the end of the file.

    Raises:
        ImageError: the file cannot be read, or ends before ``size`` bytes.
    """
    try:
        with open_regular(path) as stream:
            stream.seek(offset)
            data = stream.read() if size is None else stream.read(size)
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise ImageError(
            f"cannot read the image {name!r}: {reason}", remedy="Check the path and permissions"
        ) from error
    if size is not None and len(data) != size:
        raise ImageError(f"the image {name!r} is truncated", remedy="Fetch the file again, or remove it")
    return data


def existing_path(text: str) -> Path:
    """A path that a spec names; ``~`` is the home folder, since shells leave it alone behind a colon.

    Raises:
        UsageError: an address, or what cannot be a path.
    """
    path = Path(text)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text) and not os.path.lexists(path):
        raise UsageError(f"{text!r:.200} is an address, not a path", remedy="Download it first, and name the copy")
    if text.startswith("~") and not os.path.lexists(path):
        path = Path(os.path.expanduser(text))  # noqa: PTH111 - keeps a path whose user is unknown as it is
    try:
        path.lstat()
    except ValueError as error:
        raise UsageError(f"{quoted(text)} is not a valid path", remedy="Check the path") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UsageError(f"{quoted(text)} is too long for a path", remedy="Check the path") from error
    return path


_TRUE = ("", "1", "true", "yes")


def split_options(location: str, known: Iterable[str], usage: str) -> tuple[str, Mapping[str, str]]:
    """``./dtd?split=test2&partial`` as ``./dtd`` and ``{"split": "test2", "partial": ""}``.

    An existing path that contains a question mark has no options.

    Args:
        location: a path or address, with or without options.
        known: the valid options.
        usage: how a spec of this kind is written, for errors.

    Raises:
        UsageError: an unknown option, or one that is given twice.
    """
    path, mark, query = location.rpartition("?")
    if not mark or ("://" not in location and os.path.lexists(location)):
        return location, {}
    options: dict[str, str] = {}
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if name not in known:
            raise UsageError(
                f"unknown option {name!r} in {location!r}; known: {', '.join(known)}", remedy=f"Write {usage}"
            )
        if name in options:
            raise UsageError(f"the option {name!r} appears twice in {location!r}", remedy="Give it once")
        options[name] = value
    return path, options


def flag(options: Mapping[str, str], name: str) -> bool:
    """Whether an option without a value is set.

    Raises:
        UsageError: it has a value other than 1, true or yes.
    """
    if name not in options:
        return False
    if options[name].lower() not in _TRUE:
        raise UsageError(f"the option {name!r} takes no value, got {options[name]!r}", remedy=f"Write ?{name}")
    return True
