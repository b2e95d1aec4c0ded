"""Boxes of images, as COCO and YOLO files have them: each box is an image to label. Classes in them are not looked at.

COCO boxes are in pixels. Where its width and height of an image are those of the photo as stored, before its EXIF
orientation turns it, the boxes are turned with it; otherwise they are of the upright photo, as most tools show it.
YOLO boxes are parts of the upright photo, as Ultralytics reads it. Boxes are clipped to the image.
"""

from __future__ import annotations

import math
import os
import unicodedata
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from abs_classify.images import ImageSize, image_size
from abs_classify.labelling.crops import Box, box_text
from abs_classify.labelling.json_items import array_items
from abs_classify.labelling.locations import ListedImage
from abs_core.errors import DatasetError, ImageError, UsageError
from abs_core.files import open_regular, read_yaml
from abs_core.remarks import RemarkCounter

__all__ = ["BoxFile", "CocoBoxes", "YoloBoxes", "boxed_images", "open_boxes"]

# what a file may have: COCO's largest has 860,000 boxes of 118,000 images
_MAX_BOXES, _MAX_IMAGES = 10_000_000, 3_000_000
# bytes of a YOLO file, which is of one image
_MAX_LABELS = 1 << 22

_WITHOUT = "left out: an image without boxes"
_SHARED = "boxes of a name that several images have, used for each"


class BoxFile(Protocol):
    """The boxes of images."""

    def boxes(self, path: str, size: ImageSize, remarks: RemarkCounter) -> Sequence[Box]:
        """The boxes of an image, in pixels of the upright image, not clipped.

        Args:
            path: the absolute path of the image.
            size: of the image.
            remarks: counts what is guessed.

        Raises:
            ImageError: the boxes are of another image, or cannot be read.
        """
        ...

    def has(self, path: str) -> bool:
        """Whether there are boxes of an image."""
        ...

    def count(self) -> int | None:
        """How many boxes there are; None where only reading would tell."""
        ...

    def finish(self, remarks: RemarkCounter) -> None:
        """Count the images with boxes that were not asked for."""
        ...


def open_boxes(path: Path) -> BoxFile:
    """The boxes of a COCO file, a YOLO ``data.yaml``, or a folder of YOLO text files.

    Raises:
        UsageError: it does not exist, or is neither.
        DatasetError: it is damaged.
    """
    if path.is_dir():
        return YoloBoxes(path)
    if not path.exists():
        raise UsageError(f"the boxes {str(path)!r} do not exist", remedy="Check the path of --boxes")
    if path.suffix.lower() in (".yaml", ".yml"):
        return YoloBoxes(_yolo_root(path))
    if path.suffix.lower() == ".json":
        return CocoBoxes(path)
    raise UsageError(
        f"boxes must be a COCO .json, a YOLO data.yaml or a folder of YOLO .txt files, got {str(path)!r}",
        remedy="For YOLO text files name their folder",
    )


def boxed_images(images: Iterable[ListedImage], boxes: BoxFile, remarks: RemarkCounter) -> Iterator[ListedImage]:
    """Each box of each image as an image. Images without boxes are counted; those with a problem stay."""
    for image in images:
        path = os.fsdecode(image.key).replace("\0", "/")
        if image.problem:
            yield image
        elif not boxes.has(path):
            remarks.add(_WITHOUT, image.path)
        else:
            yield from _boxes_of(image, path, boxes, remarks)
    boxes.finish(remarks)


def _boxes_of(image: ListedImage, path: str, boxes: BoxFile, remarks: RemarkCounter) -> Iterator[ListedImage]:
    try:
        sample = image.location.sample()
        size = image_size(sample.path if sample.source is None else sample.read(), image.path)
        found = boxes.boxes(path, size, remarks)
    except ImageError as error:
        yield replace(image, problem=error.message)
        return
    if not found:
        remarks.add(_WITHOUT, image.path)
    for box in dict.fromkeys(found):
        clipped = _clipped(box, *size.upright)
        problem = "" if clipped is not None else "the box is empty, or lies outside of the image"
        yield _box_image(image, box if clipped is None else clipped, problem)
    if len(set(found)) < len(found):
        remarks.add("left out: a box that an image has twice", image.path, len(found) - len(set(found)))


def _box_image(image: ListedImage, box: Box, problem: str) -> ListedImage:
    text, place = box_text(box), image.location
    separator = b"" if place.member else b"\0"
    return ListedImage(
        image.path + text,
        image.key + separator + b"\0" + text[1:].encode(),
        image.stamp,
        problem,
        replace(place, box=box),
    )


