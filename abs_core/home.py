"""Where the toolkit keeps what it keeps: one folder, ``~/.abs`` unless the user says otherwise."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from abs_core.errors import UsageError

__all__ = ["Home"]


@dataclass(frozen=True)
class Home:
    """The user's folders.

    Args:
        root: holds bundles, journals, results and, unless ``cache`` says otherwise, the stage cache (``ABS_HOME``).
        cache: the stage cache; may lie on another disk and may be shared by several processes (``ABS_CACHE``).
    """

    root: Path
    cache: Path

    @classmethod
    def at(cls, root: Path | None, cache: Path | None) -> Home:
        """The folders for the two options; None: those of ``ABS_HOME`` and ``ABS_CACHE``, or their defaults.

        Raises:
            UsageError: an address in place of a folder, or no home folder to put the default into.
        """
        base = _folder("--home", root or os.environ.get("ABS_HOME") or "~/.abs")
        return cls(base, _folder("--cache", cache or os.environ.get("ABS_CACHE") or base / "cache"))

    @property
    def bundles(self) -> Path:
        """The local bundle store."""
        return self.root / "bundles"

    @property
    def journals(self) -> Path:
        """The append-only journals of replies from language models."""
        return self.root / "journals"

    @property
    def models(self) -> Path:
        """The models that were imported, and the records of those that were pulled."""
        return self.root / "models"

    @property
    def results(self) -> Path:
        """The result files of evaluations."""
        return self.root / "results"


# as pathlib leaves it: two slashes have become one
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/+")


def _folder(option: str, path: str | Path) -> Path:
    address = _ADDRESS.match(str(path))
    if address is not None:
        written = address[0].rstrip("/") + "//" + str(path)[address.end() :]
        raise UsageError(f"{option} must be a folder, got the address {written!r}", remedy="Name a local folder")
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:
        raise UsageError(
            f"this user has no home folder for {str(path)!r}",
            remedy="Name a folder in the variable ABS_HOME, or with --home",
        ) from None
    except FileNotFoundError:
        raise UsageError(
            f"the working folder, in which {str(path)!r} is to be, no longer exists",
            remedy="Change to another folder",
        ) from None
