"""Webdataset shards, on disk or downloaded into a folder: ``wds:DIR``, in the layout that CLIP_benchmark publishes.

    DIR/classnames.txt                          the class names by number
    DIR/zeroshot_classification_templates.txt   not read here; for ``--templates``
    DIR/test/nshards.txt                        the number of shards
    DIR/test/0.tar ...                          members s0000000.webp, s0000000.cls, s0000001.webp, ...

Members whose names are equal up to the first dot form a sample. Images, ``cls``, ``txt`` and ``json`` are read, all
other members are ignored. The webdataset package is not needed: it reads shards as a stream, while random access takes
an index of the members, which ``tar_files`` gives.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from abs_classify.datasets.base import (
    Dataset,
    Sample,
    class_id,
    classes_of,
    label_at,
    numbered_classes,
    split_options,
)
from abs_classify.datasets.folders import claim, fetch, is_image, list_folder, read_lines
from abs_classify.datasets.orientation import all_as_stored, is_as_stored
from abs_classify.datasets.tar_files import Member, tar_members
from abs_core.errors import DatasetError, ImageError, UsageError
from abs_core.http import is_url, validate_url
from abs_core.labels import ClassLabel
from abs_core.progress import logged
from abs_core.remarks import Remark, RemarkCounter
from abs_core.text import quoted

__all__ = ["ShardFiles", "find_shards", "open_shards"]

_USAGE = "wds:DIR?split=test"

_log = logging.getLogger(__name__)
_ONE_EACH = "Write one image and one label per sample, one after the other"

# the extensions of labels, the preferred one first
_LABELS = ("cls", "json", "txt")
_MAX_TEXT, _MAX_IMAGE = 1 << 16, 1 << 28  # bytes


def open_shards(location: str) -> Dataset:
    """The samples in webdataset shards, in the order of the shards.

    Args:
        location: a folder as above, or a folder of ``.tar`` files, a ``.tar`` file, a pattern such as
            ``DIR/train-{0000..0003}.tar``, or the ``https`` address of a folder as above (for a data set on the Hugging
            Face hub ``.../tree/BRANCH``). Options: ``split`` (default: ``test``); ``classes``, the label set that
            labels are of, by number, id or name; ``to``, the folder that an address is downloaded into, once.

    Raises:
        UsageError: an unknown option, an address that is not allowed, or one without ``to``.
        DatasetError: shards are missing or broken, or a sample does not have exactly one image and a label.
    """
    source, options = split_options(location, ("split", "classes", "to", "orientation"), _USAGE)
    as_stored = is_as_stored(options)
    split = options.get("split", "test")
    if not re.fullmatch(r"[A-Za-z0-9._-]*", split) or ".." in split:
        raise UsageError(f"the split must be a folder name, got {split!r}", remedy="Write a name such as test")
    if "to" in options and not is_url(source):
        raise UsageError(f"to= is for https addresses, got the path {source!r}", remedy="Leave out to=")
    root = _download_shards(source, split, options.get("to", "")) if is_url(source) else Path(source).expanduser()
    found = find_shards(root, options.get("split"))
    names = _class_names(found.class_names) if found.class_names.is_file() else None
    remarks = RemarkCounter(found.remarks)
    entries = [
        entry
        for shard in logged(found.shards, _log, "reading shards")
        for entry in _shard_entries(shard, found, remarks)
    ]
    numbered = any(isinstance(entry.label, int) for entry in entries)
    label_set = options.get("classes")
    classes = numbered_classes(names, label_set, f"wds:{source}") if numbered or names or label_set else ()
    samples = tuple(Sample(entry.image.path, _label(entry, classes, source), entry.image) for entry in entries)
    if not samples:
        raise DatasetError(f"the shards of {source!r} contain no samples", remedy="Check the path")
    _check_unique(entries)
    notes = ("a branch can change; these are the files as they were downloaded",) if "/tree/" in source else ()
    classes = classes or classes_of(sample.label for sample in samples)
    dataset = Dataset(f"wds:{location}", classes, samples, notes=notes, remarks=remarks.remarks)
    return all_as_stored(dataset) if as_stored else dataset


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
    return f"the sample {quoted(key, 200)} of {str(shard)!r}"


def _shard_entries(shard: Path, found: ShardFiles, remarks: RemarkCounter) -> list[_ShardEntry]:
    entries, expected = list(_entries(shard, remarks)), found.samples.get(shard.name)
    if expected is not None and len(entries) != expected:
        raise DatasetError(
            f"{str(shard)!r} has {len(entries)} samples, but {found.counted_in} says {expected}",
            remedy=f"Fetch the shard again, or remove {found.counted_in} if it is of other shards",
        )
    return entries


def _entries(shard: Path, remarks: RemarkCounter) -> Iterator[_ShardEntry]:
    members: dict[str, Member] = {}
    current = ""
    seen: set[str] = set()
    for member in tar_members(shard):
        folder, slash, file = member.name.rpartition("/")
        stem, _, extension = file.partition(".")
        if not stem or "__MACOSX" in folder.split("/"):
            # as in the webdataset package: the tar of macOS puts such a file beside each of the user's
            remarks.add("left out: hidden member of a shard", member.name)
            continue
        key, extension = f"{folder}{slash}{stem}", extension.lower()
        if members and key != current:
            yield _entry(current, shard, members)
            members = {}
            seen.add(current)
        current = key
        if key in seen and (extension in _LABELS or is_image(f"x.{extension}")):
            raise DatasetError(f"{_where(key, shard)} appears twice, with others in between", remedy=_ONE_EACH)
        if extension in members:
            # one of the two would be dropped; the webdataset package raises an error as well
            raise DatasetError(
                f"{str(shard)!r} has the member {quoted(member.name, 200)} twice, of which one would be lost",
                remedy="Give each sample a key of its own, as the webdataset package requires, too",
            )
        if extension in _LABELS or is_image(f"x.{extension}"):
            members[extension] = member
    if members:
        yield _entry(current, shard, members)


def _entry(key: str, shard: Path, members: dict[str, Member]) -> _ShardEntry:
    """The sample with these members, by extension."""
    where = _where(key, shard)
    images = [member for extension, member in members.items() if extension not in _LABELS]
    if len(images) != 1:
        raise DatasetError(f"{where} must have one image, got {len(images)}", remedy=_ONE_EACH)
    if images[0].size > _MAX_IMAGE:
        raise DatasetError(f"{where} has an image of more than {_MAX_IMAGE >> 20} MB", remedy="Remove it")
    extension = next((extension for extension in _LABELS if extension in members), None)
    if extension is None:
        raise DatasetError(f"{where} has no label (.cls, .json or .txt)", remedy=_ONE_EACH)
    return _ShardEntry(key, images[0], _read_label(members[extension], extension, where))


def _read_label(member: Member, extension: str, where: str) -> int | str:
    """A class number or a class id."""
    remedy = "Write a number, a class id, or JSON with 'label'"
    if member.size > _MAX_TEXT:
        raise DatasetError(
            f"{where}: the .{extension} may have up to {_MAX_TEXT} bytes, got {member.size}", remedy=remedy
        )
    try:
        text = member.read().decode("utf-8-sig").strip()
        value = json.loads(text)["label"] if extension == "json" else text
    except (ImageError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DatasetError(f"{where} has a .{extension} that cannot be read", remedy=remedy) from error
    if isinstance(value, str):
        is_number = extension == "cls" and re.fullmatch("-?[0-9]{1,9}", value)
        return int(value) if is_number else class_id(value, where)
    if type(value) is not int or abs(value) >= 10**9:
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
        first, shard = shards.setdefault(entry.key, entry.image.path), entry.image.path
        if first is not shard:
            raise DatasetError(
                f"the sample {entry.key!r} appears twice, in {str(first)!r} and in {str(shard)!r}",
                remedy="Keep one of the two shards, or give the samples different keys",
            )


_DEFAULT_SPLIT = "test"
_SPLITS = ("test", "val", "validation", "valid", "dev", "train", "training")
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")

_MAX_LISTING, _MAX_SHARD, _MAX_COUNTS = 1 << 20, 1 << 35, 1 << 24  # bytes
_MAX_SHARDS = 100_000
_TEMPLATES = "zeroshot_classification_templates.txt"
_BRANCH = re.compile(r"(https://huggingface\.co/datasets/[^/]+/[^/]+)/tree/([^/]+)")


@dataclass(frozen=True)
class ShardFiles:
    """The shards of one split.

    Args:
        shards: in the order of their numbers.
        class_names: the file that has the class names by number; it may not exist.
        samples: how many samples a shard has, by its name, where a file beside the shards says so.
        counted_in: that file.
        remarks: numbers that no shard has.
    """

    shards: tuple[Path, ...]
    class_names: Path
    samples: dict[str, int] = field(default_factory=dict)
    counted_in: str = ""
    remarks: tuple[Remark, ...] = ()


def find_shards(root: Path, split: str | None) -> ShardFiles:
    """The shards of a split.

    Args:
        root: a folder with a folder for each split, a folder of shards, a shard, or a pattern.
        split: its name; None: ``test`` where there are several.

    Raises:
        UsageError: a range of too many shards.
        DatasetError: there are none, shards that ``nshards.txt`` counts are missing, or the split is not there.
    """
    if root.suffix == ".tar" and not root.is_dir():
        shards = _expand(root)
        if missing := [str(shard) for shard in shards if not shard.is_file()]:
            raise DatasetError(f"the shard {missing[0]!r} does not exist", remedy="Check the path")
        return _described(shards, root.parent, root.parent)
    folder = root / (split or _DEFAULT_SPLIT)
    if folder.is_dir():
        return _described(_shards_in(folder), folder, root)
    if not root.is_dir():
        raise DatasetError(f"the folder of shards {str(root)!r} does not exist", remedy="Check the path")
    shards = _shards_in(root)
    if not shards:
        raise _no_shards(root, split)
    if split != root.name:
        shards = _of_split(root, shards, split)
    return _described(shards, root, root.parent)


def _shards_in(folder: Path) -> list[Path]:
    if (folder / "nshards.txt").is_file():
        return _counted(folder)
    return [folder / name for name in list_folder(folder)[1] if name.endswith(".tar")]


def _described(shards: list[Path], folder: Path, above: Path) -> ShardFiles:
    if not shards:
        raise _no_shards(folder, None)
    ordered = tuple(sorted(shards, key=lambda shard: (len(shard.name), shard.name)))
    named = folder if (folder / "classnames.txt").is_file() else above
    counts, source = _stated_samples(folder)
    counted = (folder / "nshards.txt").is_file()
    return ShardFiles(ordered, named / "classnames.txt", counts, source, () if counted else _gaps(ordered))


def _no_shards(folder: Path, split: str | None) -> DatasetError:
    folders, files = list_folder(folder)
    if compressed := [name for name in files if name.endswith(_COMPRESSED)]:
        return DatasetError(
            f"the shards in {str(folder)!r} are compressed, the first is {compressed[0]!r}",
            remedy="Unpack them to .tar files first: images in them can be read in any order only without compression",
        )
    if splits := [name for name in folders if any(inner.endswith(".tar") for inner in list_folder(folder / name)[1])]:
        return DatasetError(
            f"{str(folder)!r} has no shards of the split {split or _DEFAULT_SPLIT!r}; its splits: {', '.join(splits)}",
            remedy=f"Choose one: ?split={splits[0]}",
        )
    return DatasetError(f"there are no shards in {str(folder)!r}", remedy=f"Write {_USAGE}, or name a .tar file")


def _of_split(folder: Path, shards: list[Path], split: str | None) -> list[Path]:
    """The shards of one split among those of several in one folder: ``name-train-0001.tar``."""
    by_split: dict[str, list[Path]] = {}
    for shard in shards:
        words = re.split(r"[^a-z]+", shard.stem.lower())
        by_split.setdefault(next((word for word in words if word in (split, *_SPLITS)), ""), []).append(shard)
    wanted = split or _DEFAULT_SPLIT
    if wanted in by_split:
        return by_split[wanted]
    if split is None and set(by_split) == {""}:
        return shards
    splits = [name for name in by_split if name]
    raise DatasetError(
        f"{str(folder)!r} has no shards of the split {wanted!r}"
        + (f"; its splits, by the names of its shards: {', '.join(splits)}" if splits else ""),
        remedy=f"Choose one: ?split={splits[0]}" if splits else "Leave out ?split",
    )


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


def _stated_samples(folder: Path) -> tuple[dict[str, int], str]:
    """How many samples each shard has, as writers of shards note it beside them, and where.

    ``sizes.json`` has them by shard (OpenCLIP), ``00000_stats.json`` those of one (img2dataset). A file that has
    something else is ignored: nothing says that it is about these shards.
    """
    sizes = _read_json(folder / "sizes.json")
    if sizes:
        counts = {str(name): count for name, count in sizes.items() if type(count) is int}
        return counts, "sizes.json"
    stats = {name: _read_json(folder / name) for name in list_folder(folder)[1] if name.endswith("_stats.json")}
    counts = {
        f"{name.removesuffix('_stats.json')}.tar": content["successes"]
        for name, content in stats.items()
        if type(content.get("successes")) is int
    }
    return counts, "its _stats.json" if counts else ""


def _read_json(file: Path) -> dict[str, Any]:
    try:
        if not file.is_file() or file.stat().st_size > _MAX_COUNTS:
            return {}
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _gaps(shards: tuple[Path, ...]) -> tuple[Remark, ...]:
    """Numbers that are left out: nothing counts these shards, so some may not have been copied."""
    remarks = RemarkCounter()
    numbers: dict[str, list[str]] = {}
    for shard in shards:
        stem, digits = re.fullmatch(r"(.*?)(\d{0,9})", shard.stem, re.DOTALL).groups()  # type: ignore[union-attr]
        if digits:
            numbers.setdefault(stem, []).append(digits)
    for stem, found in numbers.items():
        have = {int(digits) for digits in found}
        first, last, width = min(have), max(have), min(map(len, found))
        if len(found) > 1 and last - first < _MAX_SHARDS:
            for number in range(min(first, 1), last):
                # numbers from 1 on are usual, too
                if number not in have and number > 0:
                    remarks.add("numbers that no shard has, while higher ones exist", f"{stem}{number:0{width}d}.tar")
    return remarks.remarks


def _expand(pattern: Path) -> list[Path]:
    """``a-{08..11}.tar`` as four paths."""
    span = re.search(r"\{(\d{1,18})\.\.(\d{1,18})\}", pattern.name)
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
    if not (text.isascii() and text.isdigit()) or not 0 < int(text[:10]) < _MAX_SHARDS:
        raise DatasetError(
            f"{str(file)!r} must contain the number of shards, got {text[:40]!r}", remedy="Fetch it again"
        )
    return int(text)


def _download_shards(address: str, split: str, to: str) -> Path:
    """Download the files of a split that the folder does not have yet.

    Args:
        address: the ``https`` address of a folder as CLIP_benchmark publishes it.
        split: its name.
        to: the folder.

    Returns:
        The folder.

    Raises:
        UsageError: an address that is not allowed, no folder, or one with other files.
        DatasetError: the server does not send a file.
    """
    url = _BRANCH.sub(r"\1/resolve/\2", validate_url(address))
    if not to:
        raise UsageError(
            f"the shards at {address} must be downloaded before they can be read",
            remedy=f"Name a folder for them: wds:{address}?to=DIR",
        )
    folder = Path(to).expanduser()
    claim(folder, url)
    fetch(f"{url}/classnames.txt", folder / "classnames.txt", _MAX_LISTING, optional=True)
    fetch(f"{url}/{_TEMPLATES}", folder / _TEMPLATES, _MAX_LISTING, optional=True)
    fetch(f"{url}/{split}/nshards.txt", folder / split / "nshards.txt", _MAX_LISTING)
    for number in range(_shard_count(folder / split / "nshards.txt")):
        fetch(f"{url}/{split}/{number}.tar", folder / split / f"{number}.tar", _MAX_SHARD)
    return folder
