"""Progress of long work, as a library tells it and whoever runs the library shows it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeVar

__all__ = ["Advance", "Progress", "logged", "no_progress"]

T = TypeVar("T")

# seconds before the first line of a log, and between lines
_FIRST, _INTERVAL = 1.0, 10.0


class Advance(Protocol):
    """Moves a progress display: by ``step`` units, with an optional remark behind it."""

    def __call__(self, step: int = 1, remark: str = "") -> None: ...


class Progress(Protocol):
    """Opens a progress display, which is shown until its block ends.

    Args:
        title: the work, in a few words.
        total: the number of units; 0 if it is unknown.
        unit: the unit, in the plural.
    """

    def __call__(self, title: str, total: int, unit: str) -> AbstractContextManager[Advance]: ...


@contextmanager
def no_progress(title: str, total: int, unit: str) -> Iterator[Advance]:  # noqa: ARG001 - a ``Progress``
    """A progress display that shows nothing."""
    yield _ignore


def _ignore(step: int = 1, remark: str = "") -> None:
    pass


def logged(items: Sequence[T], logger: logging.Logger, what: str) -> Iterator[T]:
    """The items, with a line of the log now and then: for work that no display is open for yet.

    Args:
        items: what is gone through.
        logger: of the caller.
        what: the work and its unit: "reading shards".
    """
    due = time.monotonic() + _FIRST
    for done, item in enumerate(items):
        if time.monotonic() >= due:
            logger.info("%s: %d of %d", what, done, len(items))
            due = time.monotonic() + _INTERVAL
        yield item
