"""Bundles out of an archive that somebody sent: zip, tar, and tar with gzip.

An archive from outside is hostile until checked. Nothing is written under a name that the archive chose beyond its last
part, which must be a bundle's; a member that is a link, a device, encrypted, or whose name climbs is refused with the
whole archive. Expansion is counted while it happens, never believed: at most 200 bytes for one of the archive (texts
take 5 to 20), at most 8 GiB, at most 1,000 members.
"""

from __future__ import annotations

import errno
import gzip
import io
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

from abs_core.errors import BundleError
from abs_core.files import atomic_write, storage_errors
from abs_core.text import printable, quoted

__all__ = ["ARCHIVES", "UnpackedArchive", "unpack_bundles"]

#: The endings of the archives that are read.
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
MAX_MEMBERS = 1000
MAX_RATIO = 200
MAX_EXPANDED = 8 * 1024**3
_CHUNK = 256 * 1024

# Bytes of UTF-8: what the usual file systems take.
_LONGEST_NAME = 255

# What may stand between two members of a tar archive: long names, extended headers, padding.
_MAX_TAR_HEADERS = 1024 * 1024

_BROKEN = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, gzip.BadGzipFile, ValueError, struct.error,
    NotImplementedError, OverflowError, RecursionError, RuntimeError,
)  # fmt: skip


@dataclass(frozen=True)
class UnpackedArchive:
    """The bundles of an archive, and the names of its other members, which were ignored."""

    bundles: tuple[Path, ...]
    ignored: tuple[str, ...]


class _RefusedArchiveError(Exception):  # a BundleError is made of it where the archive is known
    pass


class _Budget:
    """How many bytes an archive may still expand to."""

    def __init__(self, size: int) -> None:
        self._left = min(size * MAX_RATIO, MAX_EXPANDED)
        self._members = 0

    def spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise _RefusedArchiveError(
                f"it expands to more than {MAX_RATIO} times its size or {MAX_EXPANDED // 1024**3} GiB, as no text does"
            )

    def member(self, name: str) -> None:
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise _RefusedArchiveError(f"it has more than {MAX_MEMBERS} members")
        parts = name.replace("\\", "/").split("/")
        if not name or name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in name:
            raise _RefusedArchiveError(f"the member {quoted(name)} would lie outside the folder it is unpacked to")


def unpack_bundles(path: Path, folder: Path) -> UnpackedArchive:
    """Unpack the ``.jsonl`` files of an archive, bundles and their rejected completions, into one empty folder.

    They are not yet validated.

    Raises:
        StorageError: the archive cannot be read or the folder not written.
        BundleError: no archive of a known kind, a broken or hostile one, or one without a bundle.
    """
    with storage_errors(path, "read"):
        if not stat.S_ISREG(path.stat().st_mode):
            raise _error(path, "not a file")
        with path.open("rb") as stream:
            try:
                with _corrupt_is_refused():
                    return _unpack(stream, path, folder)
            except _RefusedArchiveError as refused:
                raise _error(path, str(refused)) from None


def _unpack(stream: BinaryIO, path: Path, folder: Path) -> UnpackedArchive:
    budget = _Budget(path.stat().st_size)
    written: dict[str, str] = {}
    ignored: list[str] = []

    def take(name: str, read: Callable[[int], bytes]) -> None:
        last = name.replace("\\", "/").rpartition("/")[2]
        if not last.endswith(".jsonl") or last.startswith("."):
            ignored.append(name)
            return
        if len(last.encode("utf-8", "surrogatepass")) > _LONGEST_NAME:
            raise _RefusedArchiveError(f"the member {quoted(last)} has a longer name than a file can have")
        # Not every disk tells "A" from "a".
        namesake = next((file for file in written if file.casefold() == last.casefold()), None)
        if namesake is not None:
            raise _RefusedArchiveError(
                f"two members are called {quoted(last)}: {quoted(written[namesake])} and {quoted(name)}"
            )
        written[last] = name
        with atomic_write(folder / last) as out:
            while block := read(_CHUNK):
                out.write(block)

    if zipfile.is_zipfile(stream):
        _unpack_zip(stream, budget, take)
    else:
        stream.seek(0)
        _unpack_tar(stream, budget, take)
    bundles = tuple(folder / last for last in sorted(written) if not last.endswith(".rejected.jsonl"))
    if not bundles:
        raise _RefusedArchiveError("there is no bundle, a .jsonl file, in it")
    return UnpackedArchive(bundles, tuple(ignored))


