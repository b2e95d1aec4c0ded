"""The bytes of a bundle file, line by line: bounded, hashed, decoded, and with the place of every error."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from abs_core.errors import BundleError
from abs_core.files import storage_errors
from abs_core.printable import printable
from abs_descriptions.bundles.format import MAX_LINE_BYTES
from abs_descriptions.bundles.lines import CANONICAL, FETCH, LineFault

__all__ = ["LineScan", "open_scan"]

_CHUNK = 256 * 1024


class LineScan:
    """One pass over a file. ``number`` is the line that was given last, ``digest`` covers what was read so far."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self.path = path
        self.number = 0
        self._stream = stream
        self._whole = hashlib.sha256()
        self._body = hashlib.sha256()

    @property
    def digest(self) -> str:
        """``sha256:`` and the digest of all bytes read so far."""
        return "sha256:" + self._whole.hexdigest()

    @property
    def body_digest(self) -> str:
        """``sha256:`` and the digest of the bytes that ``lines`` has read so far."""
        return "sha256:" + self._body.hexdigest()

    def error(self, fault: LineFault, line: int | None = None) -> BundleError:
        """The error that names this file and a line, the last one given unless told."""
        where = f"{printable(str(self.path))}, line {self.number if line is None else line}"
        return BundleError(f"{where}: {fault.message}", remedy=fault.remedy)

    def first_line(self, limit: int) -> str:
        """Line 1, without its line feed, of at most ``limit`` bytes.

        Raises:
            BundleError: an empty or torn file, a line over the limit, invalid UTF-8.
        """
        line = self._stream.readline(limit + 1)
        self.number = 1
        if not line:
            raise self.error(LineFault("the file is empty", FETCH))
        if not line.endswith(b"\n"):
            raise self.error(_too_long(limit) if len(line) > limit else _torn())
        self._whole.update(line)
        try:
            return self._text(line)[:-1]
        except LineFault as fault:
            raise self.error(fault) from None

    def lines(self) -> Iterator[str]:
        """All further lines, without their line feeds.

        Raises:
            BundleError: a torn file, a line over ``MAX_LINE_BYTES``, invalid UTF-8.
        """
        tail = b""
        try:
            while chunk := self._stream.read(_CHUNK):
                self._whole.update(chunk)
                self._body.update(chunk)
                data = tail + chunk
                cut = data.rfind(b"\n") + 1
                tail = data[cut:]
                yield from self._lines_of(data[:cut])
                if len(tail) > MAX_LINE_BYTES:
                    self.number += 1
                    raise _too_long(MAX_LINE_BYTES)
            if tail:
                self.number += 1
                raise _torn()
        except LineFault as fault:
            raise self.error(fault) from None

    def _lines_of(self, block: bytes) -> Iterator[str]:
        try:
            text = block.decode()
            odd = len(block) > MAX_LINE_BYTES or "\ufeff" in text or "\x1e" in text
        except UnicodeDecodeError:
            odd = True
        if odd:
            # One by one, so that the lines before the bad one are given and the bad one is counted.
            for line in block.split(b"\n")[:-1]:
                self.number += 1
                yield self._text(line)
            return
        for good in text.split("\n")[:-1]:
            self.number += 1
            yield good

    def _text(self, line: bytes) -> str:
        if len(line) > MAX_LINE_BYTES and self.number > 1:
            raise _too_long(MAX_LINE_BYTES)
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            reason = f"byte 0x{line[error.start]:02x} in column {error.start + 1} is not valid UTF-8"
            raise LineFault(reason, "Save the file as UTF-8, or fetch the bundle again") from None
        # jsonlines would drop either silently.
        if text[:1] in ("\ufeff", "\x1e"):
            raise LineFault("a byte order mark or record separator stands before the JSON object", CANONICAL)
        return text


@contextmanager
def open_scan(path: Path) -> Iterator[LineScan]:
    """Open a file for one pass.

    Raises:
        StorageError: the file does not exist or cannot be read.
        BundleError: the path is a folder, a pipe or a device.
    """
    with storage_errors(path, "read"):
        # A pipe without a writer would block for ever, a device might never end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise BundleError(f"{printable(str(path))} is not a file", remedy="Name a bundle's .jsonl file")
        with path.open("rb") as stream:
            yield LineScan(path, stream)


def _too_long(limit: int) -> LineFault:
    return LineFault(f"longer than the {limit // 1024**2} MiB that a line may have", FETCH)


def _torn() -> LineFault:
    return LineFault("the file ends in the middle of this line: it is torn", FETCH)
