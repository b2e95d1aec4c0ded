"""Progress of long work, as a library tells it and whoever runs the library shows it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

__all__ = ["Advance", "Progress", "no_progress"]


class Advance(Protocol):
    """Moves a progress display: by ``step`` units, with an optional remark behind it."""

    def __call__(self, step: int = 1, remark: str = "") -> None: ...


class Progress(Protocol):
    """Opens a progress display, which is shown until its block ends.

    Args:
        title: the work, in a few words.
        total: the number of units.
        unit: the unit, in the plural.
    """

    def __call__(self, title: str, total: int, unit: str) -> AbstractContextManager[Advance]: ...


@contextmanager
def no_progress(title: str, total: int, unit: str) -> Iterator[Advance]:  # noqa: ARG001 - a ``Progress``
    """A progress display that shows nothing."""
    yield _ignore


def _ignore(step: int = 1, remark: str = "") -> None:
    pass
