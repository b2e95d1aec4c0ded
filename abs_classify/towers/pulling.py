"""Fetching weights from the hub when the user asks: the only place of the toolkit that downloads a model."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from abs_classify.towers import EMBEDDED, load_tower
from abs_classify.towers.catalogue import Entry, files_of
from abs_classify.towers.weights_store import Record, Stored, StoredFile, WeightsStore
from abs_core.errors import StorageError, UsageError, WeightsError
from abs_core.extras import is_installed, require
from abs_core.files import sha256_file, storage_errors

__all__ = ["Offer", "load_once", "offer_of", "pull_model", "recall_model"]


@dataclass(frozen=True)
class Offer:
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
    """Load a tower or a source of attention on the CPU and let it go: proof that its weights are here, fit and finite.

    Raises:
        AbsError: as ``load_tower`` and ``DinoAttention``.
    """
    if not name.startswith("dino:"):
        load_tower(name, device="cpu", allow_download=allow_download)
        return
    require("timm")
    from abs_classify.attention import DinoAttention

    DinoAttention(name.removeprefix("dino:"), name=name, allow_download=allow_download)


def offer_of(entry: Entry) -> Offer:
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
    offer = Offer(file, sent[file].size or 0, f"sha256:{sent[file].lfs.sha256}" if sent[file].lfs else "")
    _require_space(offer.bytes)
    return offer


def _ask_hub(entry: Entry) -> Any:
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


def recall_model(entry: Entry, store: WeightsStore) -> Stored | None:
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


def pull_model(entry: Entry, store: WeightsStore, offer: Offer | None) -> Stored:
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
    record = Record(
        name=entry.name,
        origin="pulled",
        layout="name",
        repository=entry.repository,
        folder=str(paths[0].parent),
        files=files,
    )
    return store.record(record)
