"""The layouts that published data sets come in, and their readers: class folders, lists of images, CoOp splits, CUB.

Layouts with annotations in MATLAB files are in ``matlab``, the binary files of CIFAR in ``cifar``. Every reader finds
the class of an image by what the annotations say, never by a position in a sorted list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from abs_classify.datasets.base import Sample
from abs_classify.datasets.benchmarks.disk_search import find_class_folders
from abs_classify.datasets.benchmarks.roots import (
    Annotation,
    BenchmarkRoot,
    ListedLayout,
    ListedSample,
    MissingPath,
    missing_folder,
    unknown_class,
)
from abs_classify.datasets.folders import is_image, list_folder, read_lines
from abs_core.errors import DatasetError
from abs_core.labels import LabelSet, compact

__all__ = [
    "ClassFolders",
    "CoopEntry",
    "CoopSplit",
    "CubTables",
    "ListFile",
    "ListLine",
    "aircraft_line",
    "by_breed",
    "by_folder",
    "by_label",
    "by_letter",
    "by_number",
    "dtd_line",
    "food101_line",
    "imagenet_caffe_line",
    "imagenet_kaggle_line",
    "pets_line",
    "places365_line",
    "sun397_line",
    "ucf101_line",
    "under_letters",
]


# How deep class folders may be nested: a/apartment_building/outdoor.
_DEPTH = 3

#: From the path of a folder to the class id.
FolderLabel = Callable[[str, LabelSet], str | None]


def _by_name(folder: str, labels: LabelSet) -> str | None:
    """The class with the id that the path of the folder spells; case and separators do not matter."""
    return labels.find_id(folder)


def under_letters(folder: str, labels: LabelSet) -> str | None:
    """The class of a path below a folder of one letter: ``a/apse/indoor`` is ``apse/indoor``."""
    letter, _, name = folder.partition("/")
    return labels.find_id(name) if len(letter) == 1 else None


def by_number(folder: str, labels: LabelSet) -> str | None:
    """The class with the number that is the folder's name; so ``10`` comes after ``9`` and not after ``1``.

    ImageNet-V2 has such folders. Copies of it with WordNet ids as folder names exist and are read too.
    """
    if folder.isascii() and folder.isdigit():
        return labels.id_at(int(folder))
    return labels.find_id(folder)


@dataclass(frozen=True)
class ClassFolders:
    """Images in folders that are named after their class.

    Args:
        folder: the parent of the class folders, relative to the root; "." for the root itself.
        label: from the path of a class folder, relative to ``folder``, to the class id.
        ignored: folders with images that are not classes.
        other: words in the name of ``folder`` by which it is another split of the data set.
        numbered: whether the folders must be the numbers of all classes, from 0 on.
    """

    folder: str
    label: FolderLabel = _by_name
    ignored: tuple[str, ...] = ()
    other: tuple[str, ...] = ()
    numbered: bool = False

    @property
    def layout(self) -> str:
        """The files and folders that it reads."""
        if self.numbered:
            return f"class folders named by position in the order of the class ids, in {self.folder}/"
        return "class folders" if self.folder == "." else f"class folders in {self.folder}/"

    @property
    def required_paths(self) -> int:
        """How many files and folders it needs."""
        return 1

    def missing(self, root: BenchmarkRoot) -> tuple[MissingPath, ...]:
        """The parent of the class folders, or a class folder in it. Looks at names only."""
        folder = self._top(root)
        missing = missing_folder(folder, "the folder of class folders")
        if missing:
            return missing
        names, _ = list_folder(folder)
        title = f"the folders of its {len(root.labels.ids)} classes"
        if self.numbered:
            numbers = {int(name) for name in names if name.isascii() and name.isdigit() and len(name) < 9}
            return () if numbers == set(range(len(root.labels.ids))) else (MissingPath(folder, title),)
        nested = [f"{name}/{inner}" for name in names if len(name) == 1 for inner in list_folder(folder / name)[0]]
        is_other = any(word in folder.resolve().name for word in self.other)
        if not is_other and any(self.label(name, root.labels) is not None for name in (*names, *nested)):
            return ()
        return (MissingPath(folder, title),)

    def _top(self, root: BenchmarkRoot) -> Path:
        """The parent of the class folders, where it is; its published place if it is nowhere."""
        published = root.path / self.folder
        if not root.search or self.other:
            return published
        ids = map(str, range(len(root.labels.ids))) if self.numbered else map(compact, root.labels.ids)
        return find_class_folders(root.folders, self.folder, root.split, ids) or published

    def samples(self, root: BenchmarkRoot) -> Iterator[Sample]:
        """The images of the class folders, in the order of the folders' names."""
        top = self._top(root)
        if top != root.path / self.folder:
            root.remarks.add("folder of class folders that lies elsewhere than the published one", str(top))
        yield from self._samples(top, root.labels, "")

    def _samples(self, top: Path, labels: LabelSet, parent: str) -> Iterator[Sample]:
        folders, _ = list_folder(top / parent)
        for name in folders:
            folder = f"{parent}/{name}" if parent else name
            if folder in self.ignored:
                continue
            label = self.label(folder, labels)
            inner, files = list_folder(top / folder)
            images = [file for file in files if is_image(file)]
            if images and label is None:
                raise unknown_class(f"the folder {str(top / folder)!r}", folder, labels)
            for file in images:
                yield Sample(top / folder / file, label or "")
            if inner and folder.count("/") < _DEPTH - 1:
                yield from self._samples(top, labels, folder)


