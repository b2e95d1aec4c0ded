"""Where an image is, in a form that outlives the run: its file, its place in an archive, its box. Imports no torch."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

from abs_classify.datasets.base import ByteSource, Sample
from abs_classify.datasets.tar_files import Member
from abs_classify.datasets.zip_files import ZipMember
from abs_classify.labelling.crops import Box, ImageCrop
from abs_core.errors import AbsError, ImageError
from abs_core.text import valid_unicode

if TYPE_CHECKING:
    from abs_classify.datasets.parquet import ParquetImages

__all__ = ["Container", "ImageLocation", "ListedImage"]


@dataclass(frozen=True, slots=True)
class ImageLocation:
    """Where an image is.

    Attributes:
        file: the absolute path of its file, or of the archive, shard or table that contains it.
        member: its name in that file; empty if the file is the image.
        box: x, y, width and height in pixels of the upright image, if only a part of it is meant.
        extent: where the member is in the file, so that nobody has to search it. In a tar file: offset and size; in a
            zip file: offset, packed size, size, checksum and method; in a parquet file: row group, row in it, row.
        dataset: the data set that the member is of, for a file that only ``open_dataset`` can take apart.
    """

    file: Path
    member: str = ""
    box: Box | None = None
    extent: tuple[int, ...] = ()
    dataset: str = ""

    def sample(self) -> Sample:
        """The image, to be read.

        Raises:
            ImageError: it is not there any more.
        """
        whole = Sample(self.file, "", self._source())
        return whole if self.box is None else Sample(self.file, "", ImageCrop(whole, self.box))

    def _source(self) -> ByteSource | None:
        if not self.member:
            return None
        match self.extent:
            case (offset, size):
                return Member(self.file, self.member, offset, size)
            case (offset, packed, size, checksum, method):
                return ZipMember(self.file, self.member, offset, packed, size, checksum, method)
            case (group, row, number):
                return _parquet_cell(self.file, self.member.partition(", ")[2], group, row, number)
        source = _dataset_sources(self.dataset).get((self.file, self.member)) if self.dataset else None
        if source is None:
            raise ImageError(
                f"the image {f'{self.file}::{self.member}'!r} is not found any more", remedy="List the source again"
            )
        return source

    def as_json(self) -> dict[str, Any]:
        """The location as JSON values; the bytes of a path that are no text are kept."""
        value: dict[str, Any] = {"file": quote_from_bytes(os.fsencode(self.file), safe="/ ")}
        if self.member:
            value["member"] = quote_from_bytes(os.fsencode(self.member), safe="/ ")
        if self.box is not None:
            value["box"] = list(self.box)
        if self.extent:
            value["extent"] = list(self.extent)
        if self.dataset:
            value["dataset"] = self.dataset
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> ImageLocation:
        """The location that ``as_json`` gave."""
        box = value.get("box")
        return cls(
            Path(os.fsdecode(unquote_to_bytes(value["file"]))),
            os.fsdecode(unquote_to_bytes(value.get("member", ""))),
            None if box is None else (box[0], box[1], box[2], box[3]),
            tuple(value.get("extent", ())),
            value.get("dataset", ""),
        )


@lru_cache(maxsize=4)
def _parquet_images(file: Path, column: str) -> ParquetImages:
    from abs_classify.datasets.parquet import ParquetImages

    return ParquetImages((file,), column)


def _parquet_cell(file: Path, column: str, group: int, row: int, number: int) -> ByteSource:
    from abs_classify.datasets.parquet import ParquetCell

    return ParquetCell(_parquet_images(file, column), 0, group, row, number)


@lru_cache(maxsize=2)
def _dataset_sources(spec: str) -> dict[tuple[Path, str], ByteSource]:
    """The images in files of a data set, by absolute path and name.

    Raises:
        ImageError: it cannot be opened any more.
    """
    from abs_classify.datasets.registry import open_dataset

    try:
        samples = open_dataset(spec).samples
    except AbsError as error:
        raise ImageError(error.message, remedy=error.remedy) from error
    return {
        (sample.path.absolute(), sample.source.name): sample.source for sample in samples if sample.source is not None
    }


@dataclass(frozen=True, slots=True)
class Container:
    """A file with images in it.

    Attributes:
        path: its absolute path.
        shown: its path as the user gave it, in valid Unicode.
        stamp: of the file.
    """

    path: bytes
    shown: str
    stamp: str

    @property
    def file(self) -> Path:
        """Its absolute path."""
        return Path(os.fsdecode(self.path))

    def image(self, member: str, extent: tuple[int, ...], problem: str = "", dataset: str = "") -> ListedImage:
        """An image in it, as ``ImageLocation`` describes it."""
        return ListedImage(
            f"{self.shown}::{valid_unicode(member)}",
            self.path + b"\0" + member.encode("utf-8", "surrogatepass"),
            f"{self.stamp} {' '.join(map(str, extent))}",
            problem,
            ImageLocation(self.file, member, None, extent, dataset),
        )

    def failure(self, problem: str) -> ListedImage:
        """The row of a file that cannot be read, or not to its end."""
        return ListedImage(self.shown, self.path, self.stamp, problem)


@dataclass(frozen=True, slots=True)
class ListedImage:
    """An image that the sources name.

    Attributes:
        path: as shown: the source as the user gave it, joined with the rest, with ``::NAME`` for an image in an archive
            and ``#xywh=X,Y,W,H`` for a box. Valid Unicode; anything else may be in it.
        key: the same for the same image, however the source was spelt and whatever the working directory: the absolute
            path, and behind a zero byte its name in that file and its box. Links to folders are not resolved.
        stamp: changes if the image may have changed: size and times of its file, or of what contains it; empty where
            there is no file.
        problem: why it cannot be read, if listing it told already. It is a row all the same.
        inside: where it is if it is not the whole of a file.
    """

    path: str
    key: bytes
    stamp: str
    problem: str = ""
    inside: ImageLocation | None = None

    @property
    def location(self) -> ImageLocation:
        """Where it is, computed when it is asked for: of a million images that are known already, nobody asks."""
        return ImageLocation(Path(os.fsdecode(self.key))) if self.inside is None else self.inside

    def sample(self) -> Sample:
        """The image, to be read from this working directory, with the name that is shown where it can have it.

        Raises:
            ImageError: it is not there any more.
        """
        sample = self.location.sample()
        shown = self.path.removesuffix("" if sample.source is None else f"::{valid_unicode(sample.source.name)}")
        with suppress(OSError, ValueError):
            if Path(shown).samefile(sample.path):
                return Sample(Path(shown), sample.label, sample.source)
        return sample
