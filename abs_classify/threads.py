"""A processor's cores shared out between images instead of within each operation.

An operation that is spread over n cores ends when the slowest of them does, a network has hundreds of operations, and
OpenMP's threads spin while they wait. Beside other work on the machine those that spin keep the one with work from its
core: a pass over 40 crops was measured to take up to 18 times as long on two cores as on one. Here every thread runs
whole images on cores of its own, and threads meet once at the end. Torch and Pillow let go of the interpreter while
they compute, so Python's threads do run side by side.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice, pairwise
from typing import TypeVar

import torch

__all__ = ["even_parts", "in_threads"]

T = TypeVar("T")
R = TypeVar("R")


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
    workers = min(torch.get_num_threads(), len(items))

    def run(item: T) -> R:
        with torch.inference_mode():
            return work(item)

    if workers <= 1:
        yield from map(run, items)
        return
    with _pool(workers) as pool:
        rest = iter(items)
        pending = deque(pool.submit(run, item) for item in islice(rest, ahead))
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(run, item) for item in islice(rest, 1))
            yield result


def even_parts(items: Sequence[T], most: int) -> list[Sequence[T]]:
    """Cut a sequence into parts of at most ``most`` items and nearly equal size, so many that all threads get alike."""
    rounds = -(-len(items) // (most * torch.get_num_threads()))
    count = min(len(items), rounds * torch.get_num_threads())
    edges = [len(items) * at // max(1, count) for at in range(count + 1)]
    return [items[start:stop] for start, stop in pairwise(edges)]


@contextmanager
def _pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(
        workers, thread_name_prefix="abs", initializer=torch.set_num_threads, initargs=(threads // workers,)
    )
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        # a thread's setting holds for that thread, but threads that start later would begin with it
        torch.set_num_threads(threads)
