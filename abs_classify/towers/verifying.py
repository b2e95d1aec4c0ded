"""Whether weights on this machine are still what they were, or what their publisher says they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from abs_classify.towers import EMBEDDED
from abs_classify.towers.catalogue import Row, canonical_name, hub_digest, list_here, locate
from abs_classify.towers.embedded_weights import find_embedded_files
from abs_classify.towers.weights_store import Stored, WeightsStore
from abs_core.errors import WeightsError
from abs_core.files import sha256_file

__all__ = ["Checked", "Expected", "expected_digests", "verify_all", "verify_one"]

#: file -> (``sha256:...`` or empty, who says so)
Expected = dict[Path, tuple[str, str]]


@dataclass(frozen=True)
class Checked:
    """A file whose digest was computed again.

    Args:
        path: the file.
        expected: what its sha256 should be; empty if nobody says.
        found: what it is; empty if the file is missing.
        source: who says what it should be.
    """

    path: Path
    expected: str
    found: str
    source: str

    @property
    def verdict(self) -> str:
        """``ok``, ``differs``, ``missing``, or ``unrecorded``."""
        if not self.found:
            return "missing"
        if not self.expected:
            return "unrecorded"
        return "ok" if self.found == self.expected else "differs"


def expected_digests(row: Row, store: WeightsStore) -> Expected:
    """What the sha256 of a model's files should be: as recorded, pinned in this toolkit, or published by the hub.

    Raises:
        WeightsError: the model's record in the store is damaged.
    """
    stored = store.find(row.entry.name)
    if stored:
        return _recorded(stored)
    if row.entry.name == EMBEDDED and row.here:
        return {file.path: (file.sha256, "pinned in this toolkit") for file in find_embedded_files().all()}
    return {path: _published(path) for path in (row.here.files if row.here else ())}


def _recorded(stored: Stored) -> Expected:
    source = f"recorded when it was {stored.record.origin}"
    return {path: (file.sha256, source) for path, file in zip(stored.paths, stored.record.files, strict=True)}


def _published(path: Path) -> tuple[str, str]:
    digest = hub_digest(path)
    return (digest, "published by the hub") if digest else ("", "")


def verify_one(name: str, store: WeightsStore) -> Iterator[Checked]:
    """Check the files of one model.

    Raises:
        WeightsError: the model is not here.
        StorageError: a file cannot be read.
        AbsError: there is no such model, as in ``entry_of``.
    """
    row = locate(store, name)
    if row.here is None and store.find(canonical_name(name)) is None:
        raise WeightsError(f"the weights of {name!r} are not on this machine", remedy=f"Run: abs models pull {name}")
    yield from _check(expected_digests(row, store))


def verify_all(store: WeightsStore) -> Iterator[Checked]:
    """Check every file that was pulled or imported, and what else is here.

    Raises:
        WeightsError: a record is damaged.
        StorageError: a file cannot be read.
    """
    recorded = store.all()
    for stored in recorded:
        yield from _check(_recorded(stored))
    names = {stored.record.name for stored in recorded}
    for row in list_here(store):
        if row.entry.name not in names:
            yield from _check(expected_digests(row, store))


def _check(expected: Expected) -> Iterator[Checked]:
    for path, (digest, source) in expected.items():
        found = sha256_file(path) if path.is_file() else ""
        yield _ask_openai(path, found) if found and not digest else Checked(path, digest, found, source)


def _ask_openai(path: Path, found: str) -> Checked:
    """OpenAI names its TorchScript archives by their sha256, and no other archive is ever opened."""
    from abs_classify.towers.weights import PUBLISHED_TORCHSCRIPT, is_torchscript

    if not is_torchscript(path):
        return Checked(path, "", found, "nothing to compare with")
    published = found.removeprefix("sha256:") in PUBLISHED_TORCHSCRIPT
    return Checked(path, found if published else "one that OpenAI published", found, "published by OpenAI")
