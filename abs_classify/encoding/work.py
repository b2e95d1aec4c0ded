"""What a run asked of the feature store, and what it had to compute."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from abs_classify.encoding.last_run import SpaceUse
from abs_classify.encoding.spaces import Space

__all__ = ["SpaceWork", "WorkCounts"]


@dataclass
class SpaceWork:
    """What a run asked of one space.

    Args:
        space: the space.
        items, rows: how many images or texts, and how many of their rows, were asked for.
        items_computed, rows_computed: of how many items a row was computed, and how many rows were.
    """

    space: Space
    items: int = 0
    rows: int = 0
    items_computed: int = 0
    rows_computed: int = 0


@dataclass
class WorkCounts:
    """How many images, views and class texts a run asked for, and how many of them it computed.

    Args:
        images: how many were asked for.
        images_computed: of how many at least one view was computed.
        spaces: what was asked of each space, by its digest.
        counted: ids of the images that were computed, where a run comes back to images; None where it does not.
    """

    images: int = 0
    images_computed: int = 0
    spaces: dict[str, SpaceWork] = field(default_factory=dict)
    counted: set[str] | None = None
    # prefixes of the digests of texts, which several methods share
    _texts: set[bytes] = field(default_factory=set, init=False, repr=False)

    @property
    def views(self) -> int:
        """How many views were asked for."""
        return sum(use.rows for use in self._uses("view-features"))

    @property
    def views_computed(self) -> int:
        """How many views were computed; one that was not kept, and was computed again, counts each time."""
        return sum(use.rows_computed for use in self._uses("view-features"))

    @property
    def texts(self) -> int:
        """How many class texts were asked for."""
        return sum(use.items for use in self._uses("text-features"))

    @property
    def texts_computed(self) -> int:
        """How many class texts were encoded."""
        return sum(use.items_computed for use in self._uses("text-features"))

    def _uses(self, stage: str) -> list[SpaceWork]:
        return [use for use in self.spaces.values() if use.space.stage == stage]

    @property
    def nothing(self) -> bool:
        """Whether everything came from the store."""
        return not (self.views_computed or self.texts_computed)

    @property
    def everything(self) -> bool:
        """Whether all views and class texts that were asked for were computed."""
        return not self.nothing and self.views_computed >= self.views and self.texts_computed >= self.texts

    def __str__(self) -> str:
        """``1 of 41 images, 7 of 287 views``, and how many class texts if any were encoded; or ``nothing``.

        What was not kept, and was computed more than once, counts once.
        """
        if self.nothing:
            return "nothing"
        texts = f", {min(self.texts, self.texts_computed)} of {self.texts} class texts" if self.texts_computed else ""
        images = f"{min(self.images, self.images_computed)} of {self.images} images"
        return f"{images}, {min(self.views, self.views_computed)} of {self.views} views{texts}"

    def space_uses(self) -> list[SpaceUse]:
        """What was asked of each space and was there, in the order of the stages."""
        return [
            SpaceUse(
                work.space,
                work.items,
                max(0, work.items - work.items_computed),
                work.rows,
                max(0, work.rows - work.rows_computed),
            )
            for work in self.spaces.values()
        ]

    def ask(self, space: Space, items: int, rows: int) -> None:
        """Note a look-up of ``items`` with ``rows`` rows in all."""
        use = self.spaces.setdefault(space.digest, SpaceWork(space))
        use.items += items
        use.rows += rows

    def ask_once(self, space: Space, ids: Iterable[str]) -> None:
        """Note a look-up of texts, with a row each; those that were asked for before do not count again."""
        further = {bytes.fromhex(text[-32:]) for text in ids} - self._texts
        self._texts |= further
        self.ask(space, len(further), len(further))

    def compute(self, space: Space, items: int, rows: int) -> None:
        """Note that ``rows`` rows of ``items`` items were computed."""
        use = self.spaces.setdefault(space.digest, SpaceWork(space))
        use.items_computed += items
        use.rows_computed += rows

    def compute_images(self, ids: Iterable[str]) -> None:
        """Note that views of these images were computed; an image that the run came back to counts once."""
        fresh = set(ids)
        if self.counted is not None:
            fresh -= self.counted
            self.counted |= fresh
        self.images_computed += len(fresh)

    def add_computed(self, other: WorkCounts) -> None:
        """Add what an earlier part of the same pass computed; what it asked for is asked for again."""
        self.images_computed += other.images_computed
        for use in other.spaces.values():
            self.compute(use.space, use.items_computed, use.rows_computed)

    def add(self, other: WorkCounts, *, same_images: bool = False) -> None:
        """Add the work of another pass.

        Args:
            other: its counts.
            same_images: whether it went through the same images; what both asked for then counts once.
        """
        asked = max if same_images else _sum
        self.images = asked(self.images, other.images)
        self.images_computed = asked(self.images_computed, other.images_computed)
        for digest, use in other.spaces.items():
            total = self.spaces.setdefault(digest, SpaceWork(use.space))
            total.items, total.rows = asked(total.items, use.items), asked(total.rows, use.rows)
            total.items_computed += use.items_computed
            total.rows_computed += use.rows_computed


def _sum(first: int, second: int) -> int:
    return first + second
