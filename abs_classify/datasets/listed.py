"""The images of a long list, as two lists of texts: a million ``Item`` and ``Path`` objects take seconds and memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

from abs_classify.datasets.base import Item

__all__ = ["ListedItems"]


class ListedItems(Sequence[Item]):
    """Items that are made when they are asked for. Equal to any other sequence of the same items.

    Args:
        folder: where relative paths start.
        paths: of the images, relative to ``folder`` or absolute.
        labels: their class ids, as many.
    """

    __slots__ = ("_folder", "_labels", "_paths")

    def __init__(self, folder: Path, paths: Sequence[str], labels: Sequence[str]) -> None:
        self._folder, self._paths, self._labels = folder, paths, labels

    @property
    def labels(self) -> Sequence[str]:
        """The class ids alone, in order."""
        return self._labels

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, at: int) -> Item: ...

    @overload
    def __getitem__(self, at: slice) -> ListedItems: ...

    def __getitem__(self, at: int | slice) -> Item | ListedItems:
        if isinstance(at, slice):
            return ListedItems(self._folder, self._paths[at], self._labels[at])
        return Item(self._folder / self._paths[at], self._labels[at])

    def __iter__(self) -> Iterator[Item]:
        for path, label in zip(self._paths, self._labels, strict=True):
            yield Item(self._folder / path, label)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"ListedItems({str(self._folder)!r}, {len(self)} images)"
