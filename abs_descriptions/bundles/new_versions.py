"""New versions made of what is there: their number, whether the store has them already, and how they enter it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from abs_core.files import ensure_writable
from abs_descriptions.bundles.format import BundleHeader
from abs_descriptions.bundles.manifest import Manifest
from abs_descriptions.bundles.reader import Bundle
from abs_descriptions.bundles.references import parse_version
from abs_descriptions.bundles.repository import Repository

__all__ = ["add_version", "check_output", "child_version", "find_same_version", "timestamp"]


def timestamp() -> str:
    """The current time as bundles write it: UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def check_output(output: Repository | Path) -> Path | None:
    """Prove that a bundle can be written to a repository or file.

    Returns:
        The folder that is written in; None if the repository is not local.

    Raises:
        StorageError, UsageError: it cannot be written.
    """
    folder = output.root if isinstance(output, Repository) else output.absolute().parent
    if folder is not None:
        ensure_writable(folder)
    elif isinstance(output, Repository):
        output.check_writable()
    return folder


def child_version(repository: Repository, name: str, parents: Sequence[BundleHeader] = ()) -> str:
    """The version after all versions of ``name`` in the store and after those of its parents that have this name.

    Raises:
        UsageError: an invalid name.
    """
    following = repository.next_version(name)
    for parent in parents:
        version, after = parse_version(parent.version), parse_version(following)
        if parent.name == name and version is not None and after is not None and after <= version:
            following = f"{version.major}.{version.minor + 1}.0"
    return following


def find_same_version(
    repository: Repository, name: str, records: int, write: Callable[[Path, str, str], Bundle]
) -> Manifest | None:
    """The newest version in the store that ``write`` reproduces byte for byte; None if there is none.

    What the store has lost of that version is restored, and a warning says if it was yanked. The stored file may be
    damaged, so newly written bytes are compared with its digest.

    Args:
        repository: a local store.
        name: of the bundle.
        records: the number of descriptions written; versions with another number are not compared.
        write: takes a path, a version and a time of creation.
    """
    candidates = [version for version in reversed(repository.list(name)) if version.counts.records == records]
    if not candidates:
        return None
    with tempfile.TemporaryDirectory(dir=repository.root, prefix=".bundle-") as folder:
        path = Path(folder) / "again.jsonl"
        for manifest in candidates:
            if write(path, manifest.version, manifest.created).reference == str(manifest):
                repository.add(path)
                repository.warn_if_yanked(manifest)
                return manifest
    return None


def add_version(repository: Repository, write: Callable[[Path], Bundle]) -> Manifest:
    """Have ``write`` write a bundle to a path, and add it to the repository.

    Raises:
        StorageError: the store cannot be written.
    """
    if repository.root is not None:
        ensure_writable(repository.root)
    with tempfile.TemporaryDirectory(dir=repository.root, prefix=".bundle-") as folder:
        path = Path(folder) / "new.jsonl"
        write(path)
        return repository.add(path)
