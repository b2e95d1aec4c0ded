"""Feature spaces: everything, except the image or text itself, that can change a stored value.

An image is known by the sha256 of its bytes and a text by that of its UTF-8 bytes; a stored value is found by its space
and that id. So a name, the other images of a run and the number of views never decide whether it is found.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from abs_core.canonical import canonical_json, sha256_bytes

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from abs_classify.encoding.cache import CacheFile

__all__ = [
    "CheckedPack",
    "FeatureStore",
    "PersistentStore",
    "Segment",
    "Space",
    "SpaceSummary",
    "parse_space",
    "text_id",
]


@dataclass(frozen=True)
class Space:
    """What the rows of a stage depend on, besides the item that they are of.

    Args:
        stage: the name of the stage.
        version: raised whenever the code of the stage changes its result.
        inputs: JSON values that can change the result; digests stand for large inputs, and lists are short.
        about: what people call what the digests stand for, such as the name of the model; not part of the digest.
    """

    stage: str
    version: int
    inputs: Mapping[str, Any]
    about: str = field(default="", compare=False)

    @cached_property
    def text(self) -> str:
        """The canonical JSON of the space."""
        return canonical_json({"stage": self.stage, "version": self.version, "inputs": self.inputs})

    @cached_property
    def description(self) -> bytes:
        """The space as a file says it, for people and for ``explain``."""
        return canonical_json({**json.loads(self.text), "about": self.about}).encode("utf-8")

    @cached_property
    def digest(self) -> str:
        """The hex sha256 of the canonical JSON."""
        return sha256_bytes(self.text.encode("utf-8")).removeprefix("sha256:")


def parse_space(data: bytes, digest: str) -> Space | None:
    """The space that bytes describe; None if they are damaged, or it has another digest."""
    with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
        value = json.loads(data)
        space = Space(str(value["stage"]), value["version"], dict(value["inputs"]), str(value.get("about", "")))
        if space.digest == digest:
            return space
    return None


@dataclass(frozen=True, eq=False)
class Segment:
    """Consecutive rows of one item.

    Args:
        id: ``sha256:`` and 64 hex digits: of an image's bytes, or of a text.
        start: the number of the first row, from 0.
        values: [n, ...], n at least 1; dtype and row shape are those of every segment of the space.
    """

    id: str
    start: int
    values: np.ndarray


@dataclass(frozen=True)
class SpaceSummary:
    """What the store has of a space.

    Args:
        digest: of the space.
        space: None if its description is damaged.
        items, rows, packs, size: how many there are, and the bytes of the packs.
        used: when a pack was last read or written, in seconds since 1970.
    """

    digest: str
    space: Space | None
    items: int
    rows: int
    packs: int
    size: int
    used: float


@dataclass(frozen=True)
class CheckedPack:
    """A pack, and how many of its rows are sound and damaged."""

    path: Path | str
    sound: int
    damaged: int


class FeatureStore(Protocol):
    """Rows of items in spaces, each stored once.

    The rows of an item are numbered from 0 on, such as its views, and may be added in several segments; what is found
    is the longest run of rows from 0 on without a gap.
    """

    def load(self, space: Space, ids: Sequence[str], count: int | None = None) -> list[np.ndarray | None]:
        """The rows of each item from 0 on: [n, ...] with n at most ``count``, or None where row 0 is not there."""
        ...

    def counts(self, space: Space, ids: Sequence[str]) -> list[int]:
        """How many rows from 0 on each item has, without reading them; damage may turn up when they are read."""
        ...

    def append(self, space: Space, segments: Sequence[Segment]) -> None:
        """Keep segments; rows that are there already are harmless."""
        ...

    def require_writable(self) -> None:
        """Prove that rows can be kept, before long work whose results would be lost."""
        ...

    def claim(self, work: str) -> AbstractContextManager[bool]:
        """Claim a piece of work until the block ends; gives False while somebody else has claimed it."""
        ...

    def wait_for(self, work: str, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds until nobody claims a piece of work; whether it is free."""
        ...

    def announce(self, required: int) -> None:
        """Say, where it matters, what a run is about to add, and warn where that will not fit.

        Args:
            required: the bytes of the rows that it computes.
        """
        ...

    def refresh(self) -> None:
        """Let what others are known to have added be seen at the next look, where the store would look later."""
        ...

    def flush(self) -> bool:
        """Let everything that was appended be where others find it; whether it is."""
        ...


@runtime_checkable
class PersistentStore(FeatureStore, Protocol):
    """Rows that stay: in a folder or a bucket. It can be pickled, as the place that ``open_store`` takes.

    Attributes:
        place: the folder or the address.
        root: the folder of this machine for what belongs to it alone, such as the digests of its files.
    """

    place: str
    root: Path

    def summaries(self) -> Iterator[SpaceSummary]:
        """What the store has of each space."""
        ...

    def describe(self, digest: str) -> Space | None:
        """The space with a digest; None if there is none or its description is damaged."""
        ...

    def verify(self) -> Iterator[CheckedPack]:
        """Read every row; damaged ones are dropped, so that they are computed again."""
        ...

    def prune(self, *, older_than_days: float | None = None, max_bytes: int | None = None) -> list[CacheFile]:
        """Remove packs that are older than a time, then the oldest ones over a size; the removed files."""
        ...


def text_id(text: str) -> str:
    """The id of a text: the sha256 of its UTF-8 bytes; surrogates, which a file name may have, count as they are."""
    return sha256_bytes(text.encode("utf-8", "surrogatepass"))
