"""What the readers of published layouts share: the root of a data set, what is missing in it, lists of images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from abs_classify.datasets.base import Sample
from abs_classify.datasets.benchmarks.disk_search import (
    FileVariants,
    FolderTree,
    find_file,
    find_images,
    folder_of_images_like,
)
from abs_classify.datasets.folders import inside
from abs_core.errors import DatasetError
from abs_core.labels import LabelSet
from abs_core.remarks import RemarkCounter

__all__ = [
    "Annotation",
    "BenchmarkRoot",
    "LayoutReader",
    "ListedLayout",
    "ListedSample",
    "MissingPath",
    "missing_file",
    "missing_folder",
    "unknown_class",
]


@dataclass(frozen=True)
class BenchmarkRoot:
    """A folder that may be the root of a published data set.

    Args:
        path: the folder.
        labels: the published classes.
        split: the name of the split that is looked for.
        search: whether files count that lie some levels below their published place.
        remarks: of what was read from another place or under another name than the published one.
        tree: the folders of the root; by default they are looked at when they are first asked for.
    """

    path: Path
    labels: LabelSet
    split: str = ""
    search: bool = False
    remarks: RemarkCounter = field(default_factory=RemarkCounter, compare=False)
    tree: FolderTree | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Look at the folders once, whatever the number of splits that are looked for."""
        if self.tree is None:
            object.__setattr__(self, "tree", FolderTree(self.path))

    @property
    def folders(self) -> FolderTree:
        """The folders of the root."""
        assert self.tree is not None  # from the beginning
        return self.tree

    def file(self, relative: str) -> Path:
        """An annotation file, where it is; in its published place if it is nowhere."""
        found = find_file(self.folders, relative) if self.search else None
        return found or self.path / relative


@dataclass(frozen=True)
class MissingPath:
    """A file or folder that a reader needs and that does not exist.

    Args:
        path: where it should be.
        title: what it is, such as "the list of test images".
        remedy: how to get it if not by extracting an archive; empty if there is no other way.
    """

    path: Path
    title: str
    remedy: str = ""


class LayoutReader(Protocol):
    """The reader of one published layout of one split of a data set."""

    @property
    def layout(self) -> str:
        """The files and folders that it reads, for lists and messages."""
        ...

    @property
    def required_paths(self) -> int:
        """How many files and folders it needs at least; ``missing`` returns at most as many."""
        ...

    def missing(self, root: BenchmarkRoot) -> tuple[MissingPath, ...]:
        """What does not exist; if empty, ``samples`` can be called. Opens no image; reads a list in a search only."""
        ...

    def samples(self, root: BenchmarkRoot) -> Iterator[Sample]:
        """The samples in the order of the layout. The files of those that a list names may not exist.

        Raises:
            DatasetError: an annotation file is broken, names an unknown class, or has a path that leads outside.
        """
        ...


def missing_file(path: Path, title: str, remedy: str = "") -> tuple[MissingPath, ...]:
    """Empty if the path is a file with content."""
    try:
        exists = path.is_file() and path.stat().st_size > 0
    except OSError:
        exists = False
    return () if exists else (MissingPath(path, title, remedy),)


def missing_folder(path: Path, title: str) -> tuple[MissingPath, ...]:
    """Empty if the path is a folder with content."""
    try:
        exists = path.is_dir() and any(path.iterdir())
    except OSError:
        exists = False
    return () if exists else (MissingPath(path, title),)


def unknown_class(where: str, label: object, labels: LabelSet) -> DatasetError:
    """The error for a label that is not a class of the published data set."""
    return DatasetError(
        f"{where}: the label must be one of the {len(labels.ids)} classes of {labels.name!r}, got {label!r}",
        remedy="Check that this is the data set that you named, or read it as imagefolder: or csv:",
    )


class Annotation(NamedTuple):
    """A file that says which images there are and of which classes.

    Args:
        file: its published place, relative to the root.
        title: what it is, such as "the list of test images".
        remedy: how to get it if not by extracting an archive, with ``{path}`` where it should be; empty if there is no
            other way.
    """

    file: str
    title: str
    remedy: str = ""


