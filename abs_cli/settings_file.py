"""Configuration files: which there are, whose they are, and what stands in them.

    the user's own          abs.toml in the configuration folder of the system, or the file that ABS_CONFIG names
    the working folder's    ./abs.toml, which may have come with someone's data

Each is a TOML file with a table for each command. Neither may hold a key of a service.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from abs_core.errors import StorageError, UsageError
from abs_core.text import printable

__all__ = [
    "FILE_NAME",
    "SettingsFile",
    "find_settings_files",
    "normalized",
    "read_settings_file",
    "settings_paths",
    "users_file",
]

FILE_NAME = "abs.toml"

_VARIABLE = "ABS_CONFIG"

# the options whose value is a table, the keys of which are not ours
_TABLES = ("extra-body",)
_MAX_BYTES = 1024 * 1024

# keys that would hold a secret, and values that are one
_SECRET_KEYS = re.compile(
    r"(.*[-_])?(api[-_]?key|access[-_]?key|secret([-_]key)?|password|passwd|token|bearer|credentials?)"
)
_SECRET_VALUES = re.compile(
    r"(sk|rk|pk)-[\w-]{16,}|hf_\w{20,}|gh[pousr]_\w{20,}|github_pat_\w{20,}|AKIA[0-9A-Z]{16}|AIza[\w-]{30,}"
    r"|(Bearer|Basic) \S{8,}|[a-z][a-z0-9+.-]*://[^/\s@]*:[^/\s@]+@.*"
)


def normalized(key: str) -> str:
    """A key as ``--help`` writes the option: ``batch_size`` is ``batch-size``."""
    return key.replace("_", "-")


@dataclass(frozen=True)
class SettingsFile:
    """What stands in a configuration file.

    Args:
        path: of the file, absolute.
        is_own: it is the user's own, not one that lies in the working folder.
        tables: what stands in it; keys are ``normalized``.
    """

    path: Path
    is_own: bool
    tables: Mapping[str, Any]
    _text: str = field(repr=False)

    def place(self, table: str, key: str = "") -> str:
        """Where a table or a key of it stands, for messages: ``/home/ann/abs.toml, line 3``.

        Args:
            table: "eval" or "bundle push".
            key: as in ``tables``.
        """
        lines = list(_lines_of(self._text, tuple(table.split()), key))
        shown = printable(str(self.path))
        return f"{shown}, line {lines[0]}" if len(lines) == 1 else shown


_HEADER = re.compile(r"\s*\[([^\[\]]+)\]\s*(#.*)?")
_KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")


def _lines_of(text: str, table: tuple[str, ...], key: str) -> Iterator[int]:
    """The lines on which a key may stand: the parser does not say, and a text over several lines may look like one."""
    current: tuple[str, ...] = ()
    wanted = (*table, key) if key else table
    for number, line in enumerate(text.splitlines(), 1):
        if match := _HEADER.fullmatch(line):
            current = _names(match[1])
            if current == wanted:
                yield number
        elif (match := _KEY.match(line)) and (*current, *_names(match[1])) == wanted:
            yield number


def _names(dotted: str) -> tuple[str, ...]:
    return tuple(normalized(name.strip().strip("\"'")) for name in dotted.split("."))


def users_file() -> Path | None:
    """The user's own configuration file, which need not exist; None where no file is to be read, or no folder is known.

    Raises:
        UsageError: ABS_CONFIG names no file that can be.
    """
    given = os.environ.get(_VARIABLE, "")
    if given == os.devnull:  # which is how one says: none
        return None
    if given:
        try:
            return Path(given).expanduser().absolute()
        except (RuntimeError, OSError):
            raise UsageError(f"{_VARIABLE} names no file that can be: {given!r}", remedy="Name it absolutely") from None
    from platformdirs import user_config_path

    try:
        return user_config_path("abs", appauthor=False) / FILE_NAME
    except RuntimeError:  # a user without a home folder
        return None


def settings_paths() -> list[tuple[Path, bool]]:
    """Where configuration files may be, the strongest first, and whether each is the user's own.

    Raises:
        UsageError: as ``users_file``.
    """
    if os.environ.get(_VARIABLE, "") == os.devnull:
        return []
    own = users_file()
    paths = [] if own is None else [(own, True)]
    with suppress(OSError):  # a working folder that is gone has no file
        local = Path.cwd() / FILE_NAME
        if own is None or not _is_same(local, own):
            paths.append((local, False))
    return paths


def find_settings_files() -> list[SettingsFile]:
    """The configuration files that are there, the strongest first: the user's own, that of the working folder.

    Raises:
        UsageError, StorageError: as ``read_settings_file``, and where ABS_CONFIG names a file that is not there.
    """
    files = []
    for path, is_own in settings_paths():
        file = read_settings_file(path, is_own=is_own)
        if file is not None:
            files.append(file)
        elif is_own and os.environ.get(_VARIABLE):
            raise UsageError(
                f"{_VARIABLE} names {printable(str(path))!r}, which is not there",
                remedy=f"Correct or unset it; {_VARIABLE}={os.devnull} reads no file",
            )
    return files


def _is_same(first: Path, second: Path) -> bool:
    try:
        return first.samefile(second)
    except OSError:
        return False


def read_settings_file(path: Path, *, is_own: bool) -> SettingsFile | None:
    """A configuration file; None where there is none.

    Args:
        path: of the file.
        is_own: it is the user's own, so that nobody else may have written it.

    Raises:
        StorageError: it is no file, too large, or cannot be read.
        UsageError: someone else may have written a file of the user's, it is no TOML in UTF-8, or holds a secret.
    """
    name = printable(str(path))
    try:
        # a pipe must not block
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        reason = "it is a folder" if path.is_dir() else (error.strerror or str(error)).lower()
        raise _unreadable(name, reason) from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise _unreadable(name, "it is a folder" if stat.S_ISDIR(status.st_mode) else "it is no regular file")
    with os.fdopen(descriptor, "rb") as stream:
        if is_own:
            _refuse_foreign(name, status)
        try:
            content = stream.read(_MAX_BYTES + 1)
        except OSError as error:
            raise _unreadable(name, (error.strerror or str(error)).lower()) from None
    if len(content) > _MAX_BYTES:
        raise _unreadable(name, f"it is larger than {_MAX_BYTES // 1024} KiB")
    text = _decoded(name, content)
    file = SettingsFile(path, is_own, _parsed(name, text), text)
    _refuse_secrets(file, file.tables, ())
    return file


def _unreadable(name: str, reason: str) -> StorageError:
    return StorageError(f"the configuration file {name!r} cannot be read: {reason}", remedy="Correct or remove it")


def _refuse_foreign(name: str, status: os.stat_result) -> None:
    """Refuse a file that someone else may have written, as ssh does: it may name programs to run and servers."""
    if not hasattr(os, "getuid"):  # Windows keeps the folders of a user from others
        return
    if status.st_uid not in (0, os.getuid()):
        raise UsageError(
            f"the configuration file {name!r} belongs to another user, so it is not read",
            remedy="Make a file of your own, or name another one in ABS_CONFIG",
        )
    if status.st_mode & stat.S_IWOTH or (status.st_mode & stat.S_IWGRP and not _is_private_group(status.st_gid)):
        raise UsageError(
            f"the configuration file {name!r} can be written by others, so it is not read",
            remedy=f"Look at what is in it, then: chmod go-w {shlex.quote(name)}",
        )


def _is_private_group(group_id: int) -> bool:
    """Whether a group is that of this user alone, as many systems give each user one."""
    import grp
    import pwd

    try:
        group, user = grp.getgrgid(group_id), pwd.getpwuid(os.getuid())
    except KeyError:
        return False
    return group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}


def _decoded(name: str, content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UsageError(f"{name} is UTF-16, not UTF-8", remedy="Save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{name}, line {line}: this is not UTF-8", remedy="Save it as UTF-8") from None


def _parsed(name: str, text: str) -> dict[str, Any]:
    import tomllib

    try:
        return _normalized_tables(name, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        line = re.search(r"\(at line (\d+), column \d+\)", message)
        place = f"{name}, line {line[1]}" if line else name
        remedy = "See https://toml.io"
        if "\\" in message or "hex value" in message or "escape" in message.lower():
            remedy = r"Write a path with backslashes in single quotes: 'C:\Users\ann'"
        reason = printable(message[: line.start()].strip() if line else message)
        raise UsageError(f"{place}: not valid TOML: {reason[:1].lower() + reason[1:]}", remedy=remedy) from None
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else "a number is too long"
        raise UsageError(f"{name}: not valid TOML: {reason}", remedy="See https://toml.io") from None


def _normalized_tables(name: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """The tables with ``normalized`` keys; what stands inside a value stays as it is."""
    tables: dict[str, Any] = {}
    for key, value in table.items():
        if normalized(key) in tables:
            raise UsageError(
                f"{name}: {printable(normalized(key))!r} is given twice, also as {printable(key)!r}",
                remedy="Remove one of them",
            )
        is_ours = isinstance(value, dict) and normalized(key) not in _TABLES
        tables[normalized(key)] = _normalized_tables(name, value) if is_ours else value
    return tables


def _refuse_secrets(file: SettingsFile, value: Any, path: tuple[str, ...]) -> None:
    """Refuse a key of a service, wherever it stands, without repeating it."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(inner, Mapping) and _SECRET_KEYS.fullmatch(key.lower()):
                raise _secret_error(file, (*path, key))
            _refuse_secrets(file, inner, (*path, key))
    elif isinstance(value, list):
        for inner in value:
            _refuse_secrets(file, inner, path)
    elif isinstance(value, str) and _SECRET_VALUES.fullmatch(value.strip()):
        raise _secret_error(file, path)


def _secret_error(file: SettingsFile, path: tuple[str, ...]) -> UsageError:
    place = file.place(" ".join(path[:-1]), path[-1])
    return UsageError(
        f"{place}: {printable(path[-1], 60)!r} holds a key or a password, which must not be in a configuration file",
        remedy="Remove it, and change it if others could read the file; put it into a variable such as OPENAI_API_KEY, "
        "and name another variable with key-variable",
    )