def _clipped(box: Box, width: int, height: int) -> Box | None:
    """The part of a box that is in the image, to a hundredth of a pixel; None if there is none."""
    if not all(map(math.isfinite, box)):
        return None
    left, top = max(0.0, box[0]), max(0.0, box[1])
    right, bottom = min(float(width), box[0] + box[2]), min(float(height), box[1] + box[3])
    part = (round(left, 2), round(top, 2), round(right - left, 2), round(bottom - top, 2))
    return part if part[2] > 0 and part[3] > 0 else None


def _upright(box: Box, size: ImageSize) -> Box:
    """A box of an image as it is stored, turned upright with it."""
    (x, y, w, h), width, height = box, size.width, size.height
    left, right, top, bottom = x, width - x - w, y, height - y - h
    return {
        2: (right, top, w, h),
        3: (right, bottom, w, h),
        4: (left, bottom, w, h),
        5: (top, left, h, w),
        6: (bottom, left, h, w),
        7: (bottom, right, h, w),
        8: (top, right, h, w),
    }.get(size.orientation, box)


def _endings(path: str) -> Iterator[str]:
    """A path without its first parts, longest first: ``a/b/c.jpg``, ``b/c.jpg``, ``c.jpg``."""
    parts = [part for part in path.split("/") if part]
    return ("/".join(parts[start:]) for start in range(len(parts)))


@dataclass(slots=True)
class _BoxedImage:
    name: str
    size: tuple[int, int] | None
    values: array[float]
    uses: int = 0


