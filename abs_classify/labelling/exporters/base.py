"""What a format is: it takes images with their labels, one after another, and writes files into a folder."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, ClassVar, Literal, TypeAlias

from abs_classify.labelling.exporters.labels import EXPORTED_STATUSES, ExportContents, ImageLabel
from abs_classify.labelling.rows import LabelRow, Status
from abs_core.files import storage_errors
from abs_core.labels import ClassLabel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ExportFormat", "ExportPlace", "ExportedImage", "JsonElements", "Probabilities"]

#: gives the class probabilities of images, [rows, classes] with rows that sum to 1; NaN in those that are not known
Probabilities: TypeAlias = "Callable[[Sequence[LabelRow]], NDArray[np.float32]]"


@dataclass(frozen=True, slots=True)
class ExportedImage:
    """An image with its labels: one, or one for each box.

    Attributes:
        number: from 1 on.
        file: its absolute path, once the export is there.
        name: the path from the root of the export's images, with ``/`` between its parts.
        labels: at least one.
        size: width and height, turned upright; None where nothing needs them.
    """

    number: int
    file: Path
    name: str
    labels: tuple[ImageLabel, ...]
    size: tuple[int, int] | None = None

    def box_of(self, label: ImageLabel) -> tuple[float, float, float, float]:
        """x, y, width and height of a label in pixels: its box within the image, or the whole image."""
        assert self.size is not None
        if label.location.box is None:
            return (0.0, 0.0, float(self.size[0]), float(self.size[1]))
        x, y, width, height = label.location.box
        left, top = min(max(x, 0.0), self.size[0]), min(max(y, 0.0), self.size[1])
        return (left, top, min(x + width, self.size[0]) - left, min(y + height, self.size[1]) - top)


@dataclass(frozen=True)
class ExportPlace:
    """What a format needs besides the images.

    Attributes:
        part: the folder to write into.
        final: what it will be called.
        classes: of the run.
        names: of the classes, all different.
        contents: what will come.
        root: the folder that ``ExportedImage.name`` starts from.
        class_folders: the folder of each class, for a format that has them.
        prefix: what stands before the names of images, where a tool fetches them from an address; None for the default.
        probabilities: of the classes; None if only what the rows keep is known.
    """

    part: Path
    final: Path
    classes: tuple[ClassLabel, ...]
    names: tuple[str, ...]
    contents: ExportContents
    root: Path
    class_folders: Sequence[str] = ()
    prefix: str | None = None
    probabilities: Probabilities | None = None

    @contextmanager
    def create(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file of the export for writing; at the end of the block its bytes are on the disk."""
        path = self.part / name
        with storage_errors(path, "write"):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w+b") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())


class ExportFormat(ABC):
    """A format that labels are exported in."""

    #: what users call it
    name: ClassVar[str]
    #: of what the width and height must be known
    sizes: ClassVar[Literal["images", "boxes", "nothing"]]
    #: where images go that come into the export; empty if none do
    media: ClassVar[str] = "images"
    #: whether images that come into it have names that differ without their endings
    by_stem: ClassVar[bool] = False
    #: whether it has boxes; otherwise each is an image of its own
    has_boxes: ClassVar[bool] = True
    #: whether the tool finds images by names from a root that the user chooses
    has_root: ClassVar[bool] = False
    #: which labels, if the user does not say it
    statuses: ClassVar[tuple[Status, ...]] = EXPORTED_STATUSES
    #: how to open it, for people; {folder} is the export, {root} the folder that holds the images
    opening: ClassVar[str]

    @abstractmethod
    def write(self, images: Iterable[ExportedImage], place: ExportPlace) -> None:
        """Write the files of the export.

        Args:
            images: as they come; each is to be forgotten before the next.
            place: where to, and what for.

        Raises:
            StorageError: a file cannot be written.
        """


class JsonElements:
    """Writes the elements of a JSON array or object one at a time: memory does not grow with their number.

    Args:
        stream: to write to.
        opening: the text before the elements.
        closing: the text behind them.
    """

    def __init__(self, stream: IO[bytes], opening: str = "[", closing: str = "]") -> None:
        self._stream, self._opening, self._closing = stream, opening, closing
        self._separator = "\n"

    def __enter__(self) -> JsonElements:
        self._stream.write(self._opening.encode())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._stream.write(f"\n{self._closing}\n".encode())

    def add(self, text: str) -> None:
        """Write an element: JSON text, of an object with its key."""
        self._stream.write(f"{self._separator}{text}".encode())
        self._separator = ",\n"
