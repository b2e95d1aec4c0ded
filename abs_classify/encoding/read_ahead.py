"""Items read and encoded in order, in threads, a little ahead of whoever takes the results."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

__all__ = ["ReadAhead"]


Item = TypeVar("Item", bound=Hashable)
Read = TypeVar("Read")
Result = TypeVar("Result")

# Decoded images are large: this many wait at most, whatever the number of images.
_WAITING = 8


class ReadAhead(Generic[Item, Read, Result]):
    """Reads and encodes items, in order, a little ahead of whoever takes the results.

    Args:
        read: safe to call from several threads at once.
        encode: turns what was read into as many results, in order; it may take some ahead.
        workers: how many threads read.
    """

    def __init__(
        self,
        read: Callable[[Item], Read],
        encode: Callable[[Iterator[Read]], Generator[Result, None, None]],
        workers: int,
    ) -> None:
        self._read, self._encode = read, encode
        self._workers = min(workers, _WAITING)
        # of the announced items: those whose reading has not begun, and those whose results were not taken
        self._unread: deque[Item] = deque()
        self._untaken: deque[Item] = deque()
        self._results: Generator[Result, None, None] | None = None
        self._failure: Exception | None = None
        self._kept: dict[Item, Result] = {}

    def take(self, items: Sequence[Item], then: Sequence[Item] = ()) -> list[Result]:
        """The results of ``items``, in order.

        Args:
            items: what comes twice is worked on once.
            then: items of the next call, which are begun as soon as there is nothing else to do.

        Raises:
            Whatever ``read`` raises, for the first item that fails, and whatever ``encode`` raises. The results of the
            items before it are kept for the next call.
        """
        missing = [item for item in dict.fromkeys(items) if item not in self._kept]
        if list(self._untaken) != missing:
            self.close()
            self._announce(missing)
        self._announce(then)
        try:
            for item in missing:
                self._kept[item] = self._next()
                self._untaken.popleft()
        except BaseException:
            self.close()
            raise
        if not self._untaken:
            self.close()
        results = [self._kept[item] for item in items]
        self._kept.clear()
        return results

    def close(self) -> None:
        """Drop what was begun for items that nobody has taken."""
        if self._results is not None:
            self._results.close()
        self._results = None
        self._unread.clear()
        self._untaken.clear()

    def _announce(self, items: Sequence[Item]) -> None:
        unique = dict.fromkeys(items)
        self._unread.extend(unique)
        self._untaken.extend(unique)

    def _next(self) -> Result:
        for _ in range(2):
            if self._results is None:
                self._failure = None
                self._results = self._encode(self._read_ahead())
            for result in self._results:
                return result
            if self._failure is not None:
                raise self._failure
            # it came to the end of what was announced before the last call
            self._results = None
        raise AssertionError("the encoder gave fewer results than it was given items")

    def _read_ahead(self) -> Iterator[Read]:
        """What was read, in order, to the first item that fails: its error waits until its result is asked for."""
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="abs-read")
        begun: deque[Future[Read]] = deque()
        try:
            while self._unread or begun:
                while self._unread and len(begun) < _WAITING:
                    begun.append(pool.submit(self._read, self._unread.popleft()))
                try:
                    read = begun.popleft().result()
                except Exception as error:
                    self._failure = error
                    return
                yield read
        finally:
            pool.shutdown(cancel_futures=True)
