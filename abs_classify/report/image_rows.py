"""What is known of every image of a run, as columns: the rows of the page, and which images get pictures."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from abs_core.errors import UsageError
from abs_core.text import printable
from abs_core.web_page import embedded_json

if TYPE_CHECKING:
    from abs_classify.encoding.ranking import MethodRanking

__all__ = ["ImageRows", "MethodColumns", "short_names", "table_json"]

_TEXT_LIMIT = 2000
_BATCH = 1000


@dataclass(frozen=True, eq=False)
class MethodColumns:
    """What one method says of each image.

    Attributes:
        name: of the method.
        top: int64 [n], positions of the best class.
        second: int64 [n], positions of the second best class; empty where there is one class only.
        margin: float [n], the score of the best class minus that of the second, in the method's own unit; empty where
            there is one class only.
        confidence: float [n], 0 to 1, of the best class; empty where it is not known.
        ranks: int64 [n], the place of the true class from 1 on; empty without labels.
    """

    name: str
    top: NDArray[np.int64]
    second: NDArray[np.int64]
    margin: NDArray[np.floating]
    confidence: NDArray[np.floating]
    ranks: NDArray[np.int64]

    @classmethod
    def of(cls, name: str, ranking: MethodRanking, confidence: Sequence[float]) -> MethodColumns:
        """The columns of a ranking."""
        top, scores = ranking.top, ranking.scores
        has_second = top.shape[1] > 1
        second = top[:, 1] if has_second else top[:0, 0]
        margin = scores[:, 0] - scores[:, 1] if has_second else scores[:0, 0]
        return cls(name, top[:, 0], second, margin, np.array(confidence, dtype=np.float64), ranking.ranks)


@dataclass(frozen=True, eq=False)
class ImageRows:
    """All images of a run.

    Attributes:
        names: of the images, in order.
        classes: the class names.
        methods: at least one for a table with images.
        main: the name of the method that the page explains.
        truth: positions of the true classes; empty without labels.

    Raises:
        UsageError: a column of another length, or a main method that is not among the methods.
    """

    names: Sequence[str]
    classes: Sequence[str]
    methods: Sequence[MethodColumns]
    main: str
    truth: Sequence[int] = ()

    def __post_init__(self) -> None:
        columns = [len(self.truth) or len(self.names), *(len(method.top) for method in self.methods)]
        if any(length != len(self.names) for length in columns):
            raise UsageError(
                f"every column must have a row for each of {len(self.names)} images, got {columns}",
                remedy="Give one row for each image",
            )
        if self.names and self.main not in {method.name for method in self.methods}:
            raise UsageError(
                f"the main method must be one of {[method.name for method in self.methods]}, got {self.main!r}",
                remedy="Name one of the methods",
            )

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def main_columns(self) -> MethodColumns:
        """What the main method says."""
        return next(method for method in self.methods if method.name == self.main)

    def pictured(self, count: int) -> list[int]:
        """The images that get pictures, in ascending order.

        With labels those that the main method gets wrong come first, then those on which methods disagree, then the
        others; of each kind in turn one of every true class. Without labels those on which methods disagree come
        first, then the least sure ones.
        """
        if count >= len(self):
            return list(range(len(self)))
        differ = np.any([method.top != self.main_columns.top for method in self.methods], axis=0)
        if not self.truth:
            confidence = self.main_columns.confidence
            surety = confidence if len(confidence) else np.zeros(len(self))
            return sorted(np.lexsort((surety, ~differ))[:count].tolist())
        kinds = np.where(self.main_columns.ranks != 1, 0, np.where(differ, 1, 2)).tolist()
        before: Counter[tuple[int, int]] = Counter()
        turns = []
        for kind, label in zip(kinds, self.truth, strict=True):
            turns.append(before[kind, label])
            before[kind, label] += 1
        return sorted(np.lexsort((turns, kinds))[:count].tolist())


def short_names(names: Sequence[str]) -> list[str]:
    """The names without the folders that all of them share; a single one without any folder."""
    separator = os.sep
    parts = [name.split(separator) for name in names]
    shortest = min((len(part) for part in parts), default=1) - 1
    first = parts[0] if parts else []
    shared = next((n for n in range(shortest) if any(part[n] != first[n] for part in parts)), shortest)
    return [separator.join(part[shared:]) for part in parts]


def table_json(table: ImageRows, pictured: Sequence[int]) -> Iterator[str]:
    """The table as JSON for a ``<script>``, block by block; what could hide or move other text is escaped.

    Args:
        table: the images.
        pictured: positions of those that have pictures on the page.
    """
    head = {"main": [method.name for method in table.methods].index(table.main) if table.names else 0}
    yield embedded_json(head).removesuffix("}") + ', "classes":'
    yield from _texts(table.classes)
    yield ', "names":'
    yield from _texts(table.names)
    yield ', "truth":'
    yield from _numbers(table.truth)
    yield ', "pictured":'
    yield from _numbers(pictured)
    yield ', "methods":['
    for number, method in enumerate(table.methods):
        yield (", " if number else "") + '{"name":' + embedded_json(printable(method.name, _TEXT_LIMIT))
        for column in ("top", "second", "ranks", "margin", "confidence"):
            yield f', "{column}":'
            yield from _numbers(getattr(method, column).tolist())
        yield "}"
    yield "]}"


def _texts(texts: Sequence[str]) -> Iterator[str]:
    yield "["
    for start in range(0, len(texts), _BATCH):
        batch = [printable(text, _TEXT_LIMIT) for text in texts[start : start + _BATCH]]
        yield ("," if start else "") + embedded_json(batch)[1:-1]
    yield "]"


def _numbers(values: Sequence[float]) -> Iterator[str]:
    yield "["
    for start in range(0, len(values), _BATCH):
        yield ("," if start else "") + ",".join(map(_number, values[start : start + _BATCH]))
    yield "]"


def _number(value: float) -> str:
    """With as many digits as are shown; what is not finite is no number in JSON."""
    if isinstance(value, int):
        return str(value)
    return f"{value:.4g}" if math.isfinite(value) else "null"
