"""Files that are there whole or not at all, and file digests."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

from abs_core.errors import AbsError, StorageError
from abs_core.permissions import InheritedPermissions, create_folders
from abs_core.text import printable

__all__ = [
    "atomic_write",
    "data_folder",
    "ensure_writable",
    "exists",
    "is_file",
    "is_folder",
    "is_leftover",
    "lock_file",
    "new_folder",
    "open_regular",
    "prompts_folder",
    "publish",
    "read_yaml",
    "remove_abandoned",
    "remove_leftovers",
    "rename_folder",
    "sha256_file",
    "storage_errors",
]

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}

# what ``atomic_write`` and ``publish`` write; the process that writes it holds a lock on it
_PART = re.compile(r"\.(?:.+\.)?[a-z0-9_]{8}\.part")

# every name under which this toolkit writes what is not whole yet
_LEFTOVER = re.compile(
    r"\.(?:.+\.)?(?:[a-z0-9_]{8}|[0-9a-f]{32})\.part"
    r"|\.(?:bundle|checking|import|incoming|input|pull|writing)-[a-z0-9_]{8}"
)

# seconds; whoever wrote to something within this time may still be alive
_STALE = 86400.0

# the same where locks say it too: the time from creating a file to locking it, however busy the machine is
_WRITING = 60.0

# how often a file is created anew where the folder above it is gone in that instant
_ATTEMPTS = 20

# in a folder that is being written, see ``new_folder``
_FOLDER_LOCK = ".writing"

# folders in which this process has looked for what killed ones left, and how many it remembers
_swept = dict[str, None]()
_MOST_SWEPT = 4096

_REMEDIES = {
    errno.ENOSPC: "Free some space or choose a folder on another disk",
    errno.EDQUOT: "Free some space or choose a folder on another disk",
    errno.EROFS: "Choose a folder that can be written",
    errno.EACCES: "Choose a folder that you may write, or change its permissions",
    errno.EPERM: "Choose a folder that you may write, or change its permissions",
    errno.ENOTDIR: "Choose a path whose parents are folders",
    errno.ENAMETOOLONG: "Choose a shorter name",
}


@contextmanager
def storage_errors(path: Path, doing: str) -> Iterator[None]:
    """Turn an ``OSError`` from inside the block into a ``StorageError`` that names ``path``.

    Args:
        path: the file or folder that the user would recognise.
        doing: what failed, continuing "cannot ...": "write", "read", "create".
    """
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        remedy = _REMEDIES.get(error.errno or 0, "Check the path and its permissions")
        raise StorageError(f"cannot {doing} {str(path)!r}: {reason}", remedy=remedy) from error


@contextmanager
def atomic_write(path: Path, *, durable: bool = True, rights_of: Path | None = None) -> Iterator[BinaryIO]:
    """Open a file for writing that appears under ``path`` only when the block ends without an error.

    The bytes go to a file beside it, are flushed to the disk, and are renamed; a reader sees the old file or the new
    one, never a part. Parents are created. The block should only write: its own ``OSError`` counts as one of ``path``.

    Args:
        path: the file.
        durable: whether to wait until the disk has the bytes. Without it a power cut may leave an empty or torn file,
            so only for what is checked when it is read and can be made again.
        rights_of: a folder, which may not be there yet, whose group, mode and default ACL the file and the folders that
            are created below it take; None: those that the umask leaves.

    Raises:
        StorageError: a full disk, a read-only folder, a path that cannot be written. Nothing is left behind.
    """
    with storage_errors(path, "write"):
        permissions, handle, part = _create_part(path, rights_of)
        try:
            with os.fdopen(handle, "wb") as stream:
                lock_file(stream, wait=False)
                _sweep(part)
                yield stream
                stream.flush()
                if durable:
                    os.fsync(stream.fileno())
            _open_up(part, permissions)
            part.replace(path)
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise


@contextmanager
def new_folder(target: Path, rename: Callable[[Path, Path], None] | None = None) -> Iterator[Path]:
    """Make a folder that appears under its name only when the block ends without an error; else nothing is left of it.

    What killed processes left of such folders is removed. Of a process that still writes it is locked, and stays.

    Args:
        target: the folder, which must not be there, or be empty; parents are made.
        rename: takes the finished folder and ``target``, and gives it the name; for who replaces a folder.

    Yields:
        The folder to write into, beside ``target``.

    Raises:
        StorageError: it cannot be written, or is not empty.
    """
    with storage_errors(target, "write"):
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned_folders(target)
        part = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name[:80]}.", suffix=".part"))
        lock = (part / _FOLDER_LOCK).open("wb")
    try:
        with lock:
            lock_file(lock, wait=False)
            yield part
        with storage_errors(target, "write"):
            (part / _FOLDER_LOCK).unlink()
            # mkdtemp makes folders private
            part.chmod(target.parent.stat().st_mode & 0o777)
            (rename or rename_folder)(part, target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def rename_folder(folder: Path, target: Path) -> None:
    """Give a folder another name; an empty folder of that name is replaced.

    Raises:
        OSError: as ``Path.rename``.
    """
    # on Windows no folder can be renamed to one that is there, empty or not
    with suppress(FileNotFoundError):
        target.rmdir()
    folder.rename(target)


def _remove_abandoned_folders(target: Path) -> None:
    pattern = re.compile(re.escape(f".{target.name[:80]}.") + r"[a-z0-9_]{8}\.part")
    for folder in target.parent.iterdir():
        if pattern.fullmatch(folder.name):
            with suppress(OSError):
                with (folder / _FOLDER_LOCK).open("r+b") as lock:
                    is_abandoned = lock_file(lock, wait=False)
                if is_abandoned:
                    shutil.rmtree(folder)


def ensure_writable(folder: Path) -> None:
    """Create ``folder`` and prove that a file can be written in it, so that long work does not end in an error.

    What killed processes left in it goes, see ``remove_leftovers`` and ``remove_abandoned``.

    Raises:
        StorageError: the folder cannot be created or written.
    """
    with storage_errors(folder, "write in"):
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder, deep=False)
        remove_abandoned(folder)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
            os.fsync(probe.fileno())


def lock_file(stream: BinaryIO, *, wait: bool) -> bool:
    """Lock a file until it is closed, where the system can.

    Args:
        stream: the open file.
        wait: whether to wait for whoever holds the lock.

    Returns:
        False if another holds it; True as well where the system has no such locks.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        # some network folders have none
        if error.errno not in _NO_LOCKS:
            raise
    return True


