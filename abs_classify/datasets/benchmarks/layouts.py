"""The split files of the CoOp suite (Zhou et al., 2022): ``{"train": [[path, label, classname], ...], "val", "test"}``.

The label is a position in an order that only that suite has (it leaves classes out, renames them, sorts anew). So the
class is taken from the image's path, and label and class must go together in the whole file. Flowers102 and
StanfordCars keep every image in one folder; there the label is the official class number less one, and the names are
held against the published ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from abs_classify.datasets.base import Sample
from abs_classify.datasets.folders import MAX_ANNOTATION_BYTES, inside, is_image, list_folder, read_lines
from abs_core.errors import DatasetError
from abs_core.labels import LabelSet, compact

__all__ = [
    "ClassFolders",
    "CoopSplit",
    "CubTables",
    "LayoutReader",
    "ListFile",
    "MissingPath",
    "aircraft",
    "by_breed",
    "by_folder",
    "by_label",
    "by_letter",
    "by_name",
    "by_number",
    "dtd",
    "food101",
    "imagenet_kaggle",
    "pets",
    "places365",
    "sun397",
    "ucf101",
    "under_letters",
    "unknown_class",
    "wanted_file",
    "wanted_folder",
]


@dataclass(frozen=True)
class MissingPath:
    """Something that a reader needs and that is not there.

    Args:
        path: where it should be.
        what: what it is, such as "the list of test images".
        remedy: what else than extracting an archive brings it; empty where nothing does.
    """

    path: Path
    what: str
    remedy: str = ""


class LayoutReader(Protocol):
    """One official layout of one part of a data set."""

    @property
    def layout(self) -> str:
        """The files and folders it reads, for lists and messages."""
        ...

    @property
    def needs(self) -> int:
        """How many things must be there at least; ``missing`` names at most as many."""
        ...

    def missing(self, root: Path, labels: LabelSet) -> tuple[MissingPath, ...]:
        """What is not there; empty where ``samples`` can be called. Cheap: reads no list and opens no image."""
        ...

    def samples(self, root: Path, labels: LabelSet) -> Iterator[Sample]:
        """The images in the order of the layout; those that a list names may be absent.

        Raises:
            DatasetError: an annotation file is broken, names a class that ``labels`` lacks, or leads outside ``root``.
        """
        ...


def wanted_file(path: Path, what: str, remedy: str = "") -> tuple[MissingPath, ...]:
    """Empty if there is such a file that is not empty."""
    try:
        there = path.is_file() and path.stat().st_size > 0
    except OSError:
        there = False
    return () if there else (MissingPath(path, what, remedy),)


def wanted_folder(path: Path, what: str, remedy: str = "") -> tuple[MissingPath, ...]:
    """Empty if there is such a folder with something in it."""
    try:
        there = path.is_dir() and any(path.iterdir())
    except OSError:
        there = False
    return () if there else (MissingPath(path, what, remedy),)


def unknown_class(place: str, label: object, labels: LabelSet) -> DatasetError:
    """The error for a label that the published label set does not have."""
    return DatasetError(
        f"{place} has the label {label!r}, which is none of the {len(labels.ids)} classes of {labels.name!r}",
        remedy="Check that this is the data set that you named, or read it as imagefolder: or csv:",
    )


#: How deep class folders may lie: a/apartment_building/outdoor.
_DEPTH = 3


FolderLabel = Callable[[str, LabelSet], str | None]


def by_name(folder: str, labels: LabelSet) -> str | None:
    """The class that a folder's path names, but for case and separators."""
    return labels.find_id(folder)


def under_letters(folder: str, labels: LabelSet) -> str | None:
    """The class that a path under a folder of one letter names: ``a/apse/indoor`` is ``apse/indoor``."""
    letter, _, name = folder.partition("/")
    return labels.find_id(name) if len(letter) == 1 else None


def by_number(folder: str, labels: LabelSet) -> str | None:
    """The class at the position that a folder's name is: ``10`` comes after ``9`` and not after ``1``.

    ImageNet-V2 names its folders so. Copies with WordNet ids as folder names are around, and are read too.
    """
    if folder.isascii() and folder.isdigit():
        return labels.id_at(int(folder))
    return labels.find_id(folder)


