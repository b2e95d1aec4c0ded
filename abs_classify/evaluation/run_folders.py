"""The folders of runs in a folder of results, by their names alone: a shell that completes one waits for this."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["list_run_folders"]

_RUN = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z-[0-9a-f]{8}")


def list_run_folders(root: Path) -> list[Path]:
    """The folders of all runs, oldest first; none where there is no folder of results."""
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if _RUN.fullmatch(path.name) and path.is_dir())
