"""What was submitted and is not yet collected: one small file for each batch, so that no interrupted run pays twice.

A record is written before a batch is created, when its input file is already at the server, and is removed when every
reply was handed out. It holds ids, digests and counts; neither texts nor a key.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from abs_core.canonical import canonical_json, digest
from abs_core.errors import StorageError
from abs_core.files import atomic_write, storage_errors
from abs_descriptions.backends.base import Tokens

__all__ = ["BatchRecord", "BatchRecords"]

_FORMAT = {"format": "abs-batch", "format_version": 1}
# Servers keep the files of a batch for about 30 days; what is older than this cannot be collected any more.
_KEPT_SECONDS = 45 * 86400


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """A batch.

    Args:
        base_url, model: where it was submitted.
        file_id: of the input file at the server.
        batch_id: at the server; "" where it is not known whether the batch was created.
        created: seconds since 1970.
        ids: the custom ids of its requests, sorted.
        lost: by custom id, what earlier batches took for requests that are asked again in this one.
    """

    base_url: str
    model: str
    file_id: str
    batch_id: str
    created: float
    ids: tuple[str, ...]
    lost: Mapping[str, Tokens] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """A name for its file, made of its ids."""
        return digest(list(self.ids)).removeprefix("sha256:")

    def with_batch(self, batch_id: str) -> BatchRecord:
        """The record when the batch is known."""
        return replace(self, batch_id=batch_id)


class BatchRecords:
    """The records in a folder.

    Args:
        folder: made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, record: BatchRecord) -> Path:
        """The file of a record."""
        return self.folder / f"{record.name}.json"

    def new(self, base_url: str, model: str, file_id: str, lost: Mapping[str, Tokens]) -> BatchRecord:
        """Write the record of a batch that is about to be created.

        Args:
            base_url, model, file_id: see ``BatchRecord``.
            lost: what earlier batches took for each of its custom ids.

        Raises:
            StorageError: the folder cannot be written.
        """
        counts = {name: tokens for name, tokens in lost.items() if tokens.total}
        record = BatchRecord(base_url, model, file_id, "", time.time(), tuple(sorted(lost)), counts)
        self.save(record)
        return record

    def save(self, record: BatchRecord) -> None:
        """Write a record over an older one of the same ids.

        Raises:
            StorageError: the folder cannot be written.
        """
        value = {
            **_FORMAT,
            "base_url": record.base_url,
            "model": record.model,
            "file_id": record.file_id,
            "batch_id": record.batch_id,
            "created": record.created,
            "ids": list(record.ids),
            "lost": {name: tokens.to_dict() for name, tokens in record.lost.items()},
        }
        with atomic_write(self.path(record)) as stream:
            stream.write(canonical_json(value).encode())

    def remove(self, record: BatchRecord) -> None:
        """Forget a batch."""
        with storage_errors(self.folder, "write in"):
            self.path(record).unlink(missing_ok=True)

    def find(self, base_url: str, model: str) -> list[BatchRecord]:
        """The batches of a model at a server; records too old to be of use are removed.

        Raises:
            StorageError: a record that cannot be read. It is not passed over, for then its replies would be paid again.
        """
        found = []
        for path in sorted(self.folder.glob("*.json")):
            record = _read(path)
            if record.created < time.time() - _KEPT_SECONDS:
                path.unlink(missing_ok=True)
            elif (record.base_url, record.model) == (base_url, model):
                found.append(record)
        return found


def _read(path: Path) -> BatchRecord:
    with storage_errors(path, "read"):
        data = path.read_bytes()
    try:
        value: dict[str, Any] = json.loads(data)
        if {name: value[name] for name in _FORMAT} != _FORMAT:
            raise ValueError("another format")
        texts = {name: value[name] for name in ("base_url", "model", "file_id", "batch_id")}
        ids = tuple(value["ids"])
        if not all(isinstance(one, str) for one in (*texts.values(), *ids)):
            raise TypeError("no text")
        # Records of older versions have none.
        lost = {name: Tokens.from_dict(tokens) for name, tokens in value.get("lost", {}).items()}
        return BatchRecord(**texts, created=float(value["created"]), ids=ids, lost=lost)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise StorageError(
            f"the record of a batch {str(path)!r} cannot be read",
            remedy="Delete it; if its batch was submitted, its replies are asked for and paid once more",
        ) from error