@dataclass(frozen=True)
class ClassFolders:
    """Images in folders that are named by their class.

    Args:
        folder: where the class folders lie, relative to the root; "." for the root itself.
        label: from a class folder's path, relative to ``folder``, to the class id.
        ignored: folders beside the class folders that are no classes, although they hold images.
        other: words in a root's own name that say it is another part of the data set.
    """

    folder: str
    label: FolderLabel = by_name
    ignored: tuple[str, ...] = ()
    other: tuple[str, ...] = ()

    @property
    def layout(self) -> str:
        """The files and folders it reads."""
        return "class folders" if self.folder == "." else f"class folders in {self.folder}/"

    @property
    def needs(self) -> int:
        """How many things must be there."""
        return 1

    def missing(self, root: Path, labels: LabelSet) -> tuple[MissingPath, ...]:
        """The folder of class folders, or a class folder in it. Looks at names only."""
        folder = root / self.folder
        absent = wanted_folder(folder, "the folder of class folders")
        if absent:
            return absent
        names, _ = list_folder(folder)
        letters = [f"{name}/{below}" for name in names if len(name) == 1 for below in list_folder(folder / name)[0]]
        other = any(word in folder.resolve().name for word in self.other)
        if not other and any(self.label(name, labels) is not None for name in (*names, *letters)):
            return ()
        return (MissingPath(folder, f"the folders of its {len(labels.ids)} classes"),)

    def samples(self, root: Path, labels: LabelSet) -> Iterator[Sample]:
        """The images of the class folders, in the order of the folders' names."""
        yield from self._items(root / self.folder, labels, "")

    def _items(self, top: Path, labels: LabelSet, relative: str) -> Iterator[Sample]:
        folders, _ = list_folder(top / relative)
        for name in folders:
            below = f"{relative}/{name}" if relative else name
            if below in self.ignored:
                continue
            label = self.label(below, labels)
            inner, files = list_folder(top / below)
            images = [file for file in files if is_image(file)]
            if images and label is None:
                raise unknown_class(f"the folder {str(top / below)!r}", below, labels)
            for file in images:
                yield Sample(top / below / file, label or "")
            if inner and below.count("/") < _DEPTH - 1:
                yield from self._items(top, labels, below)


#: From path, label and name of an entry to the class id.
EntryLabel = Callable[[str, int, LabelSet], str | None]


_COOP_REMEDY = "Fetch the split file again; DATASETS.md of the CoOp repository links it"


# Published names differ in spelling between sources; a shifted or permuted list has next to none in common.
_ALIKE = 0.8


def by_folder(path: str, _label: int, labels: LabelSet) -> str | None:
    """The class that the image's folder names."""
    return labels.find_id(path.rpartition("/")[0])


def by_letter(path: str, _label: int, labels: LabelSet) -> str | None:
    """The class that the image's folder names, less the folder of one letter above it."""
    return labels.find_id(path.rpartition("/")[0].partition("/")[2])


def by_breed(path: str, _label: int, labels: LabelSet) -> str | None:
    """The class that the file's name begins with: ``Abyssinian_201.jpg``."""
    return labels.find_id(path.rpartition("_")[0])


def by_label(_path: str, label: int, labels: LabelSet) -> str | None:
    """The class whose official number is one more than the label."""
    return labels.id_at(label)


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

    def missing(self, root: Path, labels: LabelSet) -> tuple[MissingPath, ...]:  # noqa: ARG002 - as of every reader
        """The split file, the folder of images, or both."""
        where = f"Download {self.file} (linked in DATASETS.md of the CoOp repository) to {str(root / self.file)!r}"
        return (
            *wanted_file(root / self.file, "the split of the CoOp suite", where),
            *wanted_folder(root / self.images, "the folder of images"),
        )

    def samples(self, root: Path, labels: LabelSet) -> Iterator[Sample]:
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
                    f"{place} gives {found!r} the label {label}, which is that of {ids[label]!r}", remedy=_COOP_REMEDY
                )
            spelled[found] = name
            yield Sample(inside(root / self.images, path, place), found)
        if len(set(ids.values())) != len(ids):
            raise DatasetError(f"{str(file)!r} gives one class several labels", remedy=_COOP_REMEDY)
        if self.label is by_label:
            _check_names(file, spelled, labels)


