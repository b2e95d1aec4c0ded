"""What the user names as the images to label, to a stream of images. Imports no torch."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Protocol

from abs_classify.datasets.base import ByteSource, Dataset, existing_path, split_options
from abs_classify.datasets.folders import is_image, special_kind
from abs_classify.datasets.list_files import ListSource
from abs_classify.datasets.tar_files import Member
from abs_classify.datasets.webdataset import ShardFiles, find_shards
from abs_classify.image_formats import HEAD_BYTES, file_format
from abs_classify.labelling.archives import count_tar_images, count_zip_images, tar_images, zip_images
from abs_classify.labelling.folder_walk import FolderWalk, stamp_of
from abs_classify.labelling.image_tables import ImageTable, ParquetTable
from abs_classify.labelling.locations import Container, ListedImage
from abs_classify.labelling.name_lists import read_names
from abs_classify.sharding import ShardSpec, SourceDigest, SourceShare
from abs_core.errors import DatasetError, StorageError, UnknownNameError, UsageError
from abs_core.files import open_regular, storage_errors
from abs_core.http import is_url
from abs_core.remarks import RemarkCounter
from abs_core.text import quoted, valid_unicode

__all__ = ["ImageSources", "ListedImage"]


class ImageSources:
    """The images that a user names: folders, files, lists, tables, archives, data sets.

    Iterating lists them in a fixed order: source by source, a folder by the bytes of its names, and at the end the
    folders that only links lead to. An image that several sources name comes several times, with the same key. Nothing
    is kept of what was listed, so there may be any number of images.

    Args:
        places: the sources as the user wrote them: a folder; an image; ``-`` or ``@FILE``, names of files and folders,
            one a line or with zero bytes between; a table (``.csv``, ``.tsv``, ``.jsonl``, ``.parquet``) with a column
            of paths or images; a ``.zip`` or ``.tar`` file, shards also as ``DIR/{0000..0003}.tar``; a data set as
            ``open_dataset`` takes it, whose labels are not looked at.
        boxes: a COCO file or a YOLO data set; each box of an image is an image then.
        stdin: where the source ``-`` reads names, by default the standard input. It can be read once.
        exclude: folders that are not entered, such as that of the results.
        missing_ok: whether a source that does not exist is an image with a problem, instead of an error.
        shard: the share of the images that is listed; None for all. All are listed once before, to number them.

    Attributes:
        remarks: what was left out or guessed, counted by reason, since the images were last listed from the start.

    Raises:
        UsageError: there is no source, or one does not exist and may not be missing.
        DatasetError: a table has no column of images, a data set or the boxes cannot be read.
        MissingExtraError: pyarrow is needed and is not installed.
    """

    def __init__(
        self,
        places: Sequence[str | Path],
        *,
        boxes: Path | str | None = None,
        stdin: BinaryIO | None = None,
        exclude: Sequence[Path] = (),
        missing_ok: bool = False,
        shard: ShardSpec | None = None,
    ) -> None:
        if not places:
            raise UsageError("there is no source of images", remedy="Name a folder, images, a list or an archive")
        given = [os.fspath(place) for place in places]
        if given.count("-") > 1:
            raise UsageError("the source - can be given once", remedy="Put all names into one list")
        self._shown = ", ".join(quoted(place, 300) for place in given[:3]) + (", ..." if len(given) > 3 else "")
        self._exclude, self._shard = tuple(exclude), shard
        self._share: SourceShare | None = None
        self._names = None
        if shard is not None and "-" in given:
            # the names are gone through twice
            self._names = stdin = BytesIO((_standard_input() if stdin is None else stdin).read())
        self._sources = [source for place in given for source in _sources_of(place, stdin, missing_ok=missing_ok)]
        self.remarks = RemarkCounter()
        self._boxes = None
        if boxes is not None:
            from abs_classify.labelling.boxes import open_boxes

            self._boxes = open_boxes(Path(boxes))

    def __iter__(self) -> Iterator[ListedImage]:
        return self._listed() if self._shard is None else self._listed_share(self._shard)

    def share(self) -> SourceShare | None:
        """The share that is listed, for which all images are listed once; None for all.

        Raises:
            UsageError: there are fewer images than shares.
        """
        if self._shard is not None and self._share is None:
            source = SourceDigest()
            for image in self._listed():
                source.add(image.path)
            if not source.images:
                raise self.no_images()
            self._shard.positions(source.images)
            self._share = self._shard.share(source.images, source.value)
        return self._share

    def _listed_share(self, shard: ShardSpec) -> Iterator[ListedImage]:
        share = self.share()
        assert share is not None  # there is a shard
        positions, source = shard.positions(share.images), SourceDigest()
        for position, image in enumerate(self._listed()):
            source.add(image.path)
            if position in positions:
                yield image
        if source.value != share.digest:
            raise DatasetError(
                f"the images in {self._shown} changed while they were listed: {share.images} before, {source.images} "
                "now, or others",
                remedy="Run the command again with a new folder when nothing changes them, or give a list: @names.txt",
            )

    def _listed(self) -> Iterator[ListedImage]:
        if self._names is not None:
            self._names.seek(0)
        self.remarks = RemarkCounter()
        images = self._images(self.remarks)
        if self._boxes is None:
            return images
        from abs_classify.labelling.boxes import boxed_images

        return boxed_images(images, self._boxes, self.remarks)

    def _images(self, remarks: RemarkCounter) -> Iterator[ListedImage]:
        walk = FolderWalk(remarks, self._exclude)
        for source in self._sources:
            yield from source.images(walk)
        yield from walk.linked()

    def no_images(self) -> DatasetError:
        """The error of a run for which no image was listed, with what was left out."""
        left_out = "; ".join(map(str, self.remarks.remarks[:5]))
        detail = f" ({left_out})" if left_out else ""
        return DatasetError(f"there are no images in {self._shown}{detail}", remedy="Check the folder")

    def count_estimate(self) -> int | None:
        """About how many images there are, by names and sizes; None where only reading would tell.

        Raises:
            UsageError, DatasetError: as ``share``.
        """
        if (share := self.share()) is not None:
            return share.size
        if self._boxes is not None:
            return self._boxes.count()
        walk, total = FolderWalk(RemarkCounter(), self._exclude), 0
        for source in self._sources:
            if (count := source.count(walk)) is None:
                return None
            total += count
        return total


class _ImageSource(Protocol):
    def images(self, walk: FolderWalk) -> Iterator[ListedImage]: ...

    def count(self, walk: FolderWalk) -> int | None: ...


def _sources_of(place: str, stdin: BinaryIO | None, *, missing_ok: bool) -> list[_ImageSource]:
    """What one argument names.

    Raises:
        AbsError: it does not exist, or cannot be used.
    """
    if place == "-":
        return [_NameList("-", "", _standard_input() if stdin is None else stdin)]
    if place.startswith("@") and len(place) > 1:
        return [_list_file(place[1:])]
    if _exists(place):
        return [_path_source(place)]
    if sources := _dataset_sources(place):
        return sources
    if "{" in place and place.endswith(".tar"):
        return [_Shards(find_shards(Path(place), None))]
    if missing_ok:
        shown = os.fsencode(place)
        return [_Path(_absolute(shown), shown)]
    raise UsageError(
        f"the source {quoted(place, 300)} does not exist",
        remedy="Check the path; a source is a folder, an image, a list (@FILE or -), a table, an archive or a data set",
    )


def _standard_input() -> BinaryIO:
    """The standard input without a buffer, whose lock a thread that waits for names would hold at the end."""
    try:
        return open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
    except OSError:  # it was replaced by something in memory
        return sys.stdin.buffer


def _exists(place: str) -> bool:
    try:
        os.lstat(place)
    except (OSError, ValueError) as error:
        if getattr(error, "errno", errno.ENOENT) not in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            reason = (getattr(error, "strerror", None) or str(error)).lower()
            raise StorageError(f"cannot read the source {quoted(place, 300)}: {reason}", remedy="Check it") from error
        return False
    return True


def _absolute(place: bytes) -> bytes:
    """The absolute path of a place. What is before a ``..`` is resolved, since it may be a link to elsewhere."""
    before, up, rest = place.rpartition(b"/..")
    if up and (not rest or rest.startswith(b"/")):
        return os.path.normpath(os.path.realpath(before + up) + rest)
    return os.path.abspath(place)  # noqa: PTH100


def _path_source(place: str) -> _ImageSource:
    """A path that exists."""
    shown = os.fsencode(place)
    path = _absolute(shown)
    kind = _kind_of_file(path)
    if kind in ("csv", "jsonl"):
        return _table(place, kind, {})
    if kind == "parquet":
        return _parquet(place, {})
    if kind == "compressed":
        raise UsageError(
            f"the source {quoted(place, 300)} is a compressed tar file, which can only be read from its start",
            remedy="Unpack it first, for example with gunzip, and name the .tar file or the folder",
        )
    return _Path(path, shown)


_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".tar": "tar",
    ".zip": "zip",
    ".tgz": "compressed",
}
_COMPRESSED = re.compile(r"\.tar\.\w+$", re.IGNORECASE)


def _kind_of_file(path: bytes) -> str:
    """``folder``, ``tar``, ``zip``, a table, or ``image`` for whatever else there is or is not."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except (OSError, ValueError):
        return "image"
    if stat.S_ISDIR(mode):
        return "folder"
    name = os.fsdecode(os.path.basename(path))  # noqa: PTH119
    if is_image(name) or not stat.S_ISREG(mode):
        return "image"
    if _COMPRESSED.search(name):
        return "compressed"
    if kind := _SUFFIXES.get(os.path.splitext(name)[1].lower(), ""):  # noqa: PTH122
        return kind
    with suppress(OSError), open_regular(path) as stream:
        found = file_format(stream.read(HEAD_BYTES))
        return {"a zip archive": "zip", "a tar archive": "tar"}.get("" if found is None else found.name, "image")
    return "image"


