"""What was left out, guessed, translated, scaled or cut, counted by kind: for messages and result files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from abs_core.text import printable, valid_unicode

__all__ = ["MAX_EXAMPLES", "Remark", "RemarkCounter"]

#: How many of the things that one remark is about are named.
MAX_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Remark:
    """One kind of thing that a reader of the output must know, and how often it happened.

    Args:
        kind: a lower-case phrase that what it happened to can stand before, such as ``left out: not an image``.
        count: how often, at least 1.
        examples: names of the first ones, at most ``MAX_EXAMPLES``, in valid Unicode.
    """

    kind: str
    count: int
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        """``3 left out: not an image (a.txt, b.txt, ...)``, harmless in a terminal."""
        names = [printable(name, 80) for name in self.examples]
        if names and self.count > len(names):
            names.append("...")
        return f"{self.count} {printable(self.kind)}" + (f" ({', '.join(names)})" if names else "")

    def as_json(self) -> dict[str, Any]:
        """The remark as it stands in result files."""
        return {"kind": self.kind, "count": self.count, "examples": list(self.examples)}


class RemarkCounter:
    """Counts remarks by kind and keeps the first examples of each; memory is bounded by the number of kinds."""

    def __init__(self, remarks: Iterable[Remark] = ()) -> None:
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}
        self.extend(remarks)

    def add(self, kind: str, example: str, count: int = 1) -> None:
        """Count ``example``, the name of a file, a class or a line, under ``kind``; the same name is kept once."""
        self._counts[kind] = self._counts.get(kind, 0) + count
        examples = self._examples.setdefault(kind, [])
        if len(examples) < MAX_EXAMPLES and (name := valid_unicode(example)) not in examples:
            examples.append(name)

    def extend(self, remarks: Iterable[Remark]) -> None:
        """Add the counts of others to these."""
        for remark in remarks:
            self._counts[remark.kind] = self._counts.get(remark.kind, 0) + remark.count
            examples = self._examples.setdefault(remark.kind, [])
            examples.extend(remark.examples[: MAX_EXAMPLES - len(examples)])

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """In the order in which the kinds were first met."""
        return tuple(Remark(kind, count, tuple(self._examples[kind])) for kind, count in self._counts.items())

    @property
    def counts(self) -> Mapping[str, int]:
        """How often each kind was met."""
        return dict(self._counts)