def open_regular(path: str | bytes | Path) -> BufferedReader:
    """A regular file, opened for reading; never waits for who writes into a pipe.

    Raises:
        OSError: it cannot be read, or is a folder, a pipe, a device or something else.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(handle, "rb")
    os.close(handle)
    code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
    raise OSError(code, "Is a directory" if stat.S_ISDIR(mode) else "Not a regular file")


def sha256_file(path: Path) -> str:
    """``sha256:`` and the hex digest of a file's bytes.

    Raises:
        StorageError: the file cannot be read.
    """
    with storage_errors(path, "read"), open_regular(path) as stream:
        return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()


def is_leftover(name: str) -> bool:
    """Whether a file or a folder is called as those that are not whole yet."""
    return _LEFTOVER.fullmatch(name) is not None


def remove_leftovers(folder: Path, *, deep: bool = True) -> list[Path]:
    """Remove the half-written files and folders of killed processes that nobody wrote to for a day.

    Args:
        folder: where to look; it need not exist.
        deep: whether to look in the folders below, too.

    Returns:
        What is gone. What cannot be removed, was touched within a day or is locked stays.
    """
    removed = []
    for parent, folders, files in os.walk(folder):
        leftovers = [Path(parent, name) for name in (*folders, *files) if is_leftover(name)]
        folders[:] = [name for name in folders if deep and not is_leftover(name)]
        for path in leftovers:
            with suppress(OSError):
                if time.time() - _last_written(path) > _STALE and not _is_locked(path):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                    removed.append(path)
    return removed


def remove_abandoned(folder: Path) -> list[Path]:
    """Remove what killed processes left of files that ``atomic_write`` and ``publish`` wrote in a folder; what is gone.

    Writing a file does so, too, the first time that a process writes in a folder: call this for a folder in which there
    may be nothing to write. What another process is writing stays: it holds a lock on it. Where the file system has no
    locks, what was written to within a day stays.
    """
    removed: list[Path] = []
    with suppress(OSError):
        if any(_PART.fullmatch(entry.name) for entry in folder.iterdir()):
            handle, name = tempfile.mkstemp(dir=folder, prefix=".", suffix=".part")
            with os.fdopen(handle, "wb") as probe:
                lock_file(probe, wait=False)
                removed = _remove_abandoned(folder, Path(name))
            Path(name).unlink()
    return removed


def _sweep(part: Path) -> None:
    """Remove what killed processes left beside a file that this one has locked, unless it has looked there before."""
    folder = str(part.parent)
    if folder not in _swept:
        if len(_swept) >= _MOST_SWEPT:
            _swept.clear()
        _swept[folder] = None
        with suppress(OSError):
            _remove_abandoned(part.parent, part)


def _remove_abandoned(folder: Path, locked: Path) -> list[Path]:
    """See ``remove_abandoned``; a file of this process that is locked shows whether the file system has locks."""
    parts = [path for path in folder.iterdir() if _PART.fullmatch(path.name) and path != locked]
    longest = _WRITING if parts and _is_locked(locked) else _STALE
    removed = []
    for part in parts:
        with suppress(OSError):
            if part.is_file() and time.time() - part.stat().st_mtime > longest and not _is_locked(part):
                part.unlink()
                removed.append(part)
    return removed


def _is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a file."""
    if not path.is_file():
        return False
    with path.open("r+b") as stream:  # network file systems lock only what may be written
        return not lock_file(stream, wait=False)