def _container(path: bytes, shown: bytes) -> Container:
    stamp = ""
    with suppress(OSError):
        stamp = stamp_of(os.stat(path))  # noqa: PTH116
    return Container(path, valid_unicode(os.fsdecode(shown)), stamp)


def _named_file(path: bytes, shown: bytes) -> ListedImage:
    """A file that is named, which is an image whatever it contains."""
    stamp, problem = "", ""
    try:
        status = os.stat(path)  # noqa: PTH116
        if stat.S_ISREG(status.st_mode):
            stamp = stamp_of(status)
        else:
            problem = "is a folder" if stat.S_ISDIR(status.st_mode) else f"is {special_kind(status.st_mode)}"
    except (OSError, ValueError) as error:
        problem = f"cannot be read: {(getattr(error, 'strerror', None) or str(error)).lower()}"
    return ListedImage(valid_unicode(os.fsdecode(shown)), path, stamp, problem)


@dataclass(frozen=True)
class _Path:
    """A folder, an archive or a file.

    Args:
        path: its absolute path.
        shown: its path as the user gave it.
    """

    path: bytes
    shown: bytes

    def images(self, walk: FolderWalk) -> Iterator[ListedImage]:
        kind = _kind_of_file(self.path)
        if kind == "folder":
            return walk.images(self.path, self.shown)
        if kind in ("tar", "zip"):
            return (tar_images if kind == "tar" else zip_images)(_container(self.path, self.shown), walk.remarks)
        return iter([_named_file(self.path, self.shown)])

    def count(self, walk: FolderWalk) -> int:
        kind = _kind_of_file(self.path)
        if kind == "folder":
            return walk.count(self.path)
        if kind in ("tar", "zip"):
            return (count_tar_images if kind == "tar" else count_zip_images)(_container(self.path, self.shown))
        return 1