class ListLine(NamedTuple):
    """A line of a list of images.

    Args:
        path: of the image, relative to the folder of images.
        annotation: what the line says about the class.
        label: the class id; None if it is not a published class.
    """

    path: str
    annotation: str
    label: str | None


#: Parses a line of a list. May raise ValueError or IndexError.
LineParser = Callable[[str, LabelSet], ListLine]


def dtd_line(line: str, labels: LabelSet) -> ListLine:
    """``banded/banded_0002.jpg``: the folder is the class."""
    folder = line.split("/")[0]
    return ListLine(line, folder, labels.find_id(folder))


def food101_line(line: str, labels: LabelSet) -> ListLine:
    """``apple_pie/1011328``: the folder is the class, and ``.jpg`` is left out."""
    folder = line.split("/")[0]
    return ListLine(f"{line}.jpg", folder, labels.find_id(folder))


def pets_line(line: str, labels: LabelSet) -> ListLine:
    """``Abyssinian_201 1 1 1``: image, class number from 1 on, species, number of the breed within the species.

    A sort of the file names puts the cats, which have capitals, before the dogs; only the number counts. The breed in
    the file name must agree with it.
    """
    image, number = line.split()[:2]
    label = labels.id_at(int(number) - 1)
    breed = image.rpartition("_")[0]
    return ListLine(f"{image}.jpg", f"{number} ({breed})", label if label == labels.find_id(breed) else None)


def places365_line(line: str, labels: LabelSet) -> ListLine:
    """``Places365_val_00000001.jpg 165``: image and class number from 0 on."""
    image, number = line.split()
    return ListLine(image, number, labels.id_at(int(number)))


def aircraft_line(line: str, labels: LabelSet) -> ListLine:
    """``1514522 F-16A/B``: image without ``.jpg``, and the variant, which may contain spaces and slashes."""
    image, _, variant = line.partition(" ")
    return ListLine(f"{image}.jpg", variant, labels.find_id(variant))


def sun397_line(line: str, labels: LabelSet) -> ListLine:
    """``/a/apse/indoor/sun_blhbltknhczdswwd.jpg``: the path between the letter and the file is the class."""
    path = line.lstrip("/")
    name = "/".join(path.split("/")[1:-1])
    return ListLine(path, name, labels.find_id(name))


def ucf101_line(line: str, labels: LabelSet) -> ListLine:
    """``ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi 1``: a video, whose middle frame is in ``Apply_Eye_Makeup``."""
    action, _, video = line.split()[0].partition("/")
    folder = "_".join(re.findall("[A-Z][^A-Z]*", action))
    return ListLine(f"{folder}/{video.removesuffix('.avi')}.jpg", action, labels.find_id(action))


def imagenet_caffe_line(line: str, labels: LabelSet) -> ListLine:
    """``ILSVRC2012_val_00000001.JPEG 65``: image, and position in the order of the WordNet ids, from 0 on."""
    image, number = line.split()
    return ListLine(image.rpartition("/")[2], number, labels.id_at(int(number)))


def imagenet_kaggle_line(line: str, labels: LabelSet) -> ListLine:
    """``ILSVRC2012_val_00000001,n03995372 85 1 499 272``: image, then class and box of each object (of one class)."""
    image, _, objects = line.partition(",")
    wnid = objects.split()[0]
    return ListLine(f"{image}.JPEG", wnid, labels.find_id(wnid))


