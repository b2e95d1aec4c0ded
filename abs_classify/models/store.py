"""The local store of weights: one folder for each model that was pulled or imported, with a record of its files.

    STORE/ViT-B-16-quickgelu--openai/abs-model.json     the record: name, files, sha256
                                     model.safetensors   the weights, if they were imported

The files of a pulled model stay in the hub cache, and the record says where. With the record ``abs models verify``
finds files that have changed since they were checked. The same folder, record included, carries weights to a machine
without a network. Imports no torch.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from abs_core.canonical import canonical_json
from abs_core.errors import UsageError, WeightsError
from abs_core.files import atomic_write, ensure_writable, storage_errors
from abs_core.text import validation_message

__all__ = [
    "RECORD_FILE",
    "StoredFile",
    "StoredWeights",
    "WeightsRecord",
    "WeightsStore",
    "copy_file",
    "read_record",
    "short_name",
    "short_names",
    "write_record",
]

#: The record's file name.
RECORD_FILE = "abs-model.json"
_CHUNK = 1 << 20
_LARGEST_RECORD = 1 << 16


class StoredFile(BaseModel):
    """A file of a model.

    Args:
        name: its name in the model's folder; never a path.
        sha256: ``sha256:...`` of its bytes.
        bytes: its size.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,200}$")]
    sha256: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    bytes: Annotated[int, Field(ge=0)]


class WeightsRecord(BaseModel):
    """What is known of a model's files.

    Args:
        format: this format and its version.
        name: the model, as ``abs models ls`` names it.
        origin: whether the files lie in the hub cache or beside the record.
        layout: what names them for ``load_model`` or ``load_attention``: the model's own name, the weights file, or the
            folder.
        repository: the hub repository that has these weights, ``organisation/name``; empty where there is none.
        folder: where the files are; empty where they are beside the record.
        files: the weights first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["abs-model/1"] = "abs-model/1"
    name: Annotated[str, Field(min_length=1, max_length=300)]
    origin: Literal["pulled", "imported"]
    layout: Literal["name", "file", "folder"]
    repository: Annotated[str, Field(pattern=r"^([\w.-]+/[\w.-]+)?$")] = ""
    folder: str = ""
    files: Annotated[tuple[StoredFile, ...], Field(min_length=1)]


@dataclass(frozen=True)
class StoredWeights:
    """A record and the folder that it was found in."""

    record: WeightsRecord
    home: Path

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every file of the model, the weights first."""
        folder = Path(self.record.folder) if self.record.folder else self.home
        return tuple(folder / file.name for file in self.record.files)

    @property
    def use(self) -> str:
        """The name for ``--model`` or ``--attention`` that loads exactly these files."""
        if self.record.layout == "name":
            return self.record.name
        if self.record.layout == "file":
            return f"{self.record.name}@{self.paths[0]}"
        return f"{'dino' if self.record.name.startswith('dino:') else 'local-dir'}:{self.paths[0].parent}"

    @property
    def bytes(self) -> int:
        """Size of all files, as recorded."""
        return sum(file.bytes for file in self.record.files)