@dataclass(frozen=True)
class _NameList:
    """Names of files, folders and archives.

    Args:
        shown: the list as the user gave it.
        folder: where relative names start; empty for the working directory.
        stream: the list, if it is no file.
        file: its file.
    """

    shown: str
    folder: str
    stream: BinaryIO | None = None
    file: str = ""

    def images(self, walk: FolderWalk) -> Iterator[ListedImage]:
        if self.stream is not None:
            yield from self._listed(self.stream, walk)
            return
        with storage_errors(Path(self.file), "read"), closing(open_regular(self.file)) as stream:
            yield from self._listed(stream, walk)

    def _listed(self, stream: BinaryIO, walk: FolderWalk) -> Iterator[ListedImage]:
        folder = os.fsencode(self.folder)
        for name in read_names(stream, quoted(self.shown, 300)):
            shown = os.path.join(folder, name)  # noqa: PTH118
            path = _absolute(shown)
            # an image is asked about once
            image = _named_file(path, shown) if is_image(os.fsdecode(name)) else None
            if image is not None and image.stamp:
                yield image
            else:
                yield from _Path(path, shown).images(walk)

    def count(self, walk: FolderWalk) -> int | None:  # noqa: ARG002 - a ``_ImageSource``
        if self.stream is not None:
            return None
        with suppress(OSError), open_regular(self.file) as stream:
            return sum(1 for _ in read_names(stream, self.shown))
        return None


def _list_file(file: str) -> _NameList:
    try:
        with open_regular(file) as stream:
            next(read_names(stream, quoted(f"@{file}", 300)), None)
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise UsageError(
            f"cannot read the list {quoted(file, 300)}: {reason}",
            remedy=f"Name a list of files; a source whose name begins with @ is written {quoted(f'./@{file}', 300)}",
        ) from error
    return _NameList(f"@{file}", os.path.dirname(file), None, file)  # noqa: PTH120


