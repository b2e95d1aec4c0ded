"""Names for the places that a user pushes to and pulls from, and which of them is meant when none is named.

    remotes = Remotes(Home.at(None, None).remotes)
    remotes.add("team", "s3://team/bundles", default=True)
    Repository.open(remotes.find("team").location)

They are kept in the user's home and nowhere else: a file in the working folder may be somebody else's. No credentials
are kept; a location that holds some is refused.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from abs_core.canonical import canonical_json
from abs_core.errors import StorageError, UnknownNameError, UsageError
from abs_core.files import atomic_write, lock_file, open_regular, publish, storage_errors
from abs_core.permissions import create_folder
from abs_core.text import quoted
from abs_descriptions.bundles.storage import parse_location

__all__ = ["Remote", "Remotes"]

_logger = logging.getLogger(__name__)

_MAX_BYTES = 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Remote:
    """A place, and the name that it may have.

    Args:
        name: empty for a location that was given as it is.
        location: as ``Repository.open`` takes it.
        is_default: whether it is meant when none is named.
        signers: a file of those whose signatures bundles from there must have; None: they need none.
    """

    name: str
    location: str
    is_default: bool = False
    signers: Path | None = None


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    location: str
    signers: str | None = None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    format: Literal["abs-remotes"] = "abs-remotes"
    format_version: Literal[1] = 1
    default: str | None = None
    remotes: Annotated[dict[Annotated[str, Field(pattern=f"^{_NAME.pattern}$")], _Entry], Field(max_length=1000)] = {}


class Remotes:
    """The remotes of a user.

    Args:
        file: where they are kept; it need not exist.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def list(self) -> Sequence[Remote]:
        """All of them, by name.

        Raises:
            StorageError: the file cannot be read, or is no such file.
        """
        content = self._read()
        return [_remote(name, content) for name in sorted(content.remotes)]

    def add(self, name: str, location: str, *, default: bool = False, signers: Path | None = None) -> Remote:
        """Give a place a name.

        Args:
            name: a word of letters, digits, ``.``, ``_`` and ``-``.
            location: as ``Repository.open`` takes it; a folder is kept with its whole path.
            default: whether it is meant when none is named.
            signers: a file as ``read_signers`` takes it; whatever is pulled from there must be signed by one of them.

        Raises:
            UsageError: a name that cannot be one or is taken, no location, or one that holds credentials.
            StorageError: the file cannot be read or written.
        """
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"the name of a remote must be a word of letters, digits, '.', '_' and '-', got {quoted(name)}",
                remedy="Choose another name",
            )
        place = parse_location(location)
        entry = _Entry(location=str(place), signers=None if signers is None else str(signers.expanduser().absolute()))
        with self._change() as content:
            if name in content.remotes:
                raise UsageError(
                    f"the remote {name!r} is {content.remotes[name].location} already",
                    remedy=f"Choose another name, or remove it first: abs bundle remote rm {name}",
                )
            chosen = name if default else content.default
            content = content.model_copy(update={"default": chosen, "remotes": {**content.remotes, name: entry}})
            self._write(content)
        return _remote(name, content)

    def remove(self, name: str) -> Remote:
        """Forget a name; what is in the place stays. If it was the default there is none any more.

        Raises:
            UnknownNameError: no such remote. StorageError: the file cannot be read or written.
        """
        with self._change() as content:
            removed = self._known(name, content)
            rest = {other: entry for other, entry in content.remotes.items() if other != name}
            default = None if removed.is_default else content.default
            self._write(content.model_copy(update={"default": default, "remotes": rest}))
        return removed

    def choose_default(self, name: str) -> Remote:
        """Mean a remote when none is named.

        Raises:
            UnknownNameError: no such remote. StorageError: the file cannot be read or written.
        """
        with self._change() as content:
            self._known(name, content)
            content = content.model_copy(update={"default": name})
            self._write(content)
        return _remote(name, content)

    def find(self, text: str | None, *, or_new_folder: bool = False) -> Remote:
        """The place that a user means.

        A word without ``/`` and ``:`` that is not ``.``, ``..`` or begins with ``~`` is the name of a remote; if there
        is none of that name it may be a folder that exists. Anything else is a location. So ``./team`` is always the
        folder, and a name that was mistyped creates none.

        Args:
            text: a name or a location; None for the default.
            or_new_folder: whether a word may be a folder that is not there yet, while there are no remotes that could
                be meant.

        Raises:
            UsageError: nothing was given and there is no default; no location, or one that holds credentials.
            UnknownNameError: neither a remote nor a folder. StorageError: the file cannot be read.
        """
        if text is not None and not _NAME.fullmatch(text):
            parse_location(text)
            return Remote("", text)
        content = self._read()
        name = content.default if text is None else text
        if name is None:
            if content.remotes:
                names = ", ".join(sorted(content.remotes))
                remedy = f"Name a place, or choose one of {names}: abs bundle remote default NAME"
            else:
                remedy = "Name a place, or keep one: abs bundle remote add NAME LOCATION --default"
            raise UsageError("there is no default remote", remedy=remedy)
        if name in content.remotes:
            if text is not None and Path(text).is_dir():
                _logger.warning(
                    "%s means the remote, %s; write ./%s for the folder", name, content.remotes[name].location, name
                )
            return _remote(name, content)
        if text is not None and (Path(text).is_dir() or (or_new_folder and not content.remotes)):
            return Remote("", text)
        return self._known(name, content)

    def _known(self, name: str, content: _File) -> Remote:
        if name not in content.remotes:
            raise UnknownNameError(
                "remote",
                name,
                sorted(content.remotes),
                remedy=f"Add one with `abs bundle remote add`, or write ./{name} for a folder",
            )
        return _remote(name, content)

    @contextmanager
    def _change(self) -> Iterator[_File]:
        """What is in the file, of which no other process makes something else meanwhile."""
        with storage_errors(self._file, "write"):
            create_folder(self._file.parent)
            path = self._file.with_name(f".{self._file.name}.lock")
            publish(path, b"", rights_of=self._file.parent)
            lock = path.open("r+b")
        with lock:
            lock_file(lock, wait=True)
            yield self._read()

    def _read(self) -> _File:
        with storage_errors(self._file, "read"):
            try:
                stream = open_regular(self._file)
            except FileNotFoundError:
                return _File()
            with stream:
                data = stream.read(_MAX_BYTES)
        try:
            content = _File.model_validate_json(data)
            for entry in content.remotes.values():
                parse_location(entry.location)
        except (ValidationError, UsageError):
            raise StorageError(
                f"{str(self._file)!r} holds no remotes, or not as this version of abs writes them",
                remedy="Correct or remove it, and add the remotes again",
            ) from None
        return content

    def _write(self, content: _File) -> None:
        with atomic_write(self._file, rights_of=self._file.parent) as stream:
            stream.write((canonical_json(content.model_dump(mode="json", exclude_none=True)) + "\n").encode())


def _remote(name: str, content: _File) -> Remote:
    entry = content.remotes[name]
    return Remote(name, entry.location, name == content.default, None if entry.signers is None else Path(entry.signers))