class WeightsStore:
    """The models that were pulled or imported.

    Args:
        root: the store's folder; it need not exist.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, name: str) -> Path:
        """Where a model of this name is kept."""
        return self.root / re.sub(r"[^A-Za-z0-9._-]", "--", name)

    def all(self) -> list[StoredWeights]:
        """Every model, by name.

        Raises:
            WeightsError: a record is damaged.
        """
        stored = [StoredWeights(read_record(path), path.parent) for path in self.root.glob(f"*/{RECORD_FILE}")]
        return sorted(stored, key=lambda weights: weights.record.name)

    def find(self, name: str) -> StoredWeights | None:
        """The model of this name, if it was pulled or imported.

        Raises:
            WeightsError: its record is damaged.
        """
        path = self.folder(name) / RECORD_FILE
        stored = StoredWeights(read_record(path), path.parent) if path.is_file() else None
        return stored if stored and stored.record.name == name else None

    def record(self, record: WeightsRecord) -> StoredWeights:
        """Write a record for files that stay where they are, over an older one of the same model.

        Raises:
            StorageError: the store cannot be written.
        """
        home = self.folder(record.name)
        write_record(home, record)
        return StoredWeights(record, home)

    def require_free(self, name: str) -> None:
        """Make sure that no files of this model are imported yet. The record of a pull does not count.

        Raises:
            UsageError: names the folder that is in the way.
        """
        folder = self.folder(name)
        if folder.exists() and any(path.name != RECORD_FILE for path in folder.iterdir()):
            raise UsageError(
                f"{name!r} is already imported, into {str(folder)!r}", remedy="Delete that folder to import it again"
            )

    @contextmanager
    def new_folder(self, name: str) -> Iterator[Path]:
        """A fresh folder to fill, which becomes the model's when the block ends without an error.

        Raises:
            UsageError: files of this model are already imported.
            StorageError: the store cannot be written.
        """
        self.require_free(name)
        final = self.folder(name)
        ensure_writable(self.root)
        with storage_errors(self.root, "write in"):
            fresh = Path(tempfile.mkdtemp(prefix=".incoming-", dir=self.root))
        try:
            yield fresh
            with storage_errors(final, "write"):
                # the record of a pull may be there; it describes the same model in the hub cache
                (final / RECORD_FILE).unlink(missing_ok=True)
                if final.exists():
                    final.rmdir()
                # mkdtemp makes folders private; a shared store needs the usual permissions
                fresh.chmod(0o755)
                fresh.replace(final)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


def read_record(path: Path) -> WeightsRecord:
    """Read a record.

    Raises:
        WeightsError: it cannot be read, or does not hold what a record must.
    """
    try:
        if path.stat().st_size > _LARGEST_RECORD:
            raise ValueError("it is too large")
        return WeightsRecord.model_validate_json(path.read_bytes())
    except ValidationError as error:
        reason = validation_message(error)
    except (OSError, ValueError) as error:
        reason = str(error)
    raise WeightsError(
        f"the record {str(path)!r} is damaged ({reason})", remedy="Delete it, then pull or import the model again"
    )


def write_record(folder: Path, record: WeightsRecord) -> None:
    """Write a record into a model's folder.

    Raises:
        StorageError: the folder cannot be written.
    """
    with atomic_write(folder / RECORD_FILE) as stream:
        stream.write(canonical_json(record.model_dump(mode="json")).encode() + b"\n")


def copy_file(source: Path, target: Path, copied: Callable[[int], None]) -> StoredFile:
    """Copy a file and compute its digest on the way.

    Args:
        source: the file; links are followed.
        target: the copy.
        copied: called with the number of bytes of each step.

    Raises:
        StorageError: the source cannot be read or the copy cannot be written.
    """
    total, size = hashlib.sha256(), 0
    with storage_errors(source, "read"):
        stream = source.open("rb")
    with stream, atomic_write(target) as copy:
        while chunk := stream.read(_CHUNK):
            copy.write(chunk)
            total.update(chunk)
            size += len(chunk)
            copied(len(chunk))
    return StoredFile(name=target.name, sha256=f"sha256:{total.hexdigest()}", bytes=size)


# of a file's or folder's name that is shown
_LONGEST = 60


def short_name(name: str) -> str:
    """A name without the path in it: of an imported model the model's own, else the last part of the path.

    ``ViT-B-16/openai@/home/you/.abs/models/ViT-B-16--openai/model.safetensors`` is ``ViT-B-16/openai``, and
    ``local-dir:/data/runs/7/best`` is ``local-dir:best``.
    """
    return _shortened(name, 1)


def short_names(names: Iterable[str]) -> dict[str, str]:
    """The short name of each; where several would be the same, with as much of their paths as tells them apart."""
    short = {name: short_name(name) for name in names}
    parts = 2
    while len(set(short.values())) < len(short) and parts < max(name.count("/") for name in short) + 3:
        shared = {label for label in short.values() if list(short.values()).count(label) > 1}
        short |= {name: _shortened(name, parts) for name, label in short.items() if label in shared}
        parts += 1
    return short


def _shortened(name: str, parts: int) -> str:
    head, sign, file = name.partition("@")
    if sign and file:
        path = Path(file)
        return head if parts == 1 and _recorded_name(path.parent) == head else f"{head}@{_end(path, parts)}"
    kind, colon, place = name.partition(":")
    if kind == "local-dir" or (kind == "dino" and "/" in place):
        path = Path(place)
        return (_recorded_name(path) if parts == 1 else "") or f"{kind}{colon}{_end(path, parts)}"
    return name


def _end(path: Path, parts: int) -> str:
    """The last parts of a path; a long one is cut in its middle."""
    text = "/".join(path.parts[-parts:])
    return text if len(text) <= _LONGEST else f"{text[:29]}…{text[-30:]}"


def _recorded_name(folder: Path) -> str:
    """What a folder's own record names the model in it; empty if there is none."""
    path = folder / RECORD_FILE
    try:
        return read_record(path).name if path.is_file() else ""
    except (WeightsError, OSError, ValueError):
        return ""