def _last_written(path: Path) -> float:
    entries = [entry.lstat() for entry in (path, *path.rglob("*"))]
    # what was renamed keeps its old time of writing, not its time of change
    return max(max(entry.st_mtime, entry.st_ctime) for entry in entries)


def _create_part(path: Path, rights_of: Path | None) -> tuple[InheritedPermissions | None, int, Path]:
    """Create a file beside ``path``, and the folders above it: its permissions, its open handle, its path."""
    for attempt in itertools.count(1):
        try:
            permissions = _create_parents(path, rights_of)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:80]}.", suffix=".part")
            break
        except FileNotFoundError:
            # Another process put its own folder in the place of ours, or removed it, while it was empty.
            if attempt == _ATTEMPTS:
                raise
    return permissions, handle, Path(name)


def _create_parents(path: Path, rights_of: Path | None) -> InheritedPermissions | None:
    """Create the folders above a file; the permissions that it should have, None for those that the umask leaves."""
    if rights_of is not None:
        return create_folders(path.parent, rights_of)
    path.parent.mkdir(parents=True, exist_ok=True)
    return None


def _open_up(path: Path, permissions: InheritedPermissions | None) -> None:
    """Let others read what ``mkstemp`` made private: shared caches and stores need the usual permissions."""
    if permissions is None:
        path.chmod(0o666 & ~_umask())
    else:
        permissions.apply(path)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def publish(path: Path, data: bytes, *, rights_of: Path | None = None) -> bool:
    """Let a small file appear under a name that must not exist; False if it does.

    Args:
        path: the file.
        data: its bytes.
        rights_of: as for ``atomic_write``.

    Raises:
        StorageError: the file cannot be written.
    """
    with storage_errors(path, "write"):
        permissions, handle, part = _create_part(path, rights_of)
        try:
            with os.fdopen(handle, "wb") as stream:
                lock_file(stream, wait=False)
                _sweep(part)
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            _open_up(part, permissions)
            return _link(part, path)
        finally:
            with suppress(OSError):
                part.unlink()


