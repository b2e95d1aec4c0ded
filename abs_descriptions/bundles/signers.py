"""Whose signatures count: a file as ``ssh-keygen -Y verify`` takes it (ALLOWED SIGNERS in its manual).

    ada@example.org ssh-ed25519 AAAA...
    *@team.example.org namespaces="abs-bundle-manifest",valid-before="20301231" ecdsa-sha2-nistp256 AAAA...

A line that this version cannot judge (certificate authorities, hardware keys, unknown options) counts for nothing, with
a warning. So every difference from ``ssh-keygen`` refuses more, never less.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

from abs_core.errors import UsageError
from abs_core.files import open_regular, storage_errors
from abs_core.text import printable, quoted
from abs_descriptions.bundles.ssh_signatures import KEY_TYPES

__all__ = ["AllowedSigners", "Signer", "read_signers"]

_logger = logging.getLogger(__name__)

_MAX_BYTES = 1024 * 1024
_WORD = re.compile(r'(?:[^\s"]|"[^"]*")+')
_OPTION = re.compile(r'([a-z-]+)(?:="([^"]*)")?', re.IGNORECASE)
_DATE = re.compile(r"(\d{8})(\d{4})?(\d{2})?(Z?)")


@dataclass(frozen=True)
class Signer:
    """A key, and whose it is.

    Args:
        name: the principals, as the file has them.
        public_key: in SSH's encoding.
        namespaces: patterns of what the key may sign; empty for everything.
        begin, end: between which times the key counts.
    """

    name: str
    public_key: bytes
    namespaces: tuple[str, ...] = ()
    begin: datetime | None = None
    end: datetime | None = None

    def may_sign(self, namespace: str, now: datetime) -> bool:
        """Whether the key counts for a purpose at a time."""
        if (self.begin and now < self.begin) or (self.end and now >= self.end):
            return False
        if not self.namespaces:
            return True
        refused = any(p.startswith("!") and _matches(namespace, p[1:]) for p in self.namespaces)
        return not refused and any(_matches(namespace, pattern) for pattern in self.namespaces)


def _matches(namespace: str, pattern: str) -> bool:
    """Whether a pattern of ssh-keygen, of which * and ? alone are special, matches."""
    return fnmatchcase(namespace, pattern.replace("[", "[[]"))


@dataclass(frozen=True)
class AllowedSigners:
    """Those whose signatures count.

    Args:
        path: of the file, for messages.
        signers: one for each key of each line.
    """

    path: Path
    signers: Sequence[Signer]


def read_signers(path: Path) -> AllowedSigners:
    """Read a file of allowed signers.

    Raises:
        UsageError: a line that is none, or a file without a signer. StorageError: the file cannot be read.
    """
    with storage_errors(path, "read"), open_regular(path) as stream:
        data = stream.read(_MAX_BYTES)
    signers = list(_signers(path, data.decode("utf-8", "replace")))
    if not signers:
        raise UsageError(
            f"{printable(str(path))} names no signer", remedy="Write lines such as: ada@example.org ssh-ed25519 AAAA..."
        )
    return AllowedSigners(path, signers)


def _signers(path: Path, text: str) -> Iterator[Signer]:
    for number, line in enumerate(text.split("\n"), 1):  # as ssh-keygen does: a comment may hold other separators
        words = _WORD.findall(line.strip())
        if not words or words[0].startswith("#"):
            continue
        place = f"{printable(str(path))}, line {number}"
        name, *rest = words
        options = rest.pop(0) if len(rest) > 2 and not _is_key_type(rest[0]) else ""
        if len(rest) < 2 or not _is_key_type(rest[0]):
            raise UsageError(
                f"{place} is no allowed signer", remedy="Write it like: ada@example.org ssh-ed25519 AAAA..."
            )
        settings = _options(options)
        if rest[0] not in KEY_TYPES or settings is None:
            _logger.warning("%s counts for nothing: %s is not supported", place, quoted(options or rest[0]))
            continue
        try:
            public_key = base64.b64decode(rest[1], validate=True)
        except binascii.Error:
            raise UsageError(f"{place} holds no key", remedy="Copy the whole line of the .pub file") from None
        yield Signer(name.strip('"'), public_key, *settings)


def _is_key_type(word: str) -> bool:
    return word.startswith(("ssh-", "ecdsa-", "sk-"))


def _options(text: str) -> tuple[tuple[str, ...], datetime | None, datetime | None] | None:
    """Namespaces, begin and end; None for an option that is unknown or invalid."""
    namespaces: tuple[str, ...] = ()
    dates: dict[str, datetime | None] = {"valid-after": None, "valid-before": None}
    for option in re.findall(r'(?:[^,"]|"[^"]*")+', text):
        match = _OPTION.fullmatch(option)
        name, value = (match[1].lower(), match[2] or "") if match else ("", "")
        if name == "namespaces" and value:
            namespaces = tuple(value.split(","))
        elif name in dates and (date := _date(value)) is not None:
            dates[name] = date
        else:
            return None
    return namespaces, dates["valid-after"], dates["valid-before"]


def _date(text: str) -> datetime | None:
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    try:
        date = datetime.strptime(match[1] + (match[2] or "0000") + (match[3] or "00"), "%Y%m%d%H%M%S")
    except ValueError:
        return None
    return date.replace(tzinfo=UTC) if match[4] else date.astimezone()
