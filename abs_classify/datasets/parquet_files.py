"""Which parquet files belong to a split: on disk, or copied from a pinned revision of the Hugging Face hub.

A split is taken as a whole or not at all: its files number themselves (``test-00000-of-00003.parquet``), the hub lists
them with their sizes, and the data set's card counts the rows.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from abs_classify.datasets.folders import claim
from abs_core.errors import DatasetError, UsageError
from abs_core.extras import require
from abs_core.files import atomic_write
from abs_core.text import printable

__all__ = ["download_split", "find_parquet_files", "stated_rows"]

_NUMBERED = re.compile(r"(?P<prefix>.*)-(?P<number>\d{5,9})-of-(?P<count>\d{5,9})(?P<suffix>[-.].*)")
_RESUME = "run the same command again: it resumes"
_MAX_CARD = 1 << 24  # bytes


def find_parquet_files(root: Path, split: str) -> list[Path]:
    """The files of a split, in their order.

    Args:
        root: a file, or a folder with the files in it, in ``data/``, in a folder named after the split, or in that of
            its only configuration.
        split: the prefix of the names.

    Raises:
        DatasetError: there are none, or some of those that the names count are missing.
    """
    if root.is_file():
        return [root]
    splits: dict[str, None] = {}
    for folder in (root, root / "data"):
        if of_split := _split_in(folder, split, splits):
            return of_split
    # one folder for each configuration, such as plain_text/
    inner = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    found = {path.name: files for path in inner if (files := _split_in(path, split, splits))}
    if len(found) > 1:
        raise DatasetError(
            f"{str(root)!r} has several configurations with a split {split!r}: {', '.join(found)}",
            remedy=f"Name the folder of one, such as {str(root / next(iter(found)))!r}",
        )
    if found:
        return next(iter(found.values()))
    if splits:
        raise DatasetError(
            f"{str(root)!r} has no parquet file of the split {split!r}; its splits: {', '.join(splits)}",
            remedy="Choose one with ?split=NAME",
        )
    raise DatasetError(
        f"{str(root)!r} has no parquet files",
        remedy="Name a folder with .parquet files, or OWNER/NAME@COMMIT?to=DIR of the Hugging Face hub",
    )


def _split_in(folder: Path, split: str, splits: dict[str, None]) -> list[Path]:
    """The files of a split in a folder, or in a folder of its name; what other splits there are is noted."""
    files = sorted(folder.glob("*.parquet")) if folder.is_dir() else []
    of_split = [path for path in files if path.name.startswith((f"{split}-", f"{split}."))]
    if of_split:
        _check_numbers(folder, of_split)
        return of_split
    splits |= dict.fromkeys(re.split("[-.]", path.name)[0] for path in files if not path.stem.isdigit())
    # as the hub converts data sets: test/0000.parquet
    numbered = sorted(path for path in (folder / split).glob("*.parquet") if path.stem.isdigit())
    for number, path in enumerate(numbered):
        if int(path.stem) != number:
            raise DatasetError(
                f"{str(folder / split)!r} has no file {number}, but a file {path.stem}",
                remedy="Fetch it from where the others come from; to use one file, name it",
            )
    return numbered


def _check_numbers(folder: Path, files: list[Path]) -> None:
    matches = [match for path in files if (match := _NUMBERED.fullmatch(path.name))]
    counts = {int(match["count"]) for match in matches}
    if not matches:
        return
    numbers = [int(match["number"]) for match in matches]
    if len(counts) > 1 or len(set(numbers)) < len(numbers) or len(matches) < len(files):
        raise DatasetError(
            f"the files of {str(folder)!r} are of several versions of one split: {files[0].name!r}, {files[-1].name!r}",
            remedy="Keep one version, or name one file",
        )
    missing = counts.pop() - len(set(numbers))
    if missing:
        first = next(number for number in range(len(numbers) + 1) if number not in numbers)
        match = matches[0]
        raise DatasetError(
            f"{missing} of {match['count'].lstrip('0')} files are missing in {str(folder)!r}, the first is number "
            f"{first} ({match['prefix']}-{first:0{len(match['number'])}d}-of-{match['count']})",
            remedy="Fetch them from where the others come from; to use one file, name it",
        )


def stated_rows(root: Path, split: str) -> int | None:
    """How many rows a split has by the card of its data set (``README.md`` with ``dataset_info``).

    The hub writes that part itself, a key on each line, so it is read line by line: a YAML parser takes minutes for a
    card that is made to be slow.

    Returns:
        None where there is no card, or it describes several configurations.
    """
    card = root / "README.md"
    try:
        if not card.is_file() or card.stat().st_size > _MAX_CARD:
            return None
        _, _, rest = card.read_text(encoding="utf-8").partition("---\n")
    except (OSError, ValueError):
        return None
    _, found, info = f"\n{rest.partition(chr(10) + '---')[0]}".partition("\ndataset_info:\n")
    if not found:
        return None
    name, counts, configurations = "", dict[str, int](), 0
    for line in info.splitlines():
        if line[:1] not in ("", " ", "-"):
            break
        configurations += "config_name:" in line or line.startswith("- ")
        key, _, value = line.strip().removeprefix("- ").partition(": ")
        if key == "name":
            name = value.strip("'\"")
        elif key == "num_examples" and value.isascii() and value.isdigit() and len(value) < 19:
            counts[name] = int(value)
    return counts.get(split) if configurations <= 1 else None


def download_split(name: str, revision: str, to: str, split: str) -> Path:
    """Copy the parquet files of a split that the folder does not have yet.

    Args:
        name: ``OWNER/NAME`` of the repository.
        revision: a full commit hash.
        to: the folder.
        split: the prefix of the names.

    Returns:
        The folder, which has every file of the split with the size that the hub states.

    Raises:
        UsageError: a revision that is not pinned, no folder, or one with other files.
        DatasetError: the hub cannot be reached, has no such files, or did not send all of them.
        MissingExtraError: huggingface_hub is not installed.
    """
    _require_pinned(name, revision, to)
    folder = Path(to).expanduser()
    complete = folder / f".{split}-complete"
    claim(folder, f"{name}@{revision}")
    sizes = _read_sizes(complete)
    if sizes and not _incomplete(folder, sizes):
        return folder
    sizes = _copy_split(name, revision, folder, split)
    # the client takes a connection that breaks while there are files already for an order to work offline
    if missing := _incomplete(folder, sizes):
        raise DatasetError(
            f"{len(missing)} of {len(sizes)} files of {name} ({split}) are not copied in full, the first is "
            f"{missing[0]!r}",
            remedy=f"Check the connection, and {_RESUME}",
        )
    with atomic_write(complete) as stream:
        stream.write(json.dumps(sizes).encode())
    return folder


def _copy_split(name: str, revision: str, folder: Path, split: str) -> dict[str, int]:
    """Copy what can be copied; path and size of all files of the split."""
    hub = require("huggingface_hub", extra="datasets", purpose="to download from the Hugging Face hub")
    try:
        sizes = _list_split(hub, name, revision, split)
        if sizes:
            hub.snapshot_download(
                repo_id=name, repo_type="dataset", revision=revision, local_dir=folder, allow_patterns=list(sizes)
            )
    except UsageError:
        raise
    except Exception as error:  # the hub client has many errors of its own, and those of its HTTP client
        raise DatasetError(
            f"cannot download {name} at {revision}: {type(error).__name__}",
            remedy=f"Check the name and the connection, and {_RESUME}",
        ) from error
    if not sizes:
        raise DatasetError(
            f"{name} has no parquet files of the split {split!r} at {revision}",
            remedy="Choose another split with ?split=NAME, or the commit of its branch refs/convert/parquet",
        )
    return sizes


def _require_pinned(name: str, revision: str, to: str) -> None:
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise UsageError(
            f"the revision of {name} must be a full commit hash, since a branch can change, got {revision!r}",
            remedy=f"Write hf:{name}@COMMIT?to=DIR with the 40 digits from the history on the hub",
        )
    if not to:
        raise UsageError(
            f"the files of {name} must be downloaded before they can be read",
            remedy=f"Name a folder for them: hf:{name}@{revision}?to=DIR",
        )


def _list_split(hub: Any, name: str, revision: str, split: str) -> dict[str, int]:
    """Path and size in bytes of the files of a split on the hub.

    Raises:
        UsageError: there are several configurations.
    """
    title = re.escape(split)
    wanted = re.compile(rf"(?:(?P<folder>[^/]+)/)?(?:{title}[-.][^/]*parquet|{title}/\d+\.parquet)")
    tree = hub.HfApi().list_repo_tree(name, repo_type="dataset", revision=revision, recursive=True)
    by_folder: dict[str, dict[str, int]] = {}
    for entry in tree:
        if hasattr(entry, "size") and (match := wanted.fullmatch(entry.path)):
            by_folder.setdefault(match["folder"] or "", {})[entry.path] = entry.size
    for usual in ("", "data"):
        if usual in by_folder:
            return by_folder[usual]
    if len(by_folder) > 1:
        raise UsageError(
            f"{name} has several configurations with a split {split!r}: {', '.join(map(printable, by_folder))}",
            remedy="Copy the files of one with `hf download`, and name their folder: hf:DIR",
        )
    return next(iter(by_folder.values()), {})


def _read_sizes(complete: Path) -> dict[str, int]:
    """What a finished copy noted; empty for one that noted nothing."""
    try:
        content = json.loads(complete.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _incomplete(folder: Path, sizes: dict[str, int]) -> list[str]:
    return [
        name for name, size in sizes.items() if not (folder / name).is_file() or (folder / name).stat().st_size != size
    ]