def _entries(file: Path, part: str) -> list[tuple[str, int, str]]:
    try:
        if file.stat().st_size > MAX_ANNOTATION_BYTES:
            raise DatasetError(f"{str(file)!r} has more than {MAX_ANNOTATION_BYTES >> 20} MB", remedy=_COOP_REMEDY)
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DatasetError(f"cannot read {str(file)!r}: {reason}", remedy="Check its permissions") from error
    except (ValueError, RecursionError) as error:
        # an HTML page that says "too many downloads" is what often lies here
        raise DatasetError(f"{str(file)!r} is no JSON file", remedy=_COOP_REMEDY) from error
    rows = content.get(part) if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(map(_is_entry, rows)):
        raise DatasetError(f"{str(file)!r} has no list {part!r} of [path, label, classname]", remedy=_COOP_REMEDY)
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
    words = {name: sorted(compact(word) for word in name.replace("-", " ").split()) for name in labels.names.values()}
    alike = sum(
        sorted(compact(word) for word in name.replace("-", " ").split()) == words[labels.names[label]]
        for label, name in spelled.items()
    )
    if alike < _ALIKE * len(spelled):
        raise DatasetError(
            f"{alike} of {len(spelled)} class names in {str(file)!r} are those of {labels.name!r} at their labels, "
            "so its labels count in another order",
            remedy=_COOP_REMEDY,
        )


_CUB_REMEDY = "Fetch CUB_200_2011.tgz again; all its text files belong together"


@dataclass(frozen=True)
class CubTables:
    """``images.txt``, ``image_class_labels.txt`` and ``train_test_split.txt``: number, then path, class number, 0 or 1.

    Args:
        training: which images: True for those of training, False for those of the test, None for all.
    """

    training: bool | None

    layout = "images.txt, image_class_labels.txt, train_test_split.txt and images/"
    needs = 4

    def missing(self, root: Path, labels: LabelSet) -> tuple[MissingPath, ...]:  # noqa: ARG002 - as of every reader
        """Each of the three files, and the folder of images."""
        return (
            *wanted_file(root / "images.txt", "the paths of the images"),
            *wanted_file(root / "image_class_labels.txt", "the classes of the images"),
            *wanted_file(root / "train_test_split.txt", "the split into training and test"),
            *wanted_folder(root / "images", "the folder of images"),
        )

    def samples(self, root: Path, labels: LabelSet) -> Iterator[Sample]:
        """The images in the order of ``images.txt``."""
        numbers = _table(root / "image_class_labels.txt")
        training = _table(root / "train_test_split.txt")
        paths = _table(root / "images.txt")
        for image, relative in paths.items():
            if image not in numbers or training.get(image) not in ("0", "1"):
                raise DatasetError(
                    f"the image number {image} of {str(root / 'images.txt')!r} has no class or no split",
                    remedy=_CUB_REMEDY,
                )
            if self.training is not None and (training[image] == "1") != self.training:
                continue
            place = f"the image number {image} of {str(root)!r}"
            number = numbers[image]
            label = labels.id_at(int(number) - 1) if number.isdigit() else None
            folder = relative.partition("/")[0]
            # the folder begins with the class number, so the two files can be held against each other
            if label is None or labels.find_id(folder) != label:
                raise unknown_class(place, f"{number} ({folder})", labels)
            yield Sample(inside(root / "images", relative, place), label)


def _table(path: Path) -> dict[str, str]:
    rows: dict[str, str] = {}
    for number, line in read_lines(path):
        key, _, value = line.partition(" ")
        if not key.isdigit() or not value or key in rows:
            raise DatasetError(f"line {number} of {str(path)!r} is not a new number and a value", remedy=_CUB_REMEDY)
        rows[key] = value.strip()
    return rows


#: From a line to the image's path under the folder of images, what the line says of its class, and the class id.
Parse = Callable[[str, LabelSet], tuple[str, str, str | None]]


