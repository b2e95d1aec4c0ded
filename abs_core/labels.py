"""Label sets: classes with stable ids, from every source that there is.

read_labels("pets.txt")          a file; "cat,dog" is a list
read_labels("imagenet")          a set that ships with the toolkit
shipped_label_set("imagenet")    the same, read without checks
from_names(["cat", "dog"])       a list
from_folder(Path("train"))       one class per sub-folder
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from abs_core.errors import LabelError, UsageError
from abs_core.files import exists, is_folder, storage_errors
from abs_core.label_files import LABEL_SUFFIXES, read_folder_names, read_label_file, with_remarks
from abs_core.label_set import (
    ClassLabel,
    LabelEntry,
    LabelSet,
    build_label_set,
    compact,
    fold,
    from_names,
    shipped_label_set,
    shipped_label_sets,
    slug,
    unknown_label_set,
    wordnet_class,
)
from abs_core.text import printable

__all__ = [
    "ClassLabel",
    "LabelEntry",
    "LabelSet",
    "build_label_set",
    "compact",
    "fold",
    "from_folder",
    "from_names",
    "read_labels",
    "shipped_label_set",
    "shipped_label_sets",
    "slug",
    "wordnet_class",
]


def from_folder(folder: Path, *, name: str | None = None) -> LabelSet:
    """A label set from the sub-folders of a folder, one class each; hidden folders are ignored.

    The id is the slug of the folder's name, the class name is the folder's name with spaces for underscores. WordNet
    ids become the names that ImageNet has for them, and numbers that count the folders are left out of the names;
    what was read so is logged.

    Raises:
        LabelError: no sub-folder, or names that break a rule.
        StorageError: the folder cannot be read.
    """
    with storage_errors(folder, "read"):
        folders = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise LabelError(f"the folder {_shown(folder)} has no sub-folders", remedy="Give each class its own folder")
    return read_folder_names(folder, folders, name or folder.resolve().name or "labels")


def read_labels(source: str | Path, name: str | None = None) -> LabelSet:
    """A label set from a file, from a folder, from names with commas between, or by the name of a shipped one.

    What is read otherwise than it is written is logged, and in ``remarks``.

    Args:
        source: a path, "cat,dog,teapot", or a shipped name such as "imagenet", which comes before a file or folder of
            that name; write "./imagenet" for the latter.
        name: what to call the set; by default the name that the file states, else the file's own name.

    Raises:
        LabelError: a bad file; names file and line.
        UsageError: an empty source.
        UnknownNameError: neither a file nor a shipped name; lists the shipped ones.
        StorageError: the file cannot be read.
    """
    if not str(source).strip():
        raise UsageError(
            f"the label set must be named, got {source!r}", remedy="Name a file, a folder or a shipped set"
        )
    if isinstance(source, str) and source in shipped_label_sets():
        shipped = shipped_label_set(source)
        return replace(shipped, name=name or shipped.name)
    path = Path(source)
    with storage_errors(path, "read"):
        if is_folder(path):
            return from_folder(path, name=name)
        if exists(path):
            return read_label_file(path, name)
    if path.suffix.lower() in LABEL_SUFFIXES:
        raise LabelError(f"the label file {_shown(path)} does not exist", remedy="Check the path")
    if isinstance(source, str) and "," in source:
        return with_remarks(from_names(source.split(","), name=name or "labels"), "the list of labels")
    if len(path.parts) > 1:
        raise LabelError(f"the label file {_shown(path)} does not exist", remedy="Check the path")
    raise unknown_label_set(str(source))


def _shown(path: Path) -> str:
    return printable(str(path), 200)
