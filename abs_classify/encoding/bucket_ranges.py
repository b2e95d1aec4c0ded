"""Parts of objects in a bucket: neighbours in one request, several requests at once, more at once where one goes on."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from abs_core.buckets import Bucket

__all__ = ["FetchedRanges", "RangeReader", "WantedRanges"]

# requests at once
_THREADS = 16

# bytes between two parts that are read along rather than asked for apart: what passes while a request is under way
_GAP = 1 << 18

# bytes of one request; longer parts come in several at once
_LONGEST = 8 << 20

# bytes that are read ahead of a reader that goes on where it was, the first time and at most, and of how many objects
_FIRST_AHEAD, _MOST_AHEAD, _OBJECTS = 1 << 19, 8 << 20, 8


@dataclass(frozen=True)
class WantedRanges:
    """What is to be read of an object.

    Args:
        path: of the object.
        size: of the object in bytes.
        first: where its parts begin that are usually read one after the other.
        spans: (start, end) of each part, in bytes and by start.
    """

    path: str
    size: int
    first: int
    spans: Sequence[tuple[int, int]]


class FetchedRanges:
    """Parts of an object as a stream: elsewhere it reads nothing.

    Args:
        pieces: (start, bytes) by start, which do not overlap.
        size: of the object.
    """

    def __init__(self, pieces: Sequence[tuple[int, bytes]], size: int) -> None:
        self._pieces, self._size = pieces, size
        self._place = self._piece = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a place, and say which it is."""
        self._place = offset if whence == os.SEEK_SET else self._size + offset
        self._piece = 0
        return self._place

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill a buffer as far as parts follow each other; how many bytes there were."""
        read = 0
        while read < len(buffer) and self._piece < len(self._pieces):
            start, data = self._pieces[self._piece]
            inside = self._place - start
            if inside < 0:
                break
            part = data[inside : inside + len(buffer) - read]
            if part:
                buffer[read : read + len(part)] = part
                read += len(part)
                self._place += len(part)
            else:
                self._piece += 1
        return read


@dataclass
class _LastRead:
    """What was last read of an object: its bytes, where they begin, and how much was read ahead."""

    start: int
    data: bytes
    ahead: int

    @property
    def end(self) -> int:
        return self.start + len(self.data)


class RangeReader:
    """Reads parts of objects that never change. Not for several threads at once.

    Args:
        bucket: of the objects.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._windows: OrderedDict[str, _LastRead] = OrderedDict()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="bucket")

    def fetch(self, wanted: Sequence[WantedRanges]) -> Iterator[FetchedRanges | None]:
        """The parts of each object, or None for one that is gone; all are asked for at once.

        Raises:
            StorageError: they cannot be read.
        """
        plans = [self._ask(ranges) for ranges in wanted]
        for ranges, (kept, requests) in zip(wanted, plans, strict=True):
            try:
                pieces = kept + [(start, future.result()) for start, future in requests]
            except FileNotFoundError:
                self._windows.pop(ranges.path, None)
                yield None
                continue
            if requests:
                self._remember(ranges.path, requests[0][0], pieces)
            yield FetchedRanges(sorted(pieces), ranges.size)

    def read_all(self, requests: Sequence[tuple[str, int, int]]) -> Iterator[bytes | None]:
        """The bytes of each (path, start, end), several requests at once; None where the object is gone.

        Raises:
            StorageError: they cannot be read.
        """
        futures = [self._pool.submit(self._bucket.read, *request) for request in requests]
        for future in futures:
            try:
                yield future.result()
            except FileNotFoundError:
                yield None

    def _ask(self, ranges: WantedRanges) -> tuple[list[tuple[int, bytes]], list[tuple[int, Future[bytes]]]]:
        """What is there of an object, and the requests for the rest of what is wanted."""
        window = self._windows.get(ranges.path)
        runs = _coalesce(ranges.spans)
        kept: list[tuple[int, bytes]] = []
        if window is not None:
            kept = [(window.start, window.data)]
            runs = [run for run in (_without(run, window) for run in runs) if run is not None]
        if not runs:
            return kept, []
        start, end = runs[-1]
        ahead = self._ahead(window, runs[0][0], ranges.first)
        runs[-1] = start, min(ranges.size, end + ahead)
        self._windows[ranges.path] = _LastRead(window.start if window else 0, window.data if window else b"", ahead)
        self._windows.move_to_end(ranges.path)
        pieces = [
            (begin, min(begin + _LONGEST, last)) for first, last in runs for begin in range(first, last, _LONGEST)
        ]
        return kept, [(begin, self._pool.submit(self._read, ranges.path, begin, last)) for begin, last in pieces]

    def _read(self, path: str, start: int, end: int) -> bytes:
        """A part of an object, asked for again if less of it came: what is short is damage only if it stays so."""
        data = self._bucket.read(path, start, end)
        return data if len(data) == end - start else self._bucket.read(path, start, end)

    def _ahead(self, window: _LastRead | None, start: int, first: int) -> int:
        """How much to read ahead: more and more for a reader that goes on where it was, nothing for others."""
        if window is None:
            return _FIRST_AHEAD if start <= first else 0
        goes_on = window.start <= start <= window.end + _GAP
        return min(max(2 * window.ahead, _FIRST_AHEAD), _MOST_AHEAD) if goes_on else 0

    def _remember(self, path: str, first: int, pieces: Sequence[tuple[int, bytes]]) -> None:
        """Keep the last bytes that were read of an object, as far as they follow each other."""
        ahead = self._windows[path].ahead if path in self._windows else 0
        start, data = first, b""
        for begin, piece in sorted(pieces):
            if begin < first:
                continue
            start, data = (begin, piece) if begin != start + len(data) else (start, data + piece)
        self._windows[path] = _LastRead(start, data, ahead)
        while len(self._windows) > _OBJECTS:
            self._windows.popitem(last=False)


def _coalesce(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans with what lies between those that are near each other."""
    runs: list[tuple[int, int]] = []
    for start, end in spans:
        if runs and start <= runs[-1][1] + _GAP:
            runs[-1] = runs[-1][0], max(runs[-1][1], end)
        else:
            runs.append((start, end))
    return runs


def _without(run: tuple[int, int], window: _LastRead) -> tuple[int, int] | None:
    """What of a run is to be asked for beside a window."""
    start, end = run
    if window.start <= start < window.end:
        start = window.end
    elif start < window.start < end <= window.end:
        end = window.start
    return (start, end) if start < end else None