@dataclass(frozen=True)
class ListFile(ListedLayout):
    """A text file that lists the images of one split.

    Args:
        file: the list, relative to the root.
        images: the folder that its paths start from, relative to the root.
        parse: parses a line.
        header: the number of lines at the top that name columns.
        comment: the prefix of comments; by default there are none.
    """

    file: str
    images: str
    parse: LineParser
    header: int = 0
    comment: str = "\n"

    @property
    def annotations(self) -> tuple[Annotation, ...]:
        """The list."""
        return (Annotation(self.file, "the list of the images"),)

    def listed(self, root: BenchmarkRoot) -> Iterator[ListedSample]:
        """The images in the order of the list."""
        path = root.file(self.file)
        for number, line in read_lines(path, self.comment):
            if number <= self.header:
                continue
            where = f"line {number} of {str(path)!r}"
            try:
                image = self.parse(line, root.labels)
            except (ValueError, IndexError) as error:
                raise DatasetError(
                    f"{where} is not in the format of the official list: {line[:80]!r}",
                    remedy="Fetch the official file again",
                ) from error
            if image.label is None:
                raise unknown_class(where, image.annotation, root.labels)
            yield ListedSample(image.path, image.label, where)


class CoopEntry(NamedTuple):
    """An entry of a split file of the CoOp suite.

    Args:
        path: of the image.
        label: a position in an order of classes that only the suite has.
        name: of the class.
    """

    path: str
    label: int
    name: str


#: From an entry to the class id.
EntryLabel = Callable[[CoopEntry, LabelSet], str | None]


def by_folder(entry: CoopEntry, labels: LabelSet) -> str | None:
    """The class that the image's folder names."""
    return labels.find_id(entry.path.rpartition("/")[0])


def by_letter(entry: CoopEntry, labels: LabelSet) -> str | None:
    """The class that the image's folder names, without the folder of one letter above it."""
    return labels.find_id(entry.path.rpartition("/")[0].partition("/")[2])


def by_breed(entry: CoopEntry, labels: LabelSet) -> str | None:
    """The class that the file name begins with: ``Abyssinian_201.jpg``."""
    return labels.find_id(entry.path.rpartition("_")[0])


def by_label(entry: CoopEntry, labels: LabelSet) -> str | None:
    """The class whose official number is one more than the label."""
    return labels.id_at(entry.label)


_FETCH_SPLIT = "Fetch the split file again; DATASETS.md of the CoOp repository links it"

# The largest published one has 10 MB; what JSON may unpack to in memory is many times as much.
_MAX_SPLIT_BYTES = 1 << 26

# Sources spell class names differently; a shifted or permuted list agrees almost nowhere.
_MIN_AGREEMENT = 0.8


@dataclass(frozen=True)
class CoopSplit(ListedLayout):
    """One split of a split file of the CoOp suite (Zhou et al., 2022): ``{"train": [[path, label, name], ...], ...}``.

    The label is a position in an order that only the suite has (it leaves classes out, renames them, sorts anew), so
    the class is taken from the image's path, and label and class must correspond in the whole file. Flowers102 and
    StanfordCars keep all images in one folder; there the label is the official class number less one, and the names
    are compared with the published ones.

    Args:
        file: the split file, relative to the root.
        part: ``train``, ``val`` or ``test``.
        images: the folder that its paths start from, relative to the root.
        label: from an entry to the class id.
    """

    file: str
    part: str
    images: str
    label: EntryLabel = by_folder

    @property
    def annotations(self) -> tuple[Annotation, ...]:
        """The split file."""
        remedy = f"Download {self.file} (linked in DATASETS.md of the CoOp repository) to {{path}}"
        return (Annotation(self.file, "the split of the CoOp suite", remedy),)

    @property
    def layout(self) -> str:
        """The files and folders that it reads."""
        return f"{self.file} ({self.part}) and {self.images}/"

    def listed(self, root: BenchmarkRoot) -> Iterator[ListedSample]:
        """The images in the order of the file."""
        for entry in self._labelled(root):
            yield entry[1]

    def class_names(self, root: BenchmarkRoot) -> dict[str, str]:
        """Class id to the name that the suite prompts with: the file's, with spaces for underscores."""
        return {sample.label: entry.name.replace("_", " ") for entry, sample in self._labelled(root)}

    def _labelled(self, root: BenchmarkRoot) -> Iterator[tuple[CoopEntry, ListedSample]]:
        file = root.file(self.file)
        ids: dict[int, str] = {}
        names: dict[str, str] = {}
        for number, entry in enumerate(_read_entries(file, self.part), 1):
            where = f"entry {number} of {self.part!r} in {str(file)!r}"
            label = self.label(entry, root.labels)
            if label is None:
                raise unknown_class(where, f"{entry.label} ({entry.path})", root.labels)
            if ids.setdefault(entry.label, label) != label:
                raise DatasetError(
                    f"{where} gives {label!r} the label {entry.label}, which is that of {ids[entry.label]!r}",
                    remedy=_FETCH_SPLIT,
                )
            names[label] = entry.name
            yield entry, ListedSample(entry.path, label, where)
        if len(set(ids.values())) != len(ids):
            raise DatasetError(f"{str(file)!r} gives one class several labels", remedy=_FETCH_SPLIT)
        if self.label is by_label:
            _check_names(file, names, root.labels)


