"""Names of files as other programs write them: one a line, or separated by zero bytes as ``find -print0`` does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from abs_core.errors import UsageError
from abs_core.text_files import wide_encoding

__all__ = ["read_names"]

_STEP = 1 << 16
# bytes; no path is longer
_MAX_NAME = 1 << 16
_MARK = b"\xef\xbb\xbf"


def read_names(stream: BinaryIO, shown: str) -> Iterator[bytes]:
    """The names, without blank ones. A line end of Windows is no part of a name.

    What is too long to be a name is cut, so that memory is bounded.

    Args:
        stream: the list.
        shown: what to call it in errors.

    Raises:
        UsageError: it is UTF-16, as PowerShell writes it.
    """
    # no name is longer than the first step, so a zero byte between names is in it
    data = _step(stream)
    if wide_encoding(data[:4]) is not None:
        raise UsageError(
            f"the list {shown} must be UTF-8, got UTF-16", remedy="In PowerShell write it with: -Encoding utf8"
        )
    separator = b"\0" if b"\0" in data else b"\n"
    rest, data = b"", data.removeprefix(_MARK)
    while data:
        *names, rest = (rest + data).split(separator)
        for name in names:
            if name := _cleaned(name, separator):
                yield name
        rest = rest[:_MAX_NAME]
        data = _step(stream)
    if rest := _cleaned(rest, separator):
        yield rest


def _step(stream: BinaryIO) -> bytes:
    """The next bytes, fewer than a step only at the end; a pipe without a buffer gives what it has."""
    data = stream.read(_STEP)
    while len(data) < _STEP and (more := stream.read(_STEP - len(data))):
        data += more
    return data


def _cleaned(name: bytes, separator: bytes) -> bytes:
    if separator == b"\n":
        name = name.removesuffix(b"\r")
        return name if name.strip() else b""
    return name
