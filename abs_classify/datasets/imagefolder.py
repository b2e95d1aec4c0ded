"""A folder of images as people have it: ``imagefolder:DIR``.

    DIR/cat/a.jpg, DIR/dog/more/b.jpg           a sub-folder for each class; with ?leaf each folder that holds images
    DIR/test/cat/a.jpg, DIR/train/cat/b.jpg     the same for each split: ?split=test
    DIR/metadata.csv, DIR/a.jpg                 the layout of Hugging Face: a list with the columns file_name and label

A layout that is not clear is refused with the spec that makes it so; what only looks odd is remarked on.
"""

from __future__ import annotations

import os
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, groupby
from pathlib import Path

from abs_classify.datasets.base import (
    Dataset,
    Sample,
    class_id,
    classes_of,
    existing_path,
    label_in,
    named_label_set,
    split_options,
)
from abs_classify.datasets.folders import ImageListing, inside, is_image
from abs_classify.datasets.list_files import ListRow, ListSource, json_rows, show_command, table_rows
from abs_classify.datasets.lists import collect_rows
from abs_core.class_names import PREFERRED_SPLITS, is_not_a_class, split_key, split_keys
from abs_core.errors import DatasetError
from abs_core.remarks import Remark

__all__ = ["open_imagefolder"]

_OPTIONS = ("split", "leaf", "classes", "path", "label")
_USAGE = "imagefolder:DIR?split=test"
_LAYOUT = "Put the images of each class into a sub-folder named after the class"
_EMPTY = "a folder without images"
_METADATA = ("metadata.csv", "metadata.jsonl", "_classes.csv")

#: A folder and images in it that come one after the other.
_Run = tuple[Path, list[Path]]


def open_imagefolder(location: str) -> Dataset:
    """The images in the sub-folders of a folder, at any depth. The name of the first sub-folder is the class id.

    Links are followed. What is not used (hidden and other files, images outside of class folders, folders without
    images, pipes and devices) is counted in the remarks.

    Args:
        location: the folder, with options: ``split``, the sub-folder that has the class folders, or ``none`` if
            folders with names of splits are classes; ``leaf``, if the innermost folders are the classes; ``classes``,
            the label set that folder names are of, by id, name or number; ``path`` and ``label``, columns of a
            ``metadata.csv`` or ``metadata.jsonl``.

    Raises:
        UsageError: an unknown option.
        DatasetError: it is not a folder, cannot be read, contains no image in a sub-folder, or its sub-folders are
            splits or something else that is not a class.
    """
    place, options = split_options(location, _OPTIONS, _USAGE)
    root = existing_path(place)
    if not root.is_dir():
        problem = "is not a folder" if root.exists() else "does not exist"
        raise DatasetError(f"the image folder {place!r} {problem}", remedy=_extraction(root) or "Check the path")
    folder = _ImageFolder(place, root, options)
    dataset = folder.from_metadata() or folder.from_class_folders()
    remarks = (*folder.listing.remarks.remarks, *dataset.remarks)
    return replace(dataset, name=f"imagefolder:{location}", remarks=remarks)


