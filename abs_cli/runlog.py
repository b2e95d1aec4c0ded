"""What the last run found in the cache and what not, so that `abs cache explain` can say afterwards why it computed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from abs_cli.cache import Key, StageCache
from abs_core.errors import StorageError
from abs_core.files import atomic_write

__all__ = ["LastRun", "read_last_run", "write_last_run"]

_NAME = "last-run.json"


@dataclass(frozen=True)
class LastRun:
    """A run as the cache saw it; the fields are those of ``StageCache``."""

    hits: Mapping[str, int]
    misses: Mapping[str, int]
    missed: Sequence[Key]


def write_last_run(cache: StageCache) -> None:
    """Remember what a run asked of its cache. A folder that cannot be written is left alone."""
    missed = [{"stage": key.stage, "version": key.version, "inputs": key.inputs} for key in cache.missed]
    run = {"hits": cache.hits, "misses": cache.misses, "missed": missed}
    with suppress(StorageError), atomic_write(cache.root / _NAME) as stream:
        stream.write(json.dumps(run).encode("utf-8"))


def read_last_run(folder: Path) -> LastRun | None:
    """The last run that used this cache folder; None if there was none or its record is damaged."""
    try:
        run = json.loads((folder / _NAME).read_bytes())
        missed = [Key(one["stage"], one["version"], one["inputs"]) for one in run["missed"]]
        return LastRun(dict(run["hits"]), dict(run["misses"]), missed)
    except (OSError, ValueError, KeyError, TypeError):
        return None