def _read_entries(file: Path, part: str) -> list[CoopEntry]:
    try:
        if file.stat().st_size > _MAX_SPLIT_BYTES:
            raise DatasetError(f"{str(file)!r} is larger than {_MAX_SPLIT_BYTES >> 20} MB", remedy=_FETCH_SPLIT)
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DatasetError(f"cannot read {str(file)!r}: {reason}", remedy="Check its permissions") from error
    except (ValueError, RecursionError) as error:
        # often this is an HTML page that says "too many downloads"
        raise DatasetError(f"{str(file)!r} is not a JSON file", remedy=_FETCH_SPLIT) from error
    rows = content.get(part) if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(map(_is_entry, rows)):
        raise DatasetError(f"{str(file)!r} has no list {part!r} of [path, label, name]", remedy=_FETCH_SPLIT)
    return [CoopEntry(*row) for row in rows]


def _is_entry(row: Any) -> bool:
    return (
        isinstance(row, list)
        and len(row) == 3
        and isinstance(row[0], str)
        and type(row[1]) is int
        and isinstance(row[2], str)
    )


def _check_names(file: Path, names: dict[str, str], labels: LabelSet) -> None:
    """Refuse labels that count in another order than the published classes do.

    Args:
        file: the split file, for the error.
        names: class id to the name that the file gives it.
        labels: the published classes.
    """
    agreeing = sum(_words(name) == _words(labels.names[label]) for label, name in names.items())
    if agreeing < _MIN_AGREEMENT * len(names):
        raise DatasetError(
            f"the labels of {str(file)!r} count in another order than the classes of {labels.name!r}: only {agreeing} "
            f"of {len(names)} class names agree",
            remedy=_FETCH_SPLIT,
        )


def _words(name: str) -> list[str]:
    """The words of a name in any order: the suite puts the year of a car first."""
    return sorted(compact(word) for word in name.replace("-", " ").split())


_FETCH_CUB = "Fetch CUB_200_2011.tgz again; all its text files belong together"


@dataclass(frozen=True)
class CubTables(ListedLayout):
    """``images.txt``, ``image_class_labels.txt`` and ``train_test_split.txt``: image number, then path, class, 0 or 1.

    Args:
        training: which images: True: those for training, False: those for testing, None: all.
    """

    training: bool | None

    images = "images"

    @property
    def annotations(self) -> tuple[Annotation, ...]:
        """The three files."""
        return (
            Annotation("images.txt", "the paths of the images"),
            Annotation("image_class_labels.txt", "the classes of the images"),
            Annotation("train_test_split.txt", "the split into training and test"),
        )

    def listed(self, root: BenchmarkRoot) -> Iterator[ListedSample]:
        """The images in the order of ``images.txt``."""
        numbers = _read_table(root.file("image_class_labels.txt"))
        training = _read_table(root.file("train_test_split.txt"))
        path_of_list = root.file("images.txt")
        for image, path in _read_table(path_of_list).items():
            where = f"the image number {image} of {str(path_of_list)!r}"
            if image not in numbers or training.get(image) not in ("0", "1"):
                raise DatasetError(f"{where} has no class or no split", remedy=_FETCH_CUB)
            if self.training is not None and (training[image] == "1") != self.training:
                continue
            number = numbers[image]
            label = root.labels.id_at(int(number) - 1) if number.isdigit() else None
            folder = path.partition("/")[0]
            # the name of the folder begins with the class number, so the two files can be compared
            if label is None or root.labels.find_id(folder) != label:
                raise unknown_class(where, f"{number} ({folder})", root.labels)
            yield ListedSample(path, label, where)


def _read_table(path: Path) -> dict[str, str]:
    rows: dict[str, str] = {}
    for number, line in read_lines(path):
        key, _, value = line.partition(" ")
        if not key.isdigit() or not value or key in rows:
            raise DatasetError(
                f"line {number} of {str(path)!r} must be a new image number and a value, got {line[:80]!r}",
                remedy=_FETCH_CUB,
            )
        rows[key] = value.strip()
    return rows
