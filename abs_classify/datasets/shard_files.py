"""Where the shards of a webdataset are: in a folder, under a pattern, or on the web, and which of them are missing."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from abs_classify.datasets.folders import claim, fetch, list_folder, read_lines
from abs_core.errors import DatasetError, UsageError
from abs_core.http import validate_url
from abs_core.remarks import Remark, RemarkCounter

__all__ = ["ShardFiles", "download_shards", "find_shards"]

_USAGE = "wds:DIR?split=test"
_DEFAULT_SPLIT = "test"
_SPLITS = ("test", "val", "validation", "valid", "dev", "train", "training")
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")

_MAX_TEXT, _MAX_SHARD, _MAX_COUNTS = 1 << 20, 1 << 35, 1 << 24  # bytes
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


def download_shards(address: str, split: str, to: str) -> Path:
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
    fetch(f"{url}/classnames.txt", folder / "classnames.txt", _MAX_TEXT, optional=True)
    fetch(f"{url}/{_TEMPLATES}", folder / _TEMPLATES, _MAX_TEXT, optional=True)
    fetch(f"{url}/{split}/nshards.txt", folder / split / "nshards.txt", _MAX_TEXT)
    for number in range(_shard_count(folder / split / "nshards.txt")):
        fetch(f"{url}/{split}/{number}.tar", folder / split / f"{number}.tar", _MAX_SHARD)
    return folder
