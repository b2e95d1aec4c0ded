"""Threads over images, so that a processor's cores are divided between images instead of within each operation.

An operation that is spread over n cores ends when the slowest of them does, a network has hundreds of operations, and
OpenMP's threads spin while they wait. On a busy machine the spinning threads keep the working one from its core: a pass
over 40 crops was measured to take up to 18 times as long on two cores as on one. Here every thread computes whole
images on its own cores, and threads wait for each other once, at the end. Torch and Pillow release the interpreter lock
while they compute, so Python's threads do run in parallel.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice, pairwise
from typing import Self, TypeVar

import torch

from abs_core.errors import UsageError

__all__ = ["Cores", "even_parts", "in_threads", "set_threads"]

T = TypeVar("T")
R = TypeVar("R")


# a machine has fewer cores, and many more threads cannot be started
_MOST_THREADS = 1024


def set_threads(threads: int) -> None:
    """Set the number of torch's threads, for the whole process.

    Raises:
        UsageError: none, or more than any machine has cores.
    """
    if not 1 <= threads <= _MOST_THREADS:
        raise UsageError(
            f"the number of threads must be from 1 to {_MOST_THREADS}, got {threads}",
            remedy="Leave --threads out to use all cores",
        )
    torch.set_num_threads(threads)


class Cores:
    """Threads that divide torch's cores between them, for work that is submitted piece by piece.

    A context manager; when it ends, work that has not begun is dropped. With one worker there are no threads: work is
    done where it is submitted.

    Args:
        workers: how many threads, at most as many as torch may use.
    """

    def __init__(self, workers: int) -> None:
        self._threads = torch.get_num_threads()
        self.workers = max(1, min(workers, self._threads))
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        if self.workers > 1:
            share = (self._threads // self.workers,)
            self._pool = ThreadPoolExecutor(self.workers, "abs", initializer=torch.set_num_threads, initargs=share)
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            try:
                self._pool.shutdown(cancel_futures=True)
            finally:
                # a thread's setting holds for that thread, but threads that start later would begin with it
                torch.set_num_threads(self._threads)

    def submit(self, work: Callable[[], R]) -> Future[R]:
        """Have ``work`` done in inference mode. Work may submit further work, but must not wait for it."""
        if self._pool is not None:
            return self._pool.submit(_inferring, work)
        done: Future[R] = Future()
        try:
            done.set_result(_inferring(work))
        except Exception as error:
            done.set_exception(error)
        return done


def _inferring(work: Callable[[], R]) -> R:
    with torch.inference_mode():
        return work()


def in_threads(work: Callable[[T], R], items: Sequence[T], *, ahead: int | None = None) -> Iterator[R]:
    """``work`` on every item, in as many threads as torch may use, which divide torch's cores between them.

    With one thread or one item this is a plain loop in the caller's thread.

    Args:
        work: safe to call from several threads at once; it runs in inference mode.
        items: what to work on.
        ahead: most results that are under way or wait to be taken; None for all.

    Yields:
        Results in the order of ``items``.

    Raises:
        Whatever ``work`` raises, for the first item that fails; work that has not begun is dropped.
    """
    if min(torch.get_num_threads(), len(items)) <= 1:
        yield from (_inferring(partial(work, item)) for item in items)
        return
    with Cores(len(items)) as cores:
        rest = iter(items)
        pending = deque(cores.submit(partial(work, item)) for item in islice(rest, ahead))
        while pending:
            result = pending.popleft().result()
            pending.extend(cores.submit(partial(work, item)) for item in islice(rest, 1))
            yield result


def even_parts(items: Sequence[T], most: int) -> list[Sequence[T]]:
    """Cut a sequence into parts of nearly equal size, at most ``most`` items each, so that all threads get as many."""
    rounds = -(-len(items) // (most * torch.get_num_threads()))
    count = min(len(items), rounds * torch.get_num_threads())
    edges = [len(items) * number // max(1, count) for number in range(count + 1)]
    return [items[start:stop] for start, stop in pairwise(edges)]