@dataclass(frozen=True)
class _TableSource:
    table: ImageTable | ParquetTable

    def images(self, walk: FolderWalk) -> Iterator[ListedImage]:
        return self.table.images(walk.remarks, _named_file)

    def count(self, walk: FolderWalk) -> int:  # noqa: ARG002 - a ``_ImageSource``
        return self.table.count()


def _table(place: str, kind: str, options: Mapping[str, str]) -> _TableSource:
    shown = os.fsencode(place)
    source = ListSource(Path(place), f"{kind}:{place}", options, labelled=False)
    table = ImageTable(_container(_absolute(shown), shown), source)
    table.check()
    return _TableSource(table)


@dataclass(frozen=True)
class _Shards:
    """Shards of one split, and what is said of them."""

    found: ShardFiles

    def images(self, walk: FolderWalk) -> Iterator[ListedImage]:
        walk.remarks.extend(self.found.remarks)
        for shard in self.found.shards:
            shown = os.fsencode(shard)
            yield from tar_images(_container(_absolute(shown), shown), walk.remarks)

    def count(self, walk: FolderWalk) -> int:  # noqa: ARG002 - a ``_ImageSource``
        containers = (_container(_absolute(os.fsencode(shard)), b"") for shard in self.found.shards)
        return sum(map(count_tar_images, containers))


@dataclass(frozen=True)
class _Dataset:
    """The images of a data set that only ``open_dataset`` can take apart, or whose order and choice it knows.

    Args:
        spec: of the data set, from any working directory.
        dataset: it.
    """

    spec: str
    dataset: Dataset

    def images(self, walk: FolderWalk) -> Iterator[ListedImage]:
        walk.remarks.extend(self.dataset.remarks)
        for sample in self.dataset.samples:
            shown = os.fsencode(sample.path)
            if sample.source is None:
                yield _named_file(_absolute(shown), shown)
            else:
                extent = _extent(sample.source)
                spec = "" if extent else self.spec
                yield _container(_absolute(shown), shown).image(sample.source.name, extent, dataset=spec)

    def count(self, walk: FolderWalk) -> int:  # noqa: ARG002 - a ``_ImageSource``
        return len(self.dataset.samples)


def _extent(source: ByteSource) -> tuple[int, ...]:
    from abs_classify.datasets.parquet import ParquetCell

    if isinstance(source, Member):
        return source.offset, source.size
    return (source.group, source.row, source.number) if isinstance(source, ParquetCell) else ()


def _dataset_sources(place: str) -> list[_ImageSource]:
    """A data set that a spec such as ``imagefolder:./val`` names; none if it is no such spec.

    Raises:
        AbsError: it cannot be opened.
    """
    from abs_classify.datasets.lists import LIST_OPTIONS
    from abs_classify.datasets.parquet import find_parquet_files
    from abs_classify.datasets.registry import find_kind, open_dataset

    if ":" not in place and place != "demo":
        return []
    try:
        kind, location = find_kind(place)
    except UnknownNameError:
        return []
    path, mark, query = location.partition("?")
    file, known = os.path.expanduser(path), ("split", "image", "path", "label", "classes")  # noqa: PTH111
    if kind.name in ("csv", "jsonl"):
        file, options = split_options(location, LIST_OPTIONS, f"{kind.usage}?path=COLUMN")
        return [_table(str(existing_path(file)), kind.name, options)]
    if kind.name in ("wds", "hf") and not is_url(location) and "orientation=" not in query and _is_on_disk(file):
        file, options = split_options(location, known, f"{kind.usage}?split=NAME")
        place = os.path.expanduser(file)  # noqa: PTH111
        if kind.name == "wds":
            return [_Shards(find_shards(Path(place), options.get("split")))]
        return [_parquet(str(path), options) for path in find_parquet_files(Path(place), options.get("split", "test"))]
    spec = f"{kind.name}:{os.path.abspath(file)}{mark}{query}" if _exists(file) else place  # noqa: PTH100
    return [_Dataset(spec, open_dataset(place))]


def _is_on_disk(place: str) -> bool:
    return _exists(place) or "{" in place


def _parquet(place: str, options: Mapping[str, str]) -> _TableSource:
    shown = os.fsencode(place)
    return _TableSource(ParquetTable(_container(_absolute(shown), shown), Path(place), options))
