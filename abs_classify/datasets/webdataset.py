"""Webdataset shards, on disk or fetched into a folder: ``wds:DIR``, in the layout that CLIP_benchmark publishes.

    DIR/classnames.txt          the class names by number
    DIR/zeroshot_classification_templates.txt      not read here; what ``--templates`` may name
    DIR/test/nshards.txt        how many shards there are
    DIR/test/0.tar ...          members s0000000.webp, s0000000.cls, s0000001.webp, ...

Members that share the name up to its first dot are a sample. Images, ``cls``, ``txt`` and ``json`` are read; all others
are left alone. ``tar_index`` says why the webdataset package is not needed.
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
from abs_classify.datasets.fetching import claim, fetch
from abs_classify.datasets.folders import is_image, list_folder, read_lines
from abs_core.errors import DatasetError, ImageError, UsageError
from abs_core.http import is_url, validate_url
from abs_core.labels import ClassLabel

__all__ = ["Member", "open_shards", "tar_members"]


# Headers are read whole: 512 bytes each, and long names. Contents are skipped.
_MAX_HEADER = 1 << 20


_REMEDY = "Fetch the shard again from a source that you trust"


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file inside a tar file, which is a ``Source`` of an item.

    Args:
        path: the tar file.
        member: its name in there.
        offset: where its bytes begin.
        size: how many they are.
    """

    path: Path
    member: str
    offset: int
    size: int

    @property
    def name(self) -> str:
        """Its name in the tar file."""
        return self.member

    def read(self) -> bytes:
        """Its bytes.

        Raises:
            ImageError: the tar file cannot be read, or is shorter than it was.
        """
        return read_bytes(self.path, f"{self.path}::{self.member}", self.offset, self.size)


def tar_members(path: Path) -> Iterator[Member]:
    """The regular files of an uncompressed tar file, in its order. Folders are left out.

    Raises:
        DatasetError: it is no such file, is cut off, or holds a link, a device, a sparse file, a path that leads
            outside or a header that is too large.
    """
    try:
        with path.open("rb") as stream, tarfile.open(fileobj=_headers(stream), mode="r:") as archive:
            for info in archive:
                if info.isdir():
                    continue
                parts = PurePosixPath(info.name).parts
                if not info.isreg() or info.issparse() or info.name.startswith("/") or ".." in parts:
                    raise DatasetError(
                        f"{str(path)!r} holds {info.name[:80]!r}, which is no plain file inside it", remedy=_REMEDY
                    )
                yield Member(path, info.name, info.offset_data, info.size)
    except tarfile.TarError as error:
        raise DatasetError(
            f"{str(path)!r} is no uncompressed tar file, or is cut off: {error}",
            remedy="Fetch the shard again; unpack it first if its name ends in .gz",
        ) from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DatasetError(f"cannot read the shard {str(path)!r}: {reason}", remedy="Check the path") from error


def _headers(stream: BinaryIO) -> IO[bytes]:
    return cast("IO[bytes]", _Headers(stream))


