"""Where records lie in a temporary file, so that a bundle is written class by class whatever order they came in."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple

from abs_descriptions.bundles.format import Description

__all__ = ["Repeat", "SpoolIndex"]

_CHUNK = 1024 * 1024


class Repeat(NamedTuple):
    """A text or an id that stands twice in one class."""

    class_id: str
    what: str
    value: str


class SpoolIndex:
    """The class, the place, and hashes of text and id of each record of a temporary file."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes = classes
        self._order = {class_id: position for position, class_id in enumerate(classes)}
        self._owners = array("L")
        self._starts = array("Q", [0])
        self._texts = array("q")
        self._ids: dict[int, int] = {}
        self._last = self._end = 0
        self._in_order = True

    def __len__(self) -> int:
        return len(self._owners)

    @property
    def classes(self) -> int:
        """How many classes have records."""
        return len(set(self._owners))

    def add(self, record: Description, size: int) -> None:
        """Note a record of ``size`` bytes at the end of the file."""
        owner = self._order[record.class_id]
        if owner < self._last:
            self._in_order = False
        self._last = owner
        if record.id is not None:
            self._ids[len(self._owners)] = hash(record.id)
        self._owners.append(owner)
        self._end += size
        self._starts.append(self._end)
        self._texts.append(hash(record.text))

    def blocks(self, spool: IO[bytes]) -> Iterator[bytes]:
        """The bytes of all records in label set order; within a class as they came."""
        if not self._in_order:
            yield from (self._line(spool, position) for position in self._positions())
            return
        spool.seek(0)
        while block := spool.read(_CHUNK):
            yield block

    def repeat(self, spool: IO[bytes]) -> Repeat | None:
        """The first class, in label set order, that has a text or an id twice, and which."""
        for owner in self._suspects():
            texts: set[str] = set()
            ids: set[str] = set()
            for position in (p for p, other in enumerate(self._owners) if other == owner):
                record = json.loads(self._line(spool, position))
                for what, seen in (("text", texts), ("id", ids)):
                    value = record.get(what)
                    if value in seen:
                        return Repeat(self._classes[owner], what, value)
                    if value is not None:
                        seen.add(value)
        return None

    def _suspects(self) -> list[int]:
        """The classes in which a hash stands twice. Equal hashes are no proof."""
        suspects: dict[int, None] = {}
        current, texts, ids = -1, set[int](), set[int]()
        for position in self._positions():
            owner = self._owners[position]
            if owner != current:
                current, texts, ids = owner, set(), set()
            text, ident = self._texts[position], self._ids.get(position)
            if text in texts or (ident is not None and ident in ids):
                suspects[owner] = None
            texts.add(text)
            if ident is not None:
                ids.add(ident)
        return list(suspects)

    def _positions(self) -> Sequence[int]:
        count = range(len(self))
        return count if self._in_order else sorted(count, key=self._owners.__getitem__)

    def _line(self, spool: IO[bytes], position: int) -> bytes:
        spool.seek(self._starts[position])
        return spool.read(self._starts[position + 1] - self._starts[position])
