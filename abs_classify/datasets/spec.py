"""The part of a spec after the colon: a place, and options after a question mark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from abs_core.errors import UsageError

__all__ = ["flag", "split_options"]

_TRUE = ("", "1", "true", "yes")


def split_options(location: str, known: Iterable[str], usage: str) -> tuple[str, Mapping[str, str]]:
    """``./dtd?split=test2&partial`` as ``./dtd`` and ``{"split": "test2", "partial": ""}``.

    A path that exists as it stands, question mark and all, has no options.

    Args:
        location: a place with or without options.
        known: the options that there are.
        usage: how a spec of this kind is written, for errors.

    Raises:
        UsageError: an unknown option, or one that is given twice.
    """
    place, mark, tail = location.rpartition("?")
    if not mark or ("://" not in location and Path(location).exists()):
        return location, {}
    options: dict[str, str] = {}
    for part in tail.split("&"):
        name, _, value = part.partition("=")
        if name not in known:
            raise UsageError(
                f"{location!r} has the unknown option {name!r}; known: {', '.join(known)}", remedy=f"Write {usage}"
            )
        if name in options:
            raise UsageError(f"{location!r} has the option {name!r} twice", remedy="Give it once")
        options[name] = value
    return place, options


def flag(options: Mapping[str, str], name: str) -> bool:
    """Whether an option that takes no value is set.

    Raises:
        UsageError: it has a value other than 1, true or yes.
    """
    if name not in options:
        return False
    if options[name].lower() not in _TRUE:
        raise UsageError(f"the option {name!r} takes no value, but got {options[name]!r}", remedy=f"Write ?{name}")
    return True
