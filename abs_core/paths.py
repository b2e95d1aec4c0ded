"""What lies under a path that a user wrote, without an error where nothing can: pathlib raises for names too long."""

from __future__ import annotations

import os.path
from pathlib import Path

__all__ = ["exists", "is_file", "is_folder"]


def exists(path: str | Path) -> bool:
    """Whether there is anything; False also for what no file system can hold, such as a list of many class names."""
    return os.path.exists(path)  # noqa: PTH110


def is_file(path: str | Path) -> bool:
    """Whether there is a file."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: str | Path) -> bool:
    """Whether there is a folder."""
    return os.path.isdir(path)  # noqa: PTH112