class _Headers:
    """A file of which only short pieces may be read, so that a header cannot claim gigabytes."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.tell, self.seek = stream.tell, stream.seek

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_HEADER:
            raise tarfile.ReadError("a header is too large")
        return self._stream.read(size)


_USAGE = "wds:DIR?split=test"


_LABELS = ("cls", "json", "txt")


_MAX_TEXT, _MAX_IMAGE, _MAX_SHARD = 1 << 16, 1 << 28, 1 << 35


_MAX_SHARDS = 100_000


_TEMPLATES = "zeroshot_classification_templates.txt"


_BRANCH = re.compile(r"(https://huggingface\.co/datasets/[^/]+/[^/]+)/tree/([^/]+)")


def open_shards(location: str) -> Dataset:
    """The samples of webdataset shards, in the order of the shards.

    Args:
        location: a folder as above or with the ``.tar`` files themselves, one ``.tar`` file, a pattern such as
            ``DIR/train-{0000..0003}.tar``, or the ``https`` address of such a folder (of a data set on the Hugging Face
            hub, ``.../tree/BRANCH``). Options: ``split`` (by default ``test``); ``classes``, a shipped label set in
            whose order the labels count; ``to``, the folder that files of an address are fetched into, once.

    Raises:
        UsageError: an unknown option, an address that may not be fetched, or one without ``to``.
        DatasetError: shards are missing or broken, or a sample has no label, no image, or several of them.
    """
    place, options = split_options(location, ("split", "classes", "to"), _USAGE)
    split = options.get("split", "test")
    if not re.fullmatch(r"[A-Za-z0-9._-]*", split) or ".." in split:
        raise UsageError(f"the split {split!r} is no folder name", remedy="Write a name such as test")
    if "to" in options and not is_url(place):
        raise UsageError(f"{place!r} is on a disk, so nothing is fetched", remedy="Leave out to=")
    root = _fetched(place, split, options.get("to", "")) if is_url(place) else Path(place).expanduser()
    shards, names_file = _find_shards(root, split)
    names = _class_names(names_file) if names_file.is_file() else None
    samples = [sample for shard in shards for sample in _samples(shard)]
    numbered = any(isinstance(sample.label, int) for sample in samples)
    classes = numbered_classes(names, options.get("classes"), f"wds:{place}") if numbered or names else ()
    items = [Sample(each.image.path, _label(each, classes, place), each.image) for each in samples]
    if not items:
        raise DatasetError(f"the shards of {place!r} hold no samples", remedy="Check the path")
    _check_unique(samples)
    notes = () if "/tree/" not in place else ("the branch of an address can move; the files that were fetched count",)
    return Dataset(f"wds:{location}", classes or classes_of(item.label for item in items), tuple(items), notes=notes)


def _class_names(file: Path) -> list[str]:
    names: list[str] = []
    for number, text in read_lines(file):
        names.append(text)
        if number != len(names):
            # left out, it would shift the number of every class below it
            raise DatasetError(
                f"line {number - 1} of {str(file)!r} is empty", remedy="Write one class name on each line, by number"
            )
    return names


@dataclass(frozen=True, slots=True)
class _ShardSample:
    key: str
    image: Member
    label: int | str


def _samples(shard: Path) -> Iterator[_ShardSample]:
    parts: dict[str, Member] = {}
    current = ""
    for member in tar_members(shard):
        folder, slash, file = member.name.rpartition("/")
        stem, _, ending = file.partition(".")
        key = f"{folder}{slash}{stem}"
        if parts and key != current:
            yield _sample(current, parts)
            parts = {}
        current = key
        if ending.lower() in _LABELS or is_image(f"x.{ending}"):
            parts[ending.lower()] = member
    if parts:
        yield _sample(current, parts)


def _sample(key: str, parts: dict[str, Member]) -> _ShardSample:
    first = next(iter(parts.values()))
    place = f"the sample {key!r} of {str(first.path)!r}"
    images = [member for ending, member in parts.items() if ending not in _LABELS]
    if len(images) != 1:
        count = f"{len(images)} images" if images else "no image"
        raise DatasetError(f"{place} has {count}", remedy="Write one image for each sample")
    if images[0].size > _MAX_IMAGE:
        raise DatasetError(f"{place} has an image of more than {_MAX_IMAGE >> 20} MB", remedy="Leave it out")
    ending = next((each for each in _LABELS if each in parts), None)
    if ending is None:
        raise DatasetError(f"{place} has no label: no .cls, .json or .txt", remedy="Write one for each sample")
    return _ShardSample(key, images[0], _read_label(parts[ending], ending, place))


def _read_label(member: Member, ending: str, place: str) -> int | str:
    """A class number or a class id."""
    remedy = "Write a number, a class id, or JSON with 'label'"
    if member.size > _MAX_TEXT:
        raise DatasetError(f"{place} has a .{ending} of {member.size} bytes", remedy=remedy)
    try:
        text = member.read().decode("utf-8").strip()
        value = json.loads(text)["label"] if ending == "json" else text
    except (ImageError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DatasetError(f"{place} has a .{ending} that cannot be read", remedy=remedy) from error
    if isinstance(value, str):
        is_number = ending == "cls" and value.isascii() and value.lstrip("-").isdigit() and len(value) < 10
        return int(value) if is_number else class_id(value, place)
    if type(value) is not int:
        raise DatasetError(f"{place} has a label that is neither a number nor a text", remedy=remedy)
    return value


def _label(sample: _ShardSample, classes: tuple[ClassLabel, ...], place: str) -> str:
    where = f"the sample {sample.key!r} of {str(sample.image.path)!r}"
    if isinstance(sample.label, int):
        return label_at(classes, sample.label, where)
    if not classes or any(sample.label == each.id for each in classes):
        return sample.label
    named = [each.id for each in classes if each.name == sample.label]
    if len(named) != 1:
        raise DatasetError(
            f"{where} has the label {sample.label!r}, which is no class of {place!r}", remedy="Correct it"
        )
    return named[0]


def _check_unique(samples: list[_ShardSample]) -> None:
    seen: dict[str, Path] = {}
    for each in samples:
        other = seen.setdefault(each.key, each.image.path)
        if other != each.image.path:
            raise DatasetError(
                f"the sample {each.key!r} is in {str(other)!r} and in {str(each.image.path)!r}",
                remedy="Keep one of the two shards, or give samples keys of their own",
            )


def _find_shards(root: Path, split: str) -> tuple[list[Path], Path]:
    """The shards in the order of their numbers, and where class names would be."""
    if root.suffix == ".tar":
        shards = _expand(root)
        if missing := [str(shard) for shard in shards if not shard.is_file()]:
            raise DatasetError(f"the shard {missing[0]!r} is not there", remedy="Check the path")
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
    """The shards that ``nshards.txt`` says there are."""
    count = _shard_count(folder / "nshards.txt")
    shards = [folder / f"{number}.tar" for number in range(count)]
    absent = [shard.name for shard in shards if not shard.is_file()]
    if absent:
        raise DatasetError(
            f"{len(absent)} of {count} shards are missing in {str(folder)!r}, the first is {absent[0]!r}",
            remedy="Fetch them, or remove nshards.txt to go on with those that are there",
        )
    return shards


def _expand(pattern: Path) -> list[Path]:
    """``a-{08..11}.tar`` as four paths."""
    found = re.search(r"\{(\d+)\.\.(\d+)\}", pattern.name)
    if found is None:
        return [pattern]
    first, last = int(found[1]), int(found[2])
    if not 0 <= last - first < _MAX_SHARDS:
        raise UsageError(f"the range {found[0]!r} is empty or too long", remedy="Write {first..last}")
    width = len(found[1])
    return [
        pattern.with_name(f"{pattern.name[: found.start()]}{number:0{width}d}{pattern.name[found.end() :]}")
        for number in range(first, last + 1)
    ]


def _shard_count(file: Path) -> int:
    text = next((line for _, line in read_lines(file)), "")
    if not text.isdigit() or not 0 < int(text[:10]) < _MAX_SHARDS:
        raise DatasetError(f"{str(file)!r} holds no number of shards", remedy="Fetch it again")
    return int(text)


def _fetched(address: str, split: str, to: str) -> Path:
    """Fetch what is not there yet into the folder that the user named."""
    url = _BRANCH.sub(r"\1/resolve/\2", validate_url(address))
    if not to:
        raise UsageError(
            f"the shards at {address} must be fetched before they can be read",
            remedy=f"Say into which folder: wds:{address}?to=DIR",
        )
    folder = Path(to).expanduser()
    claim(folder, url)
    fetch(f"{url}/classnames.txt", folder / "classnames.txt", _MAX_TEXT * 16, optional=True)
    fetch(f"{url}/{_TEMPLATES}", folder / _TEMPLATES, _MAX_TEXT * 16, optional=True)
    fetch(f"{url}/{split}/nshards.txt", folder / split / "nshards.txt", _MAX_TEXT)
    for number in range(_shard_count(folder / split / "nshards.txt")):
        fetch(f"{url}/{split}/{number}.tar", folder / split / f"{number}.tar", _MAX_SHARD)
    return folder
