"""An iterator that works ahead in a thread: its order, its errors, its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from abs_classify.labelling import prefetch
from abs_classify.labelling.prefetch import prefetched


def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise ValueError("damaged")

    with prefetched(items(), 2) as ahead:
        assert [next(ahead) for _ in range(5)] == list(range(5))
        with pytest.raises(ValueError, match="damaged"):
            next(ahead)


def test_a_generator_is_closed_with_the_block() -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            closed.set()

    with prefetched(items(), 2) as ahead:
        assert next(ahead) == 0
    assert closed.is_set()


def test_the_end_does_not_wait_for_an_item_that_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch, "_PATIENCE", 0.05)
    comes = threading.Event()

    def items() -> Iterator[int]:
        comes.wait(120)  # as for a name from a pipe
        yield 0

    start = time.monotonic()
    with prefetched(items(), 2):
        pass
    assert time.monotonic() - start < 60
    comes.set()
