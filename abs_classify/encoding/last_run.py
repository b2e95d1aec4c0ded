"""What the last run asked of its cache, for ``abs cache explain``: what was there, and what of a space was new."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abs_classify.encoding.spaces import Space
from abs_core.errors import StorageError
from abs_core.files import atomic_write

__all__ = ["SpaceDifference", "SpaceUse", "differences", "nearest_space", "read_last_run", "write_last_run"]

_NAME = "last-run.json"

# bytes; a space takes about a thousand
_LARGEST = 1 << 24


@dataclass(frozen=True)
class SpaceUse:
    """What a run asked of a space.

    Args:
        space: of which rows were asked for.
        items, items_found: how many images or texts, and how many of them had all the rows that were asked for.
        rows, rows_found: how many rows, and how many of them were there.
    """

    space: Space
    items: int
    items_found: int
    rows: int
    rows_found: int


@dataclass(frozen=True)
class SpaceDifference:
    """One part in which two spaces differ: a dotted path and the two values; None where there is none."""

    path: str
    ours: Any
    theirs: Any


def write_last_run(root: Path, uses: Iterable[SpaceUse]) -> None:
    """Remember what a run asked of its cache. A folder that cannot be written is left alone.

    Args:
        root: the cache folder.
        uses: one for each space, in the order of the stages.
    """
    rows = [
        {
            "stage": use.space.stage,
            "version": use.space.version,
            "inputs": use.space.inputs,
            "about": use.space.about,
            "items": [use.items, use.items_found],
            "rows": [use.rows, use.rows_found],
        }
        for use in uses
    ]
    with suppress(StorageError), atomic_write(root / _NAME) as stream:
        stream.write(json.dumps({"spaces": rows}).encode("utf-8"))


def read_last_run(root: Path) -> list[SpaceUse] | None:
    """What the last run asked of a cache folder; None if there was none or its record is damaged."""
    try:
        with (root / _NAME).open("rb") as stream:
            run = json.loads(stream.read(_LARGEST))
        return [
            SpaceUse(
                Space(str(row["stage"]), int(row["version"]), dict(row["inputs"]), str(row["about"])),
                *(int(row[name][number]) for name in ("items", "rows") for number in (0, 1)),
            )
            for row in run["spaces"]
        ]
    except (OSError, ValueError, KeyError, IndexError, TypeError, RecursionError):
        return None


def nearest_space(space: Space, others: Iterable[Space]) -> tuple[Space, list[SpaceDifference]] | None:
    """The space most like one, of the same stage and kind of views, and the parts in which they differ.

    Args:
        space: the one.
        others: the candidates, which may contain it.

    Returns:
        None if there is no other.
    """
    nearest: tuple[Space, list[SpaceDifference]] | None = None
    for other in others:
        if other.stage == space.stage and other.digest != space.digest:
            parts = differences(_parts(space), _parts(other))
            is_like = all(not part.path.endswith("kind") for part in parts)
            if is_like and (nearest is None or len(parts) < len(nearest[1])):
                nearest = other, parts
    return nearest


def differences(ours: Any, theirs: Any, path: str = "") -> list[SpaceDifference]:
    """The leaves in which two JSON values differ, as dotted paths."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        parts = []
        for name in sorted(ours.keys() | theirs.keys()):
            parts += differences(ours.get(name), theirs.get(name), f"{path}.{name}" if path else name)
        return parts
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        parts = []
        for position, (left, right) in enumerate(zip(ours, theirs, strict=True)):
            parts += differences(left, right, f"{path}[{position}]")
        return parts
    return [] if ours == theirs else [SpaceDifference(path, ours, theirs)]


def _parts(space: Space) -> dict[str, Any]:
    return {"version": space.version, **space.inputs}