def _extraction(path: Path) -> str:
    """The command that extracts an archive; empty if a path is none."""
    name = path.name.lower()
    folder = path.with_name(re.sub(r"(\.tar)?\.\w+$", "", path.name))
    if not path.is_file() or folder == path:
        return ""
    if name.endswith(".zip"):
        return f"Extract it: unzip {shlex.quote(str(path))} -d {shlex.quote(str(folder))}"
    if name.endswith((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")):
        target = shlex.quote(str(folder))
        return f"Extract it: mkdir {target} && tar -xf {shlex.quote(str(path))} -C {target}"
    return ""


class _ImageFolder:
    """A folder of images and what its user says of it.

    Args:
        place: as the user writes it.
        root: the folder.
        options: of the data set.
    """

    def __init__(self, place: str, root: Path, options: Mapping[str, str]) -> None:
        self._place, self._root, self._options = place, root, options
        self.listing = ImageListing(root, used=_METADATA)
        self._split = options.get("split", "")
        self._top = root if self._split in ("", "none") else self._find_split(self._split)

    # -- splits

    def _folders(self, folder: Path) -> list[str]:
        listing = ImageListing(folder)  # its remarks come with the listing that is used
        return listing.without_system_folders(folder, listing.names(folder)[0])

    def _find_split(self, name: str) -> Path:
        """The folder of a split; the root if a list names the splits.

        Raises:
            DatasetError: there is none.
        """
        inner = self._folders(self._root)
        places = [self._root, *(self._root / only for only in inner if only == "data" or len(inner) == 1)]
        for place in places:
            folders = self._folders(place)
            exact = [folder for folder in folders if folder == name]
            keys = split_keys(folders)
            wanted = keys.get(name) or split_key(name)
            alike = [folder for folder, key in keys.items() if key == wanted]
            if exact or len(alike) == 1:
                return self._innermost(place / (exact or alike)[0])
        if _metadata_in(self._root) is not None:
            return self._root
        splits = [*split_keys(inner)]
        shown = ", ".join(splits or inner[:10]) or "none"
        raise DatasetError(
            f"the image folder {self._place!r} has no split {name!r}; its {'splits' if splits else 'folders'}: {shown}",
            remedy=f"Choose one: {self._command(_preferred(splits))}" if splits else "Leave out split=",
        )

    def _innermost(self, folder: Path) -> Path:
        """``seg_test/seg_test``, as archives are extracted twice."""
        while True:
            folders = self._folders(folder)
            if len(folders) != 1 or (folders[0] != folder.name and not split_key(folders[0])):
                return folder
            folder = folder / folders[0]

    def _command(self, split: str, inner: str = "") -> str:
        place = str(Path(self._place) / inner) if inner else self._place
        return show_command(f"imagefolder:{place}" + (f"?split={split}" if split else ""))

    def _check_splits(self, folders: Sequence[str]) -> None:
        """Refuse folders of splits, here or one level below.

        Raises:
            DatasetError: there are some.
        """
        if self._split:
            return
        candidates = [("", list(folders))]
        likely = [name for name in folders if len(folders) == 1 or is_not_a_class(name) or name == "data"]
        candidates += [(name, self._folders(self._top / name)) for name in likely]
        for inner, names in candidates:
            if splits := _splits_among(names):
                where = f"{str(self._top / inner)!r}" if inner else repr(self._place)
                escape = "; if they are classes, write ?split=none" if not inner else ""
                raise DatasetError(
                    f"the folders {', '.join(splits)} of {where} are splits and not classes",
                    remedy=f"Choose one: {self._command(self._usable_split(inner, splits), inner)}{escape}",
                )

    def _usable_split(self, inner: str, splits: Sequence[str]) -> str:
        """The split to propose: one with labels, since test sets of competitions have none."""
        folder = self._top / inner
        tops = {name: self._innermost(folder / name) for name in splits}
        labelled = [
            name
            for name, top in tops.items()
            if _metadata_in(top) is not None or not all(map(is_not_a_class, self._folders(top)))
        ]
        return _preferred(labelled or splits)

    # -- metadata

    def from_metadata(self) -> Dataset | None:
        """The images that a list in the folder gives labels; None if there is no list, or it has no labels.

        Raises:
            DatasetError: the list cannot be used as it is, and there are no class folders instead.
        """
        file = _metadata_in(self._top) or _metadata_in(self._root)
        if file is None:
            return None
        options = dict(self._options)
        source = ListSource(file, f"imagefolder:{self._place}", options, has_split_folders=self._top != self._root)
        if file.name != "_classes.csv" and "path" not in options and _FILE_NAME.search(_first_line(file)):
            source = replace(source, options={"path": "file_name", **options})
        rows = json_rows(source) if file.suffix == ".jsonl" else table_rows(source)
        try:
            first = next(rows, None)
        except DatasetError as error:
            if self._folders(self._top):
                self.listing.remarks.add(f"list of images not used: {error.message}", file.name)
                return None
            raise
        entries = chain([first] if first is not None else [], rows)
        splits: dict[str, None] = {}
        dataset = collect_rows(source, self._of_split(file, entries, splits), lambda row: _checked(source, row))
        if not self._split and len(splits) > 1:
            names = list(splits)
            raise DatasetError(
                f"{str(file)!r} lists images of the splits {', '.join(names)}",
                remedy=f"Choose one: {self._command(_preferred(names))}",
            )
        self._count_unlisted(file, dataset)
        return dataset

    def _of_split(self, file: Path, rows: Iterator[ListRow], splits: dict[str, None]) -> Iterator[ListRow]:
        """The rows of the chosen split, by the folder of their paths, which are collected in ``splits``."""
        prefix = "" if self._top == file.parent else f"{self._top.relative_to(file.parent).as_posix()}/"
        for row in rows:
            first, slash, _ = row.path.removeprefix("./").partition("/")
            if slash and split_key(first):
                splits[first] = None
            if row.path.removeprefix("./").startswith(prefix):
                yield row

    def _count_unlisted(self, file: Path, dataset: Dataset) -> None:
        listed = {os.path.normpath(sample.path) for sample in dataset.samples}
        for path in self.listing.images(self._top):
            if os.path.normpath(path) not in listed:
                self.listing.leave_out(f"an image that {file.name} does not list", path)

    # -- class folders

    def from_class_folders(self) -> Dataset:
        """The images in class folders.

        Raises:
            DatasetError: there are none, or the folders are no classes.
        """
        folders, files = self.listing.names(self._top)
        folders = self.listing.without_system_folders(self._top, folders)
        self._check_splits(folders)
        found: dict[str, list[_Run]] = {}
        for name in folders:
            runs = [
                (folder, [path for _, path in pairs])
                for folder, pairs in groupby(self.listing.images_with_folders(self._top / name), lambda pair: pair[0])
            ]
            if runs:
                found[name] = runs
            else:
                self.listing.leave_out(_EMPTY, self._top / name)
        for name in filter(is_image, files):
            self.listing.leave_out("an image outside of the class folders", self._top / name)
        if not found:
            raise self._without_images(files)
        self._check_class_names(found)
        by_leaf = "leaf" in self._options
        labels = _leaf_labels(self._top, found) if by_leaf else {name: name for name in found}
        label_set = named_label_set(self._options["classes"]) if "classes" in self._options else None
        ids: dict[str, str] = {}
        for key, text in labels.items():
            where = f"the folder {str(self._top / key)!r}"
            ids[key] = class_id(text, where)
            if label_set is not None:
                ids[key] = label_in(label_set, ids[key], where)
        counts = Counter(ids.values())
        for key in ids if label_set is None else ():
            if ids[key] != labels[key] and counts[ids[key]] > 1:
                self.listing.remarks.add("folder read as one class with another", key)
        samples = tuple(
            Sample(path, label)
            for name, runs in found.items()
            for folder, paths in runs
            for label in (ids[_relative(self._top, folder) if by_leaf else name],)
            for path in paths
        )
        classes = classes_of(ids.values()) if label_set is None else label_set.classes
        remarks = () if by_leaf else tuple(self._hints(found))
        return Dataset(f"imagefolder:{self._place}", classes, samples, remarks=remarks)

    def _without_images(self, files: Sequence[str]) -> DatasetError:
        loose = any(map(is_image, files))
        content = "images, but none in a class sub-folder" if loose else "no images in its sub-folders"
        reasons = [remark for remark in self.listing.remarks.remarks if remark.kind != f"left out: {_EMPTY}"]
        left_out = "; ".join(map(str, reasons[:5]))
        command = self._list_beside(files)
        remedy = _LAYOUT + (f", or read the list that is there: {command}" if command else "")
        parquet = self._top / "metadata.parquet"
        if parquet.is_file():
            code = f"import pandas; pandas.read_parquet({str(parquet)!r}).to_csv({str(parquet.with_suffix('.csv'))!r})"
            remedy = f"Write the list as CSV: python -c {shlex.quote(code)}"
        for pattern, kind in (("*.parquet", "hf"), ("*/*.parquet", "hf"), ("*.tar", "wds"), ("*/*.tar", "wds")):
            if not command and not parquet.is_file() and next(self._root.glob(pattern), None) is not None:
                remedy = f"Read its files: {show_command(f'{kind}:{self._place}')}"
                break
        where = self._place if self._top == self._root else str(self._top)
        return DatasetError(
            f"the image folder {where!r} has {content}" + (f" ({left_out})" if left_out else ""), remedy=remedy
        )

    def _list_beside(self, files: Sequence[str]) -> str:
        """The command that reads a list beside the images; empty if there is none."""
        beside = [self._top / name for name in files] + [
            self._root / name for name in self.listing.names(self._root)[1]
        ]
        for suffixes in ((".csv", ".tsv", ".jsonl"), (".txt",)):
            for path in beside:
                if "submission" in path.name.casefold():
                    continue  # of a competition: an example, whose labels mean nothing
                if path.suffix in suffixes and (path.suffix != ".txt" or _LIST_NAME.search(path.name)):
                    return show_command(f"{'jsonl' if path.suffix == '.jsonl' else 'csv'}:{path}")
        return ""

    def _check_class_names(self, found: Mapping[str, Sequence[_Run]]) -> None:
        """Refuse folders of which none is a class by its name.

        Raises:
            DatasetError: there are no others.
        """
        if self._split == "none" or not all(map(is_not_a_class, found)):
            return
        inner = max(found, key=lambda name: sum(len(paths) for _, paths in found[name]))
        place = self._place if self._top == self._root else str(self._top)
        remedy = _LAYOUT
        if self._folders(self._top / inner):
            remedy = f"Name the folder of the class folders: {show_command(f'imagefolder:{Path(place) / inner}')}"
        elif list_command := self._list_beside(self.listing.names(self._top)[1]):
            remedy += f", or read the list that is there: {list_command}"
        raise DatasetError(
            f"the folders of {place!r} do not look like classes: {', '.join(found)}",
            remedy=f"{remedy}; if they are classes, write {show_command(f'imagefolder:{place}?split=none')}",
        )

    def _hints(self, found: Mapping[str, Sequence[_Run]]) -> Iterator[Remark]:
        """What is said of class folders that may be something else."""
        nested, mixed = [], []
        for name, runs in found.items():
            inner = {_relative(self._top / name, folder).partition("/")[0] for folder, _ in runs}
            below = inner - {"."}
            if "." not in inner and len(below) > 1:
                nested.append(name)
            if len({split_key(text) for text in below} - {""}) > 1:
                mixed.append(name)
        if mixed:
            kind = "class folders hold splits, which are read together"
            yield Remark(kind, len(mixed), tuple(mixed[:5]))
        elif nested:
            leaves = len({folder for runs in found.values() for folder, _ in runs})
            command = show_command(f"{self._command_spec()}{'&' if self._split else '?'}leaf")
            kind = f"class folders hold their images in sub-folders; {command} reads all {leaves} folders as classes"
            yield Remark(kind, len(nested), tuple(nested[:5]))
        if len(found) == 1:
            (name,) = found
            kind = "class only, so that every answer is right unless other classes are given"
            if nested:
                kind += f"; {self._command('', name)} reads its sub-folders as classes"
            yield Remark(kind, 1, (name,))

    def _command_spec(self) -> str:
        return f"imagefolder:{self._place}" + (f"?split={self._split}" if self._split else "")


def _splits_among(names: Sequence[str]) -> list[str]:
    """The names of splits, if these folders are splits: of more than one, or beside nothing that may be a class."""
    keys = split_keys(names)
    others = [name for name in names if name not in keys and not is_not_a_class(name)]
    return [*keys] if keys and (not others or len(set(keys.values())) > 1) else []


def _preferred(splits: Sequence[str]) -> str:
    keys = split_keys(splits)
    return max(splits, key=lambda name: PREFERRED_SPLITS.index(keys.get(name, "pred")))


def _metadata_in(folder: Path) -> Path | None:
    return next((folder / name for name in _METADATA if (folder / name).is_file()), None)


_LIST_NAME = re.compile("annot|label|list|train|val|test", re.IGNORECASE)
# not main_file_name
_FILE_NAME = re.compile(r"(?<!\w)file_name(?!\w)")


def _first_line(file: Path) -> str:
    with file.open("rb") as stream:
        return stream.readline(1 << 16).decode("utf-8", "replace")


def _checked(source: ListSource, row: ListRow) -> str:
    """The path of a row, which comes with the images and may not lead anywhere else."""
    path = row.path.strip()
    if "\\" in path and not os.path.lexists(source.folder / path):
        path = path.replace("\\", "/")
        source.remarks.add("path read with / for backslashes", row.path)
    inside(source.folder, path, f"line {row.line} of {str(source.file)!r}")
    return path


def _relative(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def _leaf_labels(top: Path, found: Mapping[str, Sequence[_Run]]) -> dict[str, str]:
    """The innermost folders with images, relative to ``top``, to their names, or their paths where names repeat."""
    folders = list(dict.fromkeys(_relative(top, folder) for runs in found.values() for folder, _ in runs))
    counts = Counter(folder.rpartition("/")[2] for folder in folders)
    names = {folder: folder.rpartition("/")[2] for folder in folders}
    return {folder: name if counts[name] == 1 else folder for folder, name in names.items()}
