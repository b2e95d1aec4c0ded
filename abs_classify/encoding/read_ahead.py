"""Reading ahead: images are read in threads while others are encoded, across the calls that ask for results."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

__all__ = ["ReadAhead"]

Item = TypeVar("Item", bound=Hashable)

Read = TypeVar("Read")

Result = TypeVar("Result")

# Decoded images are large: this many wait at most, whatever the number of images, and fewer where they are very large.
_WAITING = 8
_PIXELS_WAITING = 64_000_000


class ReadAhead(Generic[Item, Read, Result]):
    """Reads and encodes items, in order, a little ahead of whoever takes the results.

    Args:
        read: safe to call from several threads at once.
        encode: turns what was read into as many results, in order; it may take some ahead.
        workers: how many threads read.
        weigh: the size of what was read; no more is begun while what waits weighs ``_PIXELS_WAITING`` or more.
    """

    def __init__(
        self,
        read: Callable[[Item], Read],
        encode: Callable[[Iterator[Read]], Generator[Result, None, None]],
        workers: int,
        weigh: Callable[[Read], int] = lambda _: 0,
    ) -> None:
        self._read, self._encode, self._weigh = read, encode, weigh
        self._workers = min(workers, _WAITING)
        # of the announced items: those whose reading has not begun, and those whose results were not taken
        self._unread: deque[Item] = deque()
        self._untaken: deque[Item] = deque()
        self._results: Generator[Result, None, None] | None = None
        self._reads: Generator[Read, None, None] | None = None
        self._failure: Exception | None = None

    def take(self, items: Sequence[Item], then: Sequence[Item] = ()) -> Generator[Result, None, None]:
        """The results of ``items``, in order.

        Args:
            items: distinct.
            then: items of the next call, distinct, which are begun as soon as there is nothing else to do.

        Raises:
            Whatever ``read`` raises, for the first item that fails, after the results of the items before it; and
            whatever ``encode`` raises.
        """
        if list(self._untaken) != list(items):
            self.close()
            self._announce(items)
        self._announce(then)
        finished = False
        try:
            for _ in items:
                result = self._next()
                self._untaken.popleft()
                yield result
            finished = True
        finally:
            if not finished or not self._untaken:
                self.close()

    def close(self) -> None:
        """Drop what was begun for items that nobody has taken."""
        self._unread.clear()
        self._untaken.clear()
        results, reads = self._results, self._reads
        self._results = self._reads = None
        # not left to finalizers, which wait for threads and where Ctrl-C would have no effect
        try:
            if results is not None:
                results.close()
        finally:
            if reads is not None:
                reads.close()

    def _announce(self, items: Sequence[Item]) -> None:
        self._unread.extend(items)
        self._untaken.extend(items)

    def _next(self) -> Result:
        for _ in range(2):
            if self._results is None:
                self._failure = None
                self._reads = self._read_ahead()
                self._results = self._encode(self._reads)
            for result in self._results:
                return result
            if self._failure is not None:
                raise self._failure
            # it came to the end of what was announced before the last call
            self._results = None
        raise AssertionError("the encoder gave fewer results than it was given items")

    def _read_ahead(self) -> Generator[Read, None, None]:
        """What was read, in order, to the first item that fails: its error waits until its result is asked for."""
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="abs-read")
        begun: deque[Future[Read]] = deque()
        try:
            while self._unread or begun:
                while self._unread and (not begun or self._has_room(begun)):
                    begun.append(pool.submit(self._read, self._unread.popleft()))
                try:
                    read = begun.popleft().result()
                except Exception as error:
                    self._failure = error
                    return
                yield read
        finally:
            pool.shutdown(cancel_futures=True)

    def _has_room(self, begun: deque[Future[Read]]) -> bool:
        finished = [entry for entry in begun if entry.done() and entry.exception() is None]
        return len(begun) < _WAITING and sum(self._weigh(entry.result()) for entry in finished) < _PIXELS_WAITING
