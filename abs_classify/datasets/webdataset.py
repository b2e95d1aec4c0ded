"""Webdataset shards, on disk or downloaded into a folder: ``wds:DIR``, in the layout that CLIP_benchmark publishes.

    DIR/classnames.txt                          the class names by number
    DIR/zeroshot_classification_templates.txt   not read here; for ``--templates``
    DIR/test/nshards.txt                        the number of shards
    DIR/test/0.tar ...                          members s0000000.webp, s0000000.cls, s0000001.webp, ...

Members whose names are equal up to the first dot form a sample. Images, ``cls``, ``txt`` and ``json`` are read, all
other members are ignored. The webdataset package is not needed: it reads shards as a stream, while random access takes
an index of the members, which the standard library gives.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, cast

from abs_classify.datasets.base import (
    Dataset,
    Sample,
    class_id,
    classes_of,
    label_at,
    numbered_classes,
    read_bytes,
    split_options,
)
from abs_classify.datasets.folders import claim, fetch, is_image, list_folder, read_lines
from abs_core.errors import DatasetError, ImageError, UsageError
from abs_core.http import is_url, validate_url
from abs_core.labels import ClassLabel

__all__ = ["Member", "open_shards"]

# Only headers are read, of 512 bytes each, and long names; contents are skipped.
_MAX_HEADER = 1 << 20
_UNTRUSTED = "Fetch the shard again from a source that you trust"


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file inside a tar file; the ``ByteSource`` of a sample.

    Args:
        path: the tar file.
        member: the name of the file inside.
        offset: where it starts, in bytes.
        size: in bytes.
    """

    path: Path
    member: str
    offset: int
    size: int

    @property
    def name(self) -> str:
        """Its name inside the tar file."""
        return self.member

    def read(self) -> bytes:
        """Its content.

        Raises:
            ImageError: the tar file cannot be read, or has become shorter.
        """
        return read_bytes(self.path, f"{self.path}::{self.member}", self.offset, self.size)


def _tar_members(path: Path) -> Iterator[Member]:
    """The regular files in an uncompressed tar file, in its order. Folders are ignored.

    Raises:
        DatasetError: it is not such a file, is truncated, or contains a link, a device, a sparse file, a path that
            leads outside, or an oversized header.
    """
    try:
        with path.open("rb") as stream, tarfile.open(fileobj=_headers(stream), mode="r:") as archive:
            for info in archive:
                if info.isdir():
                    continue
                parts = PurePosixPath(info.name).parts
                if not info.isreg() or info.issparse() or info.name.startswith("/") or ".." in parts:
                    raise DatasetError(
                        f"{str(path)!r} may contain regular files only, got {info.name[:80]!r}", remedy=_UNTRUSTED
                    )
                yield Member(path, info.name, info.offset_data, info.size)
    except tarfile.TarError as error:
        raise DatasetError(
            f"{str(path)!r} is not an uncompressed tar file, or is truncated: {error}",
            remedy="Fetch the shard again; unpack it first if its name ends in .gz",
        ) from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DatasetError(f"cannot read the shard {str(path)!r}: {reason}", remedy="Check the path") from error


def _headers(stream: BinaryIO) -> IO[bytes]:
    return cast("IO[bytes]", _Headers(stream))


