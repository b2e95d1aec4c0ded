"""Which cache keys the last run asked for, so that `abs cache explain` can say afterwards why it computed."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from abs_cli.cache import Key
from abs_core.errors import StorageError
from abs_core.files import atomic_write

__all__ = ["read_last_run", "write_last_run"]

_NAME = "last-run.json"


def write_last_run(folder: Path, asked: list[tuple[Key, bool]]) -> None:
    """Remember the keys of a run and whether each was found. A folder that cannot be written is left alone."""
    rows = [{"key": json.loads(key.text), "hit": hit} for key, hit in asked]
    with suppress(StorageError), atomic_write(folder / _NAME) as stream:
        stream.write(json.dumps(rows).encode("utf-8"))


def read_last_run(folder: Path) -> list[tuple[Key, bool]]:
    """The keys of the last run in this cache folder; none if there was no run or its record is damaged."""
    try:
        rows = json.loads((folder / _NAME).read_bytes())
        return [(Key(r["key"]["stage"], r["key"]["version"], r["key"]["inputs"]), bool(r["hit"])) for r in rows]
    except (OSError, ValueError, KeyError, TypeError):
        return []
