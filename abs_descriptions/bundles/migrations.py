"""How a bundle of an older format version is read by this one. Pure.

Bundles are immutable and pinned by their bytes, so an old file is never rewritten: its header and records are turned
into today's while they are read. When the format changes, ``FORMAT_VERSION`` goes up by one and one entry is added here
under the number that it migrates from, say ``1: Migration(header_1_to_2, record_1_to_2)``. Entries are never changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from abs_descriptions.bundles.format import FORMAT_VERSION
from abs_descriptions.bundles.lines import LineFault

__all__ = ["MIGRATIONS", "Migration", "steps_from"]


class Migration(NamedTuple):
    """From one format version to the next: two pure functions on JSON objects."""

    header: Callable[[dict[str, Any]], dict[str, Any]]
    record: Callable[[dict[str, Any]], dict[str, Any]]


#: The version that a step migrates from -> the step. Version 1 is the first, so there is none yet.
MIGRATIONS: Mapping[int, Migration] = MappingProxyType({})


def steps_from(version: object, migrations: Mapping[int, Migration] = MIGRATIONS) -> tuple[Migration, ...]:
    """The steps from ``version`` to ``FORMAT_VERSION``, in order; none for a file of today.

    Raises:
        LineFault: no format version, or one that this release does not know.
    """
    if type(version) is not int:
        raise LineFault("the format version is no whole number", "Check that the file is a description bundle")
    if version > FORMAT_VERSION:
        raise LineFault(
            f"format version {_shown(version)} is not known; this release reads up to {FORMAT_VERSION}",
            "Upgrade abs-toolkit",
        )
    numbers = range(version, FORMAT_VERSION) if version >= min(migrations, default=FORMAT_VERSION) else None
    if numbers is None or any(number not in migrations for number in numbers):
        raise LineFault(f"format version {_shown(version)} never existed", "Get the bundle from where it was written")
    return tuple(migrations[number] for number in numbers)


def _shown(version: int) -> str:
    return str(version) if abs(version) < 10**12 else "of an absurd size"