class _Headers:
    """A file that refuses long reads, so that no header can claim gigabytes."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.tell, self.seek = stream.tell, stream.seek

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_HEADER:
            raise tarfile.ReadError("a header is too large")
        return self._stream.read(size)


_USAGE = "wds:DIR?split=test"

# the extensions of labels, the preferred one first
_LABELS = ("cls", "json", "txt")
_MAX_TEXT, _MAX_IMAGE, _MAX_SHARD = 1 << 16, 1 << 28, 1 << 35  # bytes
_MAX_SHARDS = 100_000
_TEMPLATES = "zeroshot_classification_templates.txt"
_BRANCH = re.compile(r"(https://huggingface\.co/datasets/[^/]+/[^/]+)/tree/([^/]+)")


def open_shards(location: str) -> Dataset:
    """The samples in webdataset shards, in the order of the shards.

    Args:
        location: a folder as above, or a folder of ``.tar`` files, a ``.tar`` file, a pattern such as
            ``DIR/train-{0000..0003}.tar``, or the ``https`` address of a folder as above (for a data set on the Hugging
            Face hub ``.../tree/BRANCH``). Options: ``split`` (default: ``test``); ``classes``, the shipped label set
            that numbers count in; ``to``, the folder that an address is downloaded into, once.

    Raises:
        UsageError: an unknown option, an address that is not allowed, or one without ``to``.
        DatasetError: shards are missing or broken, or a sample does not have exactly one image and a label.
    """
    source, options = split_options(location, ("split", "classes", "to"), _USAGE)
    split = options.get("split", "test")
    if not re.fullmatch(r"[A-Za-z0-9._-]*", split) or ".." in split:
        raise UsageError(f"the split must be a folder name, got {split!r}", remedy="Write a name such as test")
    if "to" in options and not is_url(source):
        raise UsageError(f"to= is for https addresses, got the path {source!r}", remedy="Leave out to=")
    root = _download(source, split, options.get("to", "")) if is_url(source) else Path(source).expanduser()
    shards, names_file = _find_shards(root, split)
    names = _class_names(names_file) if names_file.is_file() else None
    entries = [entry for shard in shards for entry in _entries(shard)]
    numbered = any(isinstance(entry.label, int) for entry in entries)
    classes = numbered_classes(names, options.get("classes"), f"wds:{source}") if numbered or names else ()
    samples = tuple(Sample(entry.image.path, _label(entry, classes, source), entry.image) for entry in entries)
    if not samples:
        raise DatasetError(f"the shards of {source!r} contain no samples", remedy="Check the path")
    _check_unique(entries)
    notes = ("a branch can change; these are the files as they were downloaded",) if "/tree/" in source else ()
    return Dataset(f"wds:{location}", classes or classes_of(sample.label for sample in samples), samples, notes=notes)


def _class_names(file: Path) -> list[str]:
    names: list[str] = []
    for number, text in read_lines(file):
        names.append(text)
        if number != len(names):
            # ignored, it would shift the number of every class below it
            raise DatasetError(
                f"line {number - 1} of {str(file)!r} is blank", remedy="Write one class name on each line, by number"
            )
    return names


@dataclass(frozen=True, slots=True)
class _ShardEntry:
    key: str
    image: Member
    label: int | str

    @property
    def where(self) -> str:
        return _where(self.key, self.image.path)


def _where(key: str, shard: Path) -> str:
    return f"the sample {key!r} of {str(shard)!r}"


def _entries(shard: Path) -> Iterator[_ShardEntry]:
    members: dict[str, Member] = {}
    current = ""
    for member in _tar_members(shard):
        folder, slash, file = member.name.rpartition("/")
        stem, _, extension = file.partition(".")
        key = f"{folder}{slash}{stem}"
        if members and key != current:
            yield _entry(current, shard, members)
            members = {}
        current = key
        if extension.lower() in _LABELS or is_image(f"x.{extension}"):
            members[extension.lower()] = member
    if members:
        yield _entry(current, shard, members)


def _entry(key: str, shard: Path, members: dict[str, Member]) -> _ShardEntry:
    """The sample with these members, by extension."""
    where = _where(key, shard)
    images = [member for extension, member in members.items() if extension not in _LABELS]
    if len(images) != 1:
        raise DatasetError(f"{where} must have one image, got {len(images)}", remedy="Write one image per sample")
    if images[0].size > _MAX_IMAGE:
        raise DatasetError(f"{where} has an image of more than {_MAX_IMAGE >> 20} MB", remedy="Remove it")
    extension = next((extension for extension in _LABELS if extension in members), None)
    if extension is None:
        raise DatasetError(f"{where} has no label (.cls, .json or .txt)", remedy="Write one for each sample")
    return _ShardEntry(key, images[0], _read_label(members[extension], extension, where))


def _read_label(member: Member, extension: str, where: str) -> int | str:
    """A class number or a class id."""
    remedy = "Write a number, a class id, or JSON with 'label'"
    if member.size > _MAX_TEXT:
        raise DatasetError(
            f"{where}: the .{extension} may have up to {_MAX_TEXT} bytes, got {member.size}", remedy=remedy
        )
    try:
        text = member.read().decode("utf-8").strip()
        value = json.loads(text)["label"] if extension == "json" else text
    except (ImageError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DatasetError(f"{where} has a .{extension} that cannot be read", remedy=remedy) from error
    if isinstance(value, str):
        is_number = extension == "cls" and re.fullmatch("-?[0-9]{1,9}", value)
        return int(value) if is_number else class_id(value, where)
    if type(value) is not int:
        raise DatasetError(f"{where}: the label must be a number or a string, got {value!r:.60}", remedy=remedy)
    return value


def _label(entry: _ShardEntry, classes: tuple[ClassLabel, ...], source: str) -> str:
    if isinstance(entry.label, int):
        return label_at(classes, entry.label, entry.where)
    if not classes or any(entry.label == label.id for label in classes):
        return entry.label
    named = [label.id for label in classes if label.name == entry.label]
    if len(named) != 1:
        raise DatasetError(
            f"{entry.where} has the label {entry.label!r}, which is not a class of {source!r}", remedy="Correct it"
        )
    return named[0]


def _check_unique(entries: list[_ShardEntry]) -> None:
    shards: dict[str, Path] = {}
    for entry in entries:
        first = shards.setdefault(entry.key, entry.image.path)
        if first != entry.image.path:
            raise DatasetError(
                f"the sample {entry.key!r} appears twice, in {str(first)!r} and in {str(entry.image.path)!r}",
                remedy="Keep one of the two shards, or give the samples different keys",
            )


def _find_shards(root: Path, split: str) -> tuple[list[Path], Path]:
    """The shards in the order of their numbers, and the path of their class names, which may not exist."""
    if root.suffix == ".tar":
        shards = _expand(root)
        if missing := [str(shard) for shard in shards if not shard.is_file()]:
            raise DatasetError(f"the shard {missing[0]!r} does not exist", remedy="Check the path")
        return shards, root.parent / "classnames.txt"
    folder = root / split if (root / split).is_dir() else root
    if not folder.is_dir():
        raise DatasetError(f"the folder of shards {str(folder)!r} does not exist", remedy="Check the path")
    shards = [folder / name for name in list_folder(folder)[1] if name.endswith(".tar")]
    if (folder / "nshards.txt").is_file():
        shards = _counted(folder)
    if not shards:
        raise DatasetError(f"there are no shards in {str(folder)!r}", remedy=f"Write {_USAGE}, or name a .tar file")
    named = folder if (folder / "classnames.txt").is_file() else folder.parent
    return sorted(shards, key=lambda shard: (len(shard.name), shard.name)), named / "classnames.txt"


def _counted(folder: Path) -> list[Path]:
    """The shards that ``nshards.txt`` counts."""
    count = _shard_count(folder / "nshards.txt")
    shards = [folder / f"{number}.tar" for number in range(count)]
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        raise DatasetError(
            f"{len(missing)} of {count} shards are missing in {str(folder)!r}, the first is {missing[0]!r}",
            remedy="Fetch them, or remove nshards.txt to use the others",
        )
    return shards


def _expand(pattern: Path) -> list[Path]:
    """``a-{08..11}.tar`` as four paths."""
    span = re.search(r"\{(\d+)\.\.(\d+)\}", pattern.name)
    if span is None:
        return [pattern]
    first, last = int(span[1]), int(span[2])
    if not 0 <= last - first < _MAX_SHARDS:
        raise UsageError(f"the range {span[0]!r} must contain 1 to {_MAX_SHARDS} shards", remedy="Write {first..last}")
    width = len(span[1])
    return [
        pattern.with_name(f"{pattern.name[: span.start()]}{number:0{width}d}{pattern.name[span.end() :]}")
        for number in range(first, last + 1)
    ]


def _shard_count(file: Path) -> int:
    text = next((line for _, line in read_lines(file)), "")
    if not text.isdigit() or not 0 < int(text[:10]) < _MAX_SHARDS:
        raise DatasetError(
            f"{str(file)!r} must contain the number of shards, got {text[:40]!r}", remedy="Fetch it again"
        )
    return int(text)


def _download(address: str, split: str, to: str) -> Path:
    """Download the files that the folder does not have yet."""
    url = _BRANCH.sub(r"\1/resolve/\2", validate_url(address))
    if not to:
        raise UsageError(
            f"the shards at {address} must be downloaded before they can be read",
            remedy=f"Name a folder for them: wds:{address}?to=DIR",
        )
    folder = Path(to).expanduser()
    claim(folder, url)
    fetch(f"{url}/classnames.txt", folder / "classnames.txt", _MAX_TEXT * 16, optional=True)
    fetch(f"{url}/{_TEMPLATES}", folder / _TEMPLATES, _MAX_TEXT * 16, optional=True)
    fetch(f"{url}/{split}/nshards.txt", folder / split / "nshards.txt", _MAX_TEXT)
    for number in range(_shard_count(folder / split / "nshards.txt")):
        fetch(f"{url}/{split}/{number}.tar", folder / split / f"{number}.tar", _MAX_SHARD)
    return folder
