"""Looks for the files of a published data set where people have them: some levels below, in another case, renamed.

Only what a published list names is looked for, so a file that is found is the one that is meant; a name that another
split may have as well (``00001.jpg``) counts only in a folder that has the published name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path

from abs_core.labels import compact

__all__ = [
    "FileVariants",
    "FolderTree",
    "find_class_folders",
    "find_file",
    "find_images",
    "folder_of_images_like",
    "has_image_like",
    "is_of_other_split",
]

# How many levels below the root, in how many folders.
_LEVELS, _MAX_FOLDERS = 3, 3000
# How many folders in one are not looked into.
_MANY = 300
# How many of the names of a list are looked for in each folder.
_PROBES = 12

#: Other names of the folders of a split.
_SYNONYMS = {
    "test": {"test", "testing"},
    "val": {"val", "valid", "validation"},
    "train": {"train", "training"},
}
_SPLITS = frozenset(name for names in _SYNONYMS.values() for name in names)


class FolderTree:
    """The folders up to three levels below a root; looked at when they are first asked for, and once.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def children(self) -> Mapping[Path, Sequence[Path]]:
        """Each folder, the nearest first, with the folders in it."""
        children: dict[Path, Sequence[Path]] = {}
        level = [self.root]
        for _ in range(_LEVELS + 1):
            for folder in level[: max(0, _MAX_FOLDERS - len(children))]:
                children[folder] = _folders_in(folder)
            # a folder of that many folders has classes in it, with nothing but images in them
            level = [inner for folder in level for inner in children.get(folder, ()) if len(children[folder]) <= _MANY]
        return children

    @property
    def folders(self) -> Iterable[Path]:
        """The root and the folders below it, the nearest first."""
        return self.children.keys()


def _folders_in(parent: Path) -> list[Path]:
    try:
        with os.scandir(parent) as entries:
            return sorted(parent / entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError:
        return []


def find_file(tree: FolderTree, relative: str) -> Path | None:
    """An annotation file: in its published place, else the only one of its name, or the one in a folder of its name."""
    parent, _, name = relative.rpartition("/")
    found = [folder / name for folder in tree.folders if _has_content(folder / name)]
    in_place = [path for path in found if path.parent.name == parent.rpartition("/")[2]] if parent else []
    return in_place[0] if in_place else found[0] if len(found) == 1 else None


def _has_content(path: Path) -> bool:
    try:
        return path.is_file() and path.stat().st_size > 0
    except OSError:
        return False


def find_images(tree: FolderTree, folder: str, split: str, names: Sequence[str]) -> Path | None:
    """The folder that the paths of a list start from; None if there is none with any of them.

    Args:
        tree: the folders of the data set.
        folder: the published place, relative to the root.
        split: whose images: folders of another one are left alone.
        names: the paths that the list has.
    """
    probes = names[:: max(1, len(names) // _PROBES)]
    published = tree.root / folder
    if _hits(published, probes):
        return published
    title, others = published.name.casefold(), _SPLITS - _own_names(split)
    for candidate in tree.folders:
        parts = {part.casefold() for part in (tree.root.name, *candidate.relative_to(tree.root).parts)}
        is_published = title in parts and folder != "."
        if (is_published or (all(map(_is_distinctive, probes)) and not others & parts)) and _hits(candidate, probes):
            return candidate
    return None


def is_of_other_split(name: str, split: str) -> bool:
    """Whether a folder is called like a split, and not like this one."""
    return name.casefold() in _SPLITS - _own_names(split)


def _own_names(split: str) -> set[str]:
    """What the folder of a split may be called; empty for a split of another kind, such as ``all``."""
    part = split.removeprefix("coop-")
    return next((names for name, names in _SYNONYMS.items() if part.startswith(name)), set())


def _is_distinctive(name: str) -> bool:
    """Whether no other split has an image of this name in another folder."""
    return "/" in name or re.search("[A-Za-z]{3}", name.rpartition(".")[0]) is not None


def _hits(folder: Path, names: Iterable[str]) -> bool:
    variants = FileVariants()
    return any(variants.find(folder / name) is not None for name in names)


def folder_of_images_like(tree: FolderTree, pattern: str) -> Path | None:
    """The nearest folder below a root with an image whose name matches a pattern; None if there is none."""
    return next((folder for folder in tree.folders if has_image_like(folder, pattern)), None)


def has_image_like(folder: Path, pattern: str) -> bool:
    """Whether one of the first files of a folder has a name that matches a pattern, whatever its case."""
    matches = re.compile(pattern, re.IGNORECASE).fullmatch
    try:
        with os.scandir(folder) as entries:
            return any(matches(entry.name) and entry.is_file() for entry in islice(entries, _MAX_FOLDERS))
    except OSError:
        return False


def find_class_folders(tree: FolderTree, folder: str, split: str, names: Iterable[str]) -> Path | None:
    """The folder that has most of the class folders of a split.

    Args:
        tree: the folders of the data set.
        folder: the published place of the class folders, relative to the root.
        split: whose folders: those of another one are left alone.
        names: the class ids, as ``compact`` writes them.
    """
    wanted = frozenset(names)
    own = _own_names(split)
    for candidate, inner in tree.children.items():
        parts = {part.casefold() for part in candidate.relative_to(tree.root).parts}
        if parts & (_SPLITS - own):
            continue
        if own and not (parts & own or tree.root.name.casefold() in own) and folder != ".":
            continue
        found = sum(compact(path.name) in wanted for path in inner)
        if found > len(wanted) / 2:
            return candidate
    return None


class FileVariants:
    """Files whose names differ from the published ones in case, or in ``.jpeg`` for ``.jpg``."""

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, str | None]] = {}

    def find(self, path: Path) -> Path | None:
        """The file, else the only variant of it; None if there is none."""
        if path.is_file():
            return path
        if path.parent not in self._folders:
            self._folders[path.parent] = self._listing(path.parent)
        name = self._folders[path.parent].get(_folded(path.name))
        return None if name is None else path.with_name(name)

    @staticmethod
    def _listing(folder: Path) -> dict[str, str | None]:
        names: dict[str, str | None] = {}
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    key = _folded(entry.name)
                    names[key] = None if key in names else entry.name
        except OSError:
            return {}
        return names


def _folded(name: str) -> str:
    stem, dot, suffix = name.casefold().rpartition(".")
    return f"{stem}{dot}{'jpg' if suffix in ('jpeg', 'jpe') else suffix}"
