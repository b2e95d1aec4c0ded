"""Results that threads prepare before they are asked for: images are read while others are encoded."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import Generic, TypeVar

__all__ = ["ReadAhead"]

T = TypeVar("T", bound=Hashable)
R = TypeVar("R")

# Decoded photos are large: this many wait at most, whatever the number of images.
_WAITING = 8


class ReadAhead(Generic[T, R]):
    """Applies a function to items in order, in threads that stay a few items ahead of whoever takes the results.

    Args:
        work: safe to call from several threads at once.
        workers: how many threads.
    """

    def __init__(self, work: Callable[[T], R], workers: int) -> None:
        self._work = work
        self._pool = ThreadPoolExecutor(min(workers, _WAITING), thread_name_prefix="abs-read")
        self._begun: dict[T, Future[R]] = {}

    def take(self, items: Sequence[T], then: Sequence[T] = ()) -> Iterator[R]:
        """The results of ``items``, in order.

        Args:
            items: hashable; what was begun for them before is used.
            then: items of the next call, which are begun when there is nothing else to do.

        Raises:
            Whatever ``work`` raises, for the first item that fails. What was begun stays for the next call.
        """
        wanted = {*items, *then}
        for item in [item for item in self._begun if item not in wanted]:
            self._begun.pop(item).cancel()
        queue = chain(items, then)
        self._begin(queue, _WAITING)
        for item in items:
            # an item that comes twice was taken already
            future = self._begun.pop(item, None) or self._pool.submit(self._work, item)
            result = future.result()
            self._begin(queue, 1)
            yield result

    def _begin(self, queue: Iterator[T], count: int) -> None:
        for item in islice(queue, count):
            if item not in self._begun:
                self._begun[item] = self._pool.submit(self._work, item)