def _unpack_zip(stream: BinaryIO, budget: _Budget, take: Callable[[str, Callable[[int], bytes]], None]) -> None:
    with zipfile.ZipFile(stream) as archive:
        for member in archive.infolist():
            budget.member(member.filename)
            # The upper half holds the mode of the file system that made the archive, if it has one.
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _RefusedArchiveError(f"the member {quoted(member.filename)} is a link or a device")
            if member.flag_bits & 1:
                raise _RefusedArchiveError(f"the member {quoted(member.filename)} is encrypted")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise _RefusedArchiveError(f"the member {quoted(member.filename)} is not compressed with deflate")
            if member.is_dir():
                continue
            with archive.open(member) as content:
                take(member.filename, _counted(content, budget))


def _unpack_tar(stream: BinaryIO, budget: _Budget, take: Callable[[str, Callable[[int], bytes]], None]) -> None:
    start = stream.read(2)
    stream.seek(0)
    plain = gzip.GzipFile(fileobj=stream) if start == b"\x1f\x8b" else stream
    bounded = _BoundedStream(cast("IO[bytes]", plain), budget)
    # As a stream, so that tarfile reads every byte once.
    with tarfile.open(fileobj=bounded, mode="r|") as archive:
        while True:
            member = archive.next()
            if member is None:
                break
            budget.member(member.name)
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                raise _RefusedArchiveError(f"the member {quoted(member.name)} is a link, a device or sparse")
            bounded.allowed = member.size + _MAX_TAR_HEADERS
            content = archive.extractfile(member)
            if content is not None:
                take(member.name, _refusing_corrupt(content.read))
    # To the end, where gzip has its checksum.
    bounded.allowed = _MAX_TAR_HEADERS
    while bounded.read(_CHUNK):
        pass


class _BoundedStream(io.RawIOBase):
    """The bytes of a tar archive, counted, and few of them outside the members: a header could claim to be endless."""

    def __init__(self, plain: IO[bytes], budget: _Budget) -> None:
        self._plain, self._budget = plain, budget
        self.allowed = _MAX_TAR_HEADERS

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > self.allowed:
            raise _RefusedArchiveError("its headers are larger than any of a real archive")
        block = self._plain.read(size)
        self.allowed -= len(block)
        self._budget.spend(len(block))
        return block


def _counted(content: IO[bytes], budget: _Budget) -> Callable[[int], bytes]:
    def read(size: int) -> bytes:
        block = content.read(size)
        budget.spend(len(block))
        return block

    return _refusing_corrupt(read)


def _refusing_corrupt(read: Callable[[int], bytes]) -> Callable[[int], bytes]:
    # Here, because to whoever writes the bytes an OSError of the archive would look like one of the target.
    def wrapped(size: int) -> bytes:
        with _corrupt_is_refused():
            return read(size)

    return wrapped


@contextmanager
def _corrupt_is_refused() -> Iterator[None]:
    """Whatever the two libraries raise for bytes that are no archive."""
    try:
        yield
    except _BROKEN as error:
        reason = printable(str(error), 200) or type(error).__name__
        raise _RefusedArchiveError(f"not a zip, tar or tar.gz archive, or a broken one ({reason})") from None
    except OSError as error:
        # What a place before the beginning of the file gives, which only the archive can have asked for.
        if error.errno != errno.EINVAL:
            raise
        raise _RefusedArchiveError("not a zip, tar or tar.gz archive, or a broken one") from None


def _error(path: Path, reason: str) -> BundleError:
    return BundleError(
        f"{printable(str(path))}: {reason}", remedy="Ask for an archive of the bundle's .jsonl files, or for the files"
    )
