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
from dataclasses import dataclass
from pathlib import Path

from abs_classify.datasets.base import (
    Dataset,
    Sample,
    class_id,
    classes_of,
    label_at,
    numbered_classes,
    split_options,
)
from abs_classify.datasets.folders import is_image, read_lines
from abs_classify.datasets.orientation import all_as_stored, is_as_stored
from abs_classify.datasets.shard_files import ShardFiles, download_shards, find_shards
from abs_classify.datasets.tar_files import Member, tar_members
from abs_core.errors import DatasetError, ImageError, UsageError
from abs_core.http import is_url
from abs_core.labels import ClassLabel
from abs_core.progress import logged
from abs_core.text import quoted

__all__ = ["open_shards"]

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
    root = download_shards(source, split, options.get("to", "")) if is_url(source) else Path(source).expanduser()
    found = find_shards(root, options.get("split"))
    names = _class_names(found.class_names) if found.class_names.is_file() else None
    entries = [
        entry for shard in logged(found.shards, _log, "reading shards") for entry in _shard_entries(shard, found)
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
    dataset = Dataset(f"wds:{location}", classes, samples, notes=notes, remarks=found.remarks)
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


def _shard_entries(shard: Path, found: ShardFiles) -> list[_ShardEntry]:
    entries, expected = list(_entries(shard)), found.samples.get(shard.name)
    if expected is not None and len(entries) != expected:
        raise DatasetError(
            f"{str(shard)!r} has {len(entries)} samples, but {found.counted_in} says {expected}",
            remedy=f"Fetch the shard again, or remove {found.counted_in} if it is of other shards",
        )
    return entries


def _entries(shard: Path) -> Iterator[_ShardEntry]:
    members: dict[str, Member] = {}
    current = ""
    seen: set[str] = set()
    for member in tar_members(shard):
        folder, slash, file = member.name.rpartition("/")
        stem, _, extension = file.partition(".")
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
