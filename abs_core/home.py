"""Where the toolkit keeps what it keeps: one folder, ``~/.abs`` unless the user says otherwise."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

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
        """The folders for the two options; None: those of ``ABS_HOME`` and ``ABS_CACHE``, or their defaults."""
        base = _folder(root, "ABS_HOME", Path.home() / ".abs")
        return cls(base, _folder(cache, "ABS_CACHE", base / "cache"))

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


def _folder(given: Path | None, variable: str, default: Path) -> Path:
    return (given or Path(os.environ.get(variable) or default)).expanduser().absolute()