def _link(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # A file system without hard links (FAT, some network folders): look first, then rename.
        if target.exists():
            return False
        source.replace(target)
    return True


def exists(path: str | Path) -> bool:
    """Whether there is anything; False also for what no file system can hold, such as a list of many class names."""
    return os.path.exists(path)  # noqa: PTH110


def is_file(path: str | Path) -> bool:
    """Whether there is a file."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: str | Path) -> bool:
    """Whether there is a folder."""
    return os.path.isdir(path)  # noqa: PTH112


def prompts_folder() -> Path:
    """The folder with the shipped prompt sets (llm/) and CLIP template sets (clip/)."""
    return _folder("prompts")


def data_folder() -> Path:
    """The folder with the shipped label sets (labels/), bundles (bundles/) and what is derived from weights."""
    return _folder("data")


def _folder(name: str) -> Path:
    installed = Path(__file__).parent / "shipped" / name
    if installed.is_dir():
        return installed
    return Path(__file__).parents[1] / name


_MAX_BYTES = 1024 * 1024

# What a file for people can need at most. PyYAML takes time that grows with the square of the nesting and of the digits
# of a number, and seconds for a hundred thousand values.
_MAX_NESTING, _MAX_VALUES, _MAX_DIGITS = 32, 30_000, 400
_NUMBER = re.compile(r"[-+.:0-9A-Fa-f_xo]*")


def read_yaml(
    path: Path, subject: str, error: type[AbsError], *, max_bytes: int = _MAX_BYTES, as_text: bool = False
) -> Any:
    """The value in a YAML file: dicts, lists, strings, numbers, dates, None.

    Args:
        path: the file.
        subject: how a message calls the file, with its path: "the prompt file 'p.yaml'".
        error: the class to raise; it takes a message and a ``remedy``.
        max_bytes: the largest file that is read.
        as_text: whether numbers, dates, booleans and null come as they are written: "no" and "1.0" may be names.

    Raises:
        AbsError: of the given class: no YAML, no UTF-8, too large or nested too deeply, or with aliases, tags or a key
            that is given twice; names the line where there is one.
        StorageError: the file cannot be read.
    """
    import yaml  # few commands read YAML, and all import this module

    with storage_errors(path, "read"), path.open("rb") as stream:
        data = stream.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise error(f"{subject} is larger than {max_bytes:,} bytes", remedy="Name a smaller YAML file")
    try:
        text = data.decode("utf-8-sig")
        problem = _yaml_problem(text)
        if problem is not None:
            raise error(f"{subject}{problem[0]}", remedy=problem[1])
        return _load_yaml(text, as_text=as_text)
    except UnicodeDecodeError as caught:
        line = data[: caught.start].count(b"\n") + 1
        raise error(f"{subject} line {line}: this is not UTF-8", remedy="Save the file as UTF-8") from None
    except (yaml.YAMLError, RecursionError) as caught:
        mark = getattr(caught, "problem_mark", None)
        place = f" line {mark.line + 1}" if mark is not None else ""
        problem_text = printable(str(getattr(caught, "problem", None) or "it cannot be read"), 100)
        raise error(f"{subject}{place}: this is not YAML: {problem_text}", remedy="Correct that line") from None


def _yaml_problem(text: str) -> tuple[str, str] | None:
    """What makes a text unfit to be loaded although it may be YAML, and the remedy."""
    import yaml

    nesting = 0
    for number, event in enumerate[Any](yaml.parse(text, yaml.SafeLoader)):
        place = f" line {event.start_mark.line + 1}"
        nesting += isinstance(event, yaml.CollectionStartEvent)
        nesting -= isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):  # they can make a small file huge
            return f"{place} uses YAML aliases", "Write the text out"
        if getattr(event, "tag", None) is not None:  # they name types, whose values PyYAML does not check
            tag = str(event.tag).replace("tag:yaml.org,2002:", "!!")
            return f"{place} uses the YAML tag {printable(tag, 60)!r}", "Remove it, or quote the text"
        if nesting > _MAX_NESTING:
            return f"{place} is nested more than {_MAX_NESTING} deep", "Correct that line"
        if number > _MAX_VALUES:
            return f" has more than {_MAX_VALUES} values", "Name a smaller YAML file"
        is_plain = isinstance(event, yaml.ScalarEvent) and event.implicit[0]
        if is_plain and len(event.value) > _MAX_DIGITS and _NUMBER.fullmatch(event.value):
            return f"{place} has a number of more than {_MAX_DIGITS} digits", "Correct it"
    return None


def _load_yaml(text: str, *, as_text: bool) -> Any:
    """The value of a YAML text in which no key of a mapping is given twice."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_object(self, node: Any, deep: bool = False) -> Any:
            try:
                return super().construct_object(node, deep=deep)
            except (ValueError, OverflowError) as error:  # 0x_, 2001-99-99
                shown = repr(str(node.value)[:60])
                raise yaml.constructor.ConstructorError(
                    None, None, f"{shown} is neither a number nor a date; quote it if it is text", node.start_mark
                ) from error

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = set[Any]()
            for key_node, _ in node.value:
                key = self.construct_object(key_node, deep=True)
                if not isinstance(key, Hashable):
                    continue  # the loader's own error names the line
                if key in keys:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {str(key)[:60]!r} is given twice", key_node.start_mark
                    )
                keys.add(key)
            return super().construct_mapping(node, deep=deep)

    if as_text:
        Loader.yaml_implicit_resolvers = {}
    return yaml.load(text, Loader)  # noqa: S506 - a safe loader
