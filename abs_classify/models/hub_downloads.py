"""Large files of the Hugging Face hub, resumed where a killed download ended.

The hub's client writes each download to a file of its own, which nobody resumes or removes when the process is killed:
weights of some gigabytes begin anew each time, and stay there each time. So what is large is downloaded here, to where
the client keeps the bytes of files, ``blobs/SHA256``; the client finds it there and does the rest.
"""

from __future__ import annotations

import logging
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from abs_core.errors import DownloadError, UsageError
from abs_core.http import download

__all__ = ["fetch_large_file", "remove_dead_downloads"]

_logger = logging.getLogger(__name__)

#: Bytes from which a file is large: less is downloaded again in a moment.
LARGE = 4 << 20

# seconds; a download writes more often than that
_WRITING = 600.0

_SHA256 = re.compile(r"[0-9a-f]{64}")


def fetch_large_file(repository: str, name: str) -> None:
    """Have the bytes of a large file of a repository where the hub's client finds them.

    Does nothing for a small file, one that is there, and one of which the hub does not say the SHA-256. What goes wrong
    with the network is logged and left to the client, which says it in its own way.

    Args:
        repository: ``organisation/name``.
        name: of the file.

    Raises:
        StorageError: it cannot be written.
    """
    from huggingface_hub import get_hf_file_metadata, get_token, hf_hub_url, try_to_load_from_cache, utils

    if isinstance(try_to_load_from_cache(repository, name), str):
        return
    try:
        metadata = get_hf_file_metadata(hf_hub_url(repository, name))
    except Exception as error:  # of whichever HTTP library the client uses
        _logger.debug("the hub does not describe %s of %s: %s", name, repository, error)
        return
    etag, size = str(metadata.etag), metadata.size or 0
    blob = _blobs(repository) / etag
    # of the whole header: a hub may send a path
    if size < LARGE or not _SHA256.fullmatch(etag) or blob.exists():
        return
    token = get_token()
    tools: Any = utils
    with tools.tqdm(total=size, unit="B", unit_scale=True, desc=name) as bar:
        try:
            download(
                hf_hub_url(repository, name, revision=metadata.commit_hash),
                blob,
                max_bytes=size,
                authorization=f"Bearer {token}" if token else "",
                sha256=blob.name,
                advance=bar.update,
            )
        except (DownloadError, UsageError) as error:
            _logger.debug("left to the hub's client: %s", error)


def remove_dead_downloads(repository: str) -> list[Path]:
    """Remove what killed processes left of downloads of the hub's client; what is gone.

    What a living process downloads stays: it holds the client's lock on it, and writes.
    """
    from huggingface_hub import constants, utils

    tools: Any = utils
    removed = []
    folder = _blobs(repository)
    locks = Path(constants.HF_HUB_CACHE) / ".locks" / folder.parent.name
    # PROCESS is eight hexadecimal digits; without them, as older clients write it, it is resumed
    for part in folder.glob("*.*.incomplete"):
        with suppress(OSError, TimeoutError):
            if time.time() - part.stat().st_mtime > _WRITING:
                locks.mkdir(parents=True, exist_ok=True)
                with tools.WeakFileLock(locks / f"{part.name.partition('.')[0]}.lock", timeout=0.1):
                    part.unlink()
                removed.append(part)
    return removed


def _blobs(repository: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}" / "blobs"
