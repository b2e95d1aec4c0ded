"""The folder of an export: it appears whole or not at all, and nothing that is there is overwritten unasked."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from abs_core.errors import UsageError
from abs_core.files import new_folder, rename_folder, storage_errors
from abs_core.text import json_text

__all__ = ["new_export_folder", "validate_place"]

# says in a folder that it is an export, and of what
_EXPORT, _KIND, _VERSION = "export.json", "abs-export", 1

# of who is writing an export
_LOCK = ".lock"


def validate_place(target: Path, *, replace: bool) -> None:
    """Find out whether an export may be written there.

    Args:
        target: the folder.
        replace: whether an export that is there may be replaced.

    Raises:
        UsageError: it may not: something is there.
    """
    with storage_errors(target, "read"):
        is_there = target.is_symlink() or target.exists()
        if not is_there or (target.is_dir() and not any(target.iterdir())):
            return
    if not _is_export(target):
        raise UsageError(
            f"{str(target)!r} exists and is no export of `abs label`",
            remedy="Name another place with --to, or move it away",
        )
    if not replace:
        raise UsageError(
            f"{str(target)!r} exists", remedy="Give --replace to replace that export, or name another place with --to"
        )


def _is_export(target: Path) -> bool:
    try:
        value = json.loads((target / _EXPORT).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(value, dict) and value.get("format") == _KIND and not target.is_symlink()


@contextmanager
def new_export_folder(target: Path, description: Mapping[str, Any]) -> Iterator[Path]:
    """Make the folder of an export: the block writes into a folder beside it, which then takes its name.

    If the block ends with an error, all that it wrote is removed. An export that is there is removed when the new one
    has its name.

    Args:
        target: the folder, see ``validate_place``; parents are made.
        description: of the export, for ``export.json``; read when the block has ended.

    Yields:
        The folder to write into.

    Raises:
        StorageError: it cannot be written.
    """
    with new_folder(target, _rename) as part:
        yield part
        with storage_errors(target, "write"):
            text = json_text({"format": _KIND, "format_version": _VERSION, **description}) + "\n"
            (part / _EXPORT).write_text(text, encoding="utf-8")


def _rename(part: Path, target: Path) -> None:
    """Let the new folder take the name; if that fails, the old one keeps it."""
    if not _is_export(target):
        rename_folder(part, target)
        return
    old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name[:80]}.", suffix=".part"))
    target.rename(old / target.name)
    try:
        part.rename(target)
    except BaseException:
        (old / target.name).rename(target)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
