"""Every error of the toolkit, in one tree.

    AbsError                    the base: what was wrong, with which input, and what to do
    ├── UsageError              an option or a combination of options that cannot work
    │   └── UnknownNameError    a name that is not in a list; shows the list
    ├── MissingExtraError       a package that is not installed; shows the pip command
    ├── StorageError            a full disk, a read-only folder, a path that cannot be written
    ├── DownloadError           a file on the web that cannot be downloaded
    ├── LabelError              a label set
    ├── PromptError             a prompt set
    ├── ProviderError           a language model or its server
    │   └── FatalProviderError  one for which a retry is no remedy: wrong key, exhausted quota, unknown model
    ├── BundleError             a description bundle; names file and line
    ├── ImageError              an image file
    ├── DatasetError            a data set: its layout, its labels, its classes
    ├── ModelError              an image-text model: unknown, unsuitable, or with bad numbers in it
    │   └── WeightsError        a weights file: missing, or with a digest that is not the expected one
    ├── CacheError              a stage cache that cannot be used
    ├── EngineError             machines that compute features cannot do their part; names the machine
    └── ResultError             a result file: damaged, of another format version, or of other images

The command line prints ``message`` and ``remedy`` on one line and exits with 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

__all__ = [
    "AbsError",
    "BundleError",
    "CacheError",
    "DatasetError",
    "DownloadError",
    "EngineError",
    "FatalProviderError",
    "ImageError",
    "LabelError",
    "MissingExtraError",
    "ModelError",
    "PromptError",
    "ProviderError",
    "ResultError",
    "StorageError",
    "UnknownNameError",
    "UsageError",
    "WeightsError",
    "did_you_mean",
]

# names that an error lists
_SHOWN = 8

# from which likeness on a name may be meant, as in difflib, and the letters of it that are compared
_CLOSE = 0.6
_COMPARED = 100


class AbsError(Exception):
    """The base of all errors that the toolkit raises on purpose.

    Args:
        message: what was wrong and with which input, without a final full stop.
        remedy: what the reader can do about it, an imperative sentence without a final full stop.
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}. {self.remedy}." if self.remedy else f"{self.message}."


class UsageError(AbsError):
    """An option or a combination of options that cannot work."""


class UnknownNameError(UsageError):
    """A name that is not among the valid ones.

    Args:
        kind: what is named, in the singular: "method", "model", "bundle".
        name: the name that was asked for.
        valid: the names that exist. One that is close to ``name`` is proposed. Of more than eight the message lists
            the closest ones, then those that come first, and says how many more there are; the remedy should then say
            where all are listed.
        at_most: names that the message lists, in place of eight.
    """

    def __init__(self, kind: str, name: str, valid: Iterable[str], *, remedy: str = "", at_most: int = _SHOWN) -> None:
        choices = list(dict.fromkeys(valid))
        shown, beyond = choices, ""
        if len(choices) > at_most:
            shown = _closest_first(name, choices)[:at_most]
            beyond = f" and {len(choices) - at_most} more"
        meant = next(iter(_closest_first(name, choices)), "")
        proposal = did_you_mean(name, [meant])
        listing = f"valid: {', '.join(shown)}{beyond}" if shown else "there are none"
        super().__init__(f"unknown {kind} {name!r}{proposal}; {listing}", remedy=remedy)


class MissingExtraError(AbsError):
    """A package is missing that an extra of this distribution installs.

    Args:
        package: the distribution that could not be imported.
        extra: the extra that brings it.
        purpose: what it is needed for, continuing "is needed ...".
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"the package {package!r} is needed {purpose} and is not installed",
            remedy=f"Run: pip install 'abs-toolkit[{extra}]'",
        )


class StorageError(AbsError):
    """A file or folder that cannot be read or written."""


class DownloadError(AbsError):
    """A file on the web that cannot be downloaded.

    Args:
        url: its address.
        reason: what went wrong, a sentence in which the file is "it".
        remedy: as of every error.
        status: of the HTTP response, if there was one.
    """

    def __init__(self, url: str, reason: str, *, remedy: str, status: int | None = None) -> None:
        super().__init__(f"cannot download {url}: {reason}", remedy=remedy)
        self.reason, self.status = reason, status


class LabelError(AbsError):
    """A label set that cannot be used."""


class PromptError(AbsError):
    """A prompt set that cannot be used."""


class ProviderError(AbsError):
    """A language model or its server gave no usable reply."""


class FatalProviderError(ProviderError):
    """A retry is no remedy: a wrong key, an exhausted quota, an unknown model."""


class BundleError(AbsError):
    """A description bundle that is broken or does not fit."""


class ImageError(AbsError):
    """An image file that is broken, refused, or no image."""


class DatasetError(AbsError):
    """A data set whose layout, labels or classes cannot be used."""


class ModelError(AbsError):
    """An image-text model that is unknown, unsuitable, or holds bad numbers."""


class WeightsError(ModelError):
    """A weights file that is missing or is not the expected one."""


class CacheError(AbsError):
    """A stage cache that cannot be used."""


class EngineError(AbsError):
    """Machines that compute features cannot do their part."""


class ResultError(AbsError):
    """A result file that is damaged, of another format version, or of other images."""


def did_you_mean(name: str, choices: Sequence[str]) -> str:
    """The remark on a name that is likely misspelled, as in " (did you mean 'pets'?)"; empty if no choice is close."""
    meant = next(iter(_closest_first(name, choices)), "")
    return f" (did you mean {meant!r}?)" if _is_misspelling(name, meant) else ""


def _closest_first(name: str, choices: Sequence[str]) -> list[str]:
    """Those that may be meant by their likeness, then the others; equally close ones in the order given."""
    likeness = {choice: ratio if (ratio := _likeness(name, choice)) >= _CLOSE else 0.0 for choice in choices}
    return sorted(choices, key=lambda choice: -likeness[choice])


def _is_misspelling(name: str, meant: str) -> bool:
    head, at, _ = name.partition("@")
    # a version of the right bundle that is not there is no misspelling of another version
    return _likeness(name, meant) >= _CLOSE and not (at and meant.startswith(head + at))


def _likeness(name: str, choice: str) -> float:
    whole = _ratio(name, choice)
    kind, colon, _ = choice.partition(":")
    # of "dtd:DIR" only the kind can be misspelled
    return max(whole, _ratio(name.partition(":")[0], kind)) if colon else whole


def _ratio(name: str, choice: str) -> float:
    return difflib.SequenceMatcher(None, choice[:_COMPARED].lower(), name[:_COMPARED].lower()).ratio()
