"""An iterator that works a little ahead, in a thread of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["prefetched"]

T = TypeVar("T")


@dataclass(frozen=True)
class _End:
    """The last entry: why there are no more."""

    error: BaseException | None


# seconds that the end of a block waits for the thread, which may wait itself: for names from a pipe, or for a disk
_PATIENCE = 3.0


class _Stopped(Exception):  # noqa: N818 - ends the thread, and nobody sees it
    pass


class _Ahead(Generic[T]):
    def __init__(self, items: Iterable[T], depth: int) -> None:
        self._items = items
        self._queue: queue.Queue[T | _End] = queue.Queue(depth)
        self._stop = threading.Event()
        self.thread = threading.Thread(target=self._work, name="abs-prefetch", daemon=True)

    def _put(self, entry: T | _End) -> None:
        while not self._stop.is_set():
            try:
                return self._queue.put(entry, timeout=0.1)
            except queue.Full:
                continue
        raise _Stopped

    def _work(self) -> None:
        try:
            error: BaseException | None = None
            iterator = iter(self._items)
            try:
                for item in iterator:
                    self._put(item)
            except _Stopped:
                raise
            except BaseException as raised:  # also an interruption: the consumer raises it
                error = raised
            finally:
                if isinstance(iterator, Generator):
                    iterator.close()
            self._put(_End(error))
        except _Stopped:
            pass

    def take(self) -> Iterator[T]:
        while True:
            entry = self._queue.get()
            if isinstance(entry, _End):
                if entry.error is not None:
                    raise entry.error
                return
            yield entry

    def close(self) -> None:
        self._stop.set()
        if self.thread.ident is not None:
            self.thread.join(_PATIENCE)


@contextmanager
def prefetched(items: Iterable[T], depth: int) -> Iterator[Iterator[T]]:
    """The items, of which up to ``depth`` are made in a thread before they are asked for.

    Args:
        items: are iterated in one other thread; a generator is closed when the block ends, or as soon as it gives an
            item if that takes more than some seconds.
        depth: how many wait at most.

    Raises:
        What iterating ``items`` raises, after the items before it.
    """
    ahead = _Ahead(items, depth)
    with closing(ahead):
        ahead.thread.start()
        yield ahead.take()