class CocoBoxes:
    """The boxes of a COCO file of instances: ``images`` with ``file_name``, ``annotations`` with ``bbox``.

    An image is found by the end of its path that is a ``file_name``, or by the name of its file alone where only one
    ``file_name`` has it.

    Args:
        path: the file. Its items are read one by one, so large masks take no memory.

    Raises:
        DatasetError: it is no such file, or has more images or boxes than any.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        images: dict[Any, _BoxedImage] = {}
        waiting: dict[Any, array[float]] = {}
        self._total = 0
        try:
            with open_regular(path) as stream:
                for key, item in array_items(stream):
                    if key == "images":
                        self._add_image(item, images)
                    elif key == "annotations":
                        self._add_box(item, waiting)
        except OSError as error:
            raise self._error(f"cannot be read: {(error.strerror or str(error)).lower()}") from error
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise self._error(f"is no COCO file of instances, or is damaged: {error!s:.80}") from error
        self._lost = 0
        for identifier, values in waiting.items():
            if (image := images.get(identifier)) is not None:
                image.values = values
            else:
                self._lost += len(values) // 4
        if not images or not self._total:
            raise self._error("has no images with boxes: 'images' and 'annotations' with 'bbox' are needed")
        self._boxed = [image for image in images.values() if image.values]
        self._names = {image.name: image for image in images.values()}
        self._files: dict[str, _BoxedImage | None] = {}
        for image in images.values():
            name = image.name.rpartition("/")[2]
            # a name that several images have is that of none
            self._files[name] = None if name in self._files else image

    def _add_image(self, item: Any, images: dict[Any, _BoxedImage]) -> None:
        name = unicodedata.normalize("NFC", item["file_name"].replace("\\", "/"))
        size = item.get("width"), item.get("height")
        known = isinstance(size[0], int) and isinstance(size[1], int)
        ending = next(_endings(os.path.normpath(name)), "")
        images[item["id"]] = _BoxedImage(ending, size if known else None, array("d"))
        if len(images) > _MAX_IMAGES:
            raise self._error(f"has more than {_MAX_IMAGES} images")

    def _add_box(self, item: Any, boxes: dict[Any, array[float]]) -> None:
        box = item.get("bbox")
        is_box = isinstance(box, list) and len(box) == 4 and all(type(value) in (int, float) for value in box)
        values = [float(value) for value in box] if is_box else [math.nan] * 4
        boxes.setdefault(item["image_id"], array("d")).extend(values)
        self._total += 1
        if self._total > _MAX_BOXES:
            raise self._error(f"has more than {_MAX_BOXES} boxes")

    def _error(self, problem: str) -> DatasetError:
        return DatasetError(f"the boxes {str(self._path)!r}: the file {problem}", remedy="Name a COCO instances file")

    def _find(self, path: str) -> _BoxedImage | None:
        for ending in _endings(unicodedata.normalize("NFC", path)):
            if ending in self._names:
                return self._names[ending]
        return self._files.get(ending)

    def has(self, path: str) -> bool:
        """As ``BoxFile``."""
        image = self._find(path)
        return image is not None and len(image.values) > 0

    def boxes(self, path: str, size: ImageSize, remarks: RemarkCounter) -> Sequence[Box]:
        """As ``BoxFile``."""
        image = self._find(path)
        if image is None:
            return ()
        image.uses += 1
        if image.uses > 1:
            remarks.add(_SHARED, image.name)
        stored, values = (size.width, size.height), image.values
        boxes: list[Box] = [(*values[start : start + 4],) for start in range(0, len(values), 4)]  # type: ignore[misc]
        if image.size in (None, size.upright):
            return boxes
        if image.size != stored:
            raise ImageError(
                f"its boxes are of an image of {image.size[0]} x {image.size[1]} pixels, this one has "
                f"{size.upright[0]} x {size.upright[1]}",
                remedy="Name the images that the boxes were drawn on",
            )
        return [_upright(box, size) for box in boxes]

    def count(self) -> int:
        """As ``BoxFile``."""
        return self._total

    def finish(self, remarks: RemarkCounter) -> None:
        """As ``BoxFile``."""
        for image in self._boxed:
            if not image.uses:
                remarks.add("left out: an image with boxes that no source has", image.name)
        if self._lost:
            remarks.add("left out: a box of an image that the file does not have", self._path.name, self._lost)


class YoloBoxes:
    """The boxes of a YOLO data set: a text file for each image, a line for each box.

    The file of an image has the end of its path, with ``.txt``, in the folder or in ``labels`` there; or the path with
    ``labels`` for the last ``images``, or stands beside the image, if that is in the folder.

    Args:
        folder: the folder of the data set or of its text files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = os.path.abspath(folder)  # noqa: PTH100 - paths here are of a million images
        # hashes, of which a million take half of what their names do
        self._used: set[int] = set()

    def _find(self, path: str) -> str | None:
        stem = os.path.splitext(path)[0]  # noqa: PTH122
        start, images, rest = stem.rpartition("/images/")
        inside = [f"{start}/labels/{rest}.txt", f"{stem}.txt"] if images else [f"{stem}.txt"]
        for candidate in inside:
            if candidate.startswith(f"{self._folder}/") and os.path.isfile(candidate):  # noqa: PTH113
                return candidate
        for ending in _endings(stem):
            for candidate in (f"{self._folder}/{ending}.txt", f"{self._folder}/labels/{ending}.txt"):
                if os.path.isfile(candidate):  # noqa: PTH113
                    return candidate
        return None

    def has(self, path: str) -> bool:
        """As ``BoxFile``."""
        return self._find(path) is not None

    def boxes(self, path: str, size: ImageSize, remarks: RemarkCounter) -> Sequence[Box]:
        """As ``BoxFile``."""
        file = self._find(path)
        if file is None:
            return ()
        if hash(file) in self._used:
            remarks.add(_SHARED, file)
        self._used.add(hash(file))
        try:
            with open_regular(file) as stream:
                data = stream.read(_MAX_LABELS + 1)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ImageError(f"its boxes cannot be read from {file!r}: {reason}", remedy="Check the file") from error
        if len(data) > _MAX_LABELS:
            raise ImageError(f"its boxes are not read: {file!r} has more than 4 MB", remedy="Check the file")
        width, height = size.upright
        return [
            (left * width, top * height, (right - left) * width, (bottom - top) * height)
            for left, top, right, bottom in map(_yolo_edges, filter(None, map(bytes.split, data.splitlines())))
        ]

    def count(self) -> int | None:
        """As ``BoxFile``."""
        return None

    def finish(self, remarks: RemarkCounter) -> None:
        """As ``BoxFile``."""


def _yolo_edges(words: list[bytes]) -> Box:
    """Left, top, right and bottom edge of what a line describes, of 1; not a number where it cannot be read.

    After the class come centre and size of a box, perhaps a confidence or key points of three numbers; or the points of
    an outline.
    """
    try:
        values = [float(word) for word in words[1:]]
    except ValueError:
        return (math.nan,) * 4
    if len(values) < 4:
        return (math.nan,) * 4
    if len(values) > 5 and len(values) % 2 == 0:
        return min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])
    across, down, width, height = values[:4]
    return across - width / 2, down - height / 2, across + width / 2, down + height / 2


def _yolo_root(file: Path) -> Path:
    """The folder of the data set that a ``data.yaml`` describes."""
    content = read_yaml(file, f"the boxes {str(file)!r}", DatasetError, as_text=True)
    if not isinstance(content, dict) or not {"train", "val", "test", "names", "nc"} & set(content):
        raise DatasetError(
            f"the boxes {str(file)!r}: the file describes no YOLO data set, with 'names', 'train' or 'val'",
            remedy="Name its data.yaml, or the folder of its text files",
        )
    place = content.get("path")
    # a path of another computer is not there
    root = file.parent / place if isinstance(place, str) and "\0" not in place else file.parent
    return root if root.is_dir() else file.parent