def dtd(line: str, labels: LabelSet) -> tuple[str, str, str | None]:
    """``banded/banded_0002.jpg``: the folder is the class."""
    folder = line.split("/")[0]
    return line, folder, labels.find_id(folder)


def food101(line: str, labels: LabelSet) -> tuple[str, str, str | None]:
    """``apple_pie/1011328``: the folder is the class, and ``.jpg`` is left out."""
    folder = line.split("/")[0]
    return f"{line}.jpg", folder, labels.find_id(folder)


def pets(line: str, labels: LabelSet) -> tuple[str, str, str | None]:
    """``Abyssinian_201 1 1 1``: image, class number from 1 on, species, breed number within the species.

    A sort of the file names puts the cats, which have capitals, before the dogs; only the number counts. The breed in
    the file's name must agree with it.
    """
    image, number = line.split()[:2]
    label = labels.id_at(int(number) - 1)
    breed = image.rpartition("_")[0]
    return f"{image}.jpg", f"{number} ({breed})", label if label == labels.find_id(breed) else None


def places365(line: str, labels: LabelSet) -> tuple[str, str, str | None]:
    """``Places365_val_00000001.jpg 165``: image and class number from 0 on."""
    image, number = line.split()
    return image, number, labels.id_at(int(number))


def aircraft(line: str, labels: LabelSet) -> tuple[str, str, str | None]:
    """``1514522 F-16A/B``: image without ``.jpg``, and the variant, which may hold spaces and slashes."""
    image, _, variant = line.partition(" ")
    return f"{image}.jpg", variant, labels.find_id(variant)


def sun397(line: str, labels: LabelSet) -> tuple[str, str, str | None]:
    """``/a/apse/indoor/sun_blhbltknhczdswwd.jpg``: the path between the letter and the file is the class."""
    path = line.lstrip("/")
    name = "/".join(path.split("/")[1:-1])
    return path, name, labels.find_id(name)


def ucf101(line: str, labels: LabelSet) -> tuple[str, str, str | None]:
    """``ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi 1``: a video; its middle frame lies in ``Apply_Eye_Makeup``."""
    action, _, video = line.split()[0].partition("/")
    folder = "_".join(re.findall("[A-Z][^A-Z]*", action))
    return f"{folder}/{video.removesuffix('.avi')}.jpg", action, labels.find_id(action)


def imagenet_kaggle(line: str, labels: LabelSet) -> tuple[str, str, str | None]:
    """``ILSVRC2012_val_00000001,n03995372 85 1 499 272``: image, then class and box for each object (of one class)."""
    image, _, objects = line.partition(",")
    wnid = objects.split()[0]
    return f"{image}.JPEG", wnid, labels.find_id(wnid)


@dataclass(frozen=True)
class ListFile:
    """A text file that lists the images of one part of a data set.

    Args:
        file: the list, relative to the root.
        images: the folder that its paths start from, relative to the root.
        parse: reads a line.
        header: lines at the top that name columns.
        comment: what comments begin with; by default there are none.
    """

    file: str
    images: str
    parse: Parse
    header: int = 0
    comment: str = "\n"

    @property
    def layout(self) -> str:
        """The files and folders it reads."""
        return f"{self.file} and {self.images}/"

    @property
    def needs(self) -> int:
        """How many things must be there."""
        return 2

    def missing(self, root: Path, labels: LabelSet) -> tuple[MissingPath, ...]:  # noqa: ARG002 - as of every reader
        """The list, the folder of images, or both."""
        return (
            *wanted_file(root / self.file, "the list of the images"),
            *wanted_folder(root / self.images, "the folder of images"),
        )

    def samples(self, root: Path, labels: LabelSet) -> Iterator[Sample]:
        """The images in the order of the list."""
        path = root / self.file
        for number, line in read_lines(path, self.comment):
            if number <= self.header:
                continue
            place = f"line {number} of {str(path)!r}"
            try:
                relative, said, label = self.parse(line, labels)
            except (ValueError, IndexError) as error:
                raise DatasetError(
                    f"{place} is not as the official list is: {line[:80]!r}", remedy="Fetch the official file again"
                ) from error
            if label is None:
                raise unknown_class(place, said, labels)
            yield Sample(inside(root / self.images, relative, place), label)