class ListedSample(NamedTuple):
    """An image that an annotation lists.

    Args:
        path: relative to the folder of images.
        label: the class id.
        where: how an error about it begins: "line 3 of 'list.txt'".
    """

    path: str
    label: str
    where: str


def _missing_annotation(root: BenchmarkRoot, annotation: Annotation) -> MissingPath:
    path = root.path / annotation.file
    return MissingPath(path, annotation.title, annotation.remedy.replace("{path}", repr(str(path))))


class ListedLayout(ABC):
    """A layout in which annotation files list the images of one folder."""

    #: The folder of images, relative to the root.
    images: str

    #: The names that images have whatever the list says; empty if only the list knows them.
    pattern = ""

    @property
    @abstractmethod
    def annotations(self) -> tuple[Annotation, ...]:
        """The files that it reads."""

    @abstractmethod
    def listed(self, root: BenchmarkRoot) -> Iterator[ListedSample]:
        """The images that the annotations list, in their order.

        Raises:
            DatasetError: an annotation file is broken, or names an unknown class.
        """

    @property
    def layout(self) -> str:
        """The files and folders that it reads."""
        return f"{', '.join(annotation.file for annotation in self.annotations)} and {self.images}/"

    @property
    def required_paths(self) -> int:
        """How many files and folders it needs."""
        return len(self.annotations) + 1

    def missing(self, root: BenchmarkRoot) -> tuple[MissingPath, ...]:
        """The annotations and the folder of images."""
        missing = [
            _missing_annotation(root, annotation)
            for annotation in self.annotations
            if missing_file(root.file(annotation.file), annotation.title)
        ]
        if not root.search:
            return (*missing, *self._missing_images(root.path / self.images))
        try:
            paths = [] if missing else [entry.path for entry in self._checked(root)]
        except DatasetError:
            foreign = [a for a in self.annotations if root.file(a.file) != root.path / a.file]
            if foreign:  # another file of this name
                return (_missing_annotation(root, foreign[0]),)
            paths = []  # what is wrong with them is said when they are read
        found = (
            find_images(root.folders, self.images, root.split, paths) if paths else self._likely_images(root.folders)
        )
        return tuple(missing) if found else (*missing, *self._missing_images(root.path / self.images, anywhere=True))

    def _missing_images(self, folder: Path, anywhere: bool = False) -> tuple[MissingPath, ...]:
        missing = (MissingPath(folder, "the folder of images"),)
        return missing if anywhere else missing_folder(folder, "the folder of images")

    def _likely_images(self, tree: FolderTree) -> Path | None:
        """A folder of images by its name or theirs, where no list says what they are called."""
        title = Path(self.images).name.casefold()
        named = (folder for folder in tree.folders if folder.name.casefold() == title)
        found = next((folder for folder in named if not missing_folder(folder, "")), None)
        return found or (folder_of_images_like(tree, self.pattern) if self.pattern else None)

    def _checked(self, root: BenchmarkRoot) -> list[ListedSample]:
        """The listed images, after their paths were found to stay inside."""
        entries = list(self.listed(root))
        for entry in entries:
            inside(root.path / self.images, entry.path, entry.where)
        return entries

    def samples(self, root: BenchmarkRoot) -> Iterator[Sample]:
        """The images in the order of the annotations."""
        entries, published = self._checked(root), root.path / self.images
        folder = find_images(root.folders, self.images, root.split, [entry.path for entry in entries]) or published
        if folder != published:
            root.remarks.add("folder of images that lies elsewhere than the published one", str(folder))
        variants = FileVariants()
        for entry in entries:
            path = folder.joinpath(entry.path)
            found = variants.find(path)
            if found is not None and found != path:
                root.remarks.add("images whose file names differ in case or extension from the list", found.name)
            yield Sample(found or path, entry.label)
