"""Which version a user means, and which number a new one gets.

A bundle is named as a file, by a reference to the local store, or as one that ships with the toolkit.
"""

from __future__ import annotations

import logging
import shlex
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, cast

from abs_core.errors import BundleError, UnknownNameError, UsageError
from abs_core.files import data_folder, ensure_writable, is_file
from abs_core.text import quoted
from abs_descriptions.bundles.format import BundleHeader
from abs_descriptions.bundles.manifest import Manifest
from abs_descriptions.bundles.reader import Bundle, iter_rejected, read_bundle, rejected_path
from abs_descriptions.bundles.references import Reference, parse_reference, parse_version
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.writer import write_bundle

__all__ = [
    "add_version",
    "check_output",
    "child_version",
    "find_bundle",
    "find_same_version",
    "is_bundle_name",
    "refuse_shipped",
    "renumber_version",
    "shipped_bundles",
    "timestamp",
]

_logger = logging.getLogger(__name__)

_BUMPS = ("major", "minor", "patch")
#: What `abs bundle import` reads.
_IMPORTED_ENDINGS = frozenset((".csv", ".json", ".tsv", ".txt"))


def find_bundle(repository: Repository, reference: str) -> Bundle:
    """A validated bundle by reference, or by path if there is such a file. Logs a warning if it was yanked.

    A file without the ending of bundles gives way to a bundle of its name, unless it is written ./NAME.

    Args:
        repository: a local store.
        reference: ``name``, ``name@version``, ``name@version#sha256:...`` or a path.

    Raises:
        UnknownNameError: no such bundle; lists those that are there.
        BundleError, StorageError: it cannot be read, or breaks a rule.
    """
    path = Path(reference)
    if path.suffix == ".jsonl" or (is_file(path) and not is_bundle_name(repository, reference)):
        return _read_file(path)
    parse_reference(reference)  # a range is refused, whoever could answer it
    name, at_sign, _ = reference.partition("@")
    shipped = shipped_bundles().get(name)
    if shipped is not None and not repository.versions(name):
        return _require_meant(read_bundle(shipped), reference)
    try:
        manifest = repository.resolve(reference)
    except (UnknownNameError, BundleError) as error:
        # A version of the user's own does not hide the shipped one; one of its number does, unless a digest is named.
        is_unknown = isinstance(error, UnknownNameError)
        may_mean_shipped = at_sign and (is_unknown or "#" in reference)
        if shipped is not None and may_mean_shipped and _is_meant((bundle := read_bundle(shipped)), reference):
            return bundle
        if not is_unknown or repository.versions(name):
            raise  # the name is there, and the error says which versions of it
        names = sorted({*repository.names(), *shipped_bundles()})
        remedy = (
            "See `abs bundle ls`, fetch one with `abs bundle pull NAME LOCATION`, "
            "or write one with `abs gen-descriptions LABELS --name NAME`"
        )
        raise UnknownNameError("bundle", reference, names, remedy=remedy) from error
    repository.warn_if_yanked(manifest)
    return repository.read(manifest)


def _read_file(path: Path) -> Bundle:
    try:
        return read_bundle(path)
    except BundleError as error:
        if path.suffix.lower() not in _IMPORTED_ENDINGS:
            raise
        # what is wrong with its lines would lead to a repair of a file that is no bundle
        command = f"abs bundle import {shlex.quote(str(path))} --name NAME"
        remedy = f"A bundle is a .jsonl file; make one of this with `{command}`"
        raise BundleError(f"{quoted(str(path))} is no bundle", remedy=remedy) from error


def is_bundle_name(repository: Repository, reference: str) -> bool:
    """Whether the local store, or what ships with the toolkit, has a bundle of the name in a reference."""
    name = reference.partition("@")[0]
    return name in shipped_bundles() or bool(repository.versions(name))


def shipped_bundles() -> dict[str, Path]:
    """The bundles that ship with the toolkit: name to file. A bare name means one in the store, if there is any."""
    return {path.name.rpartition("-")[0]: path for path in sorted((data_folder() / "bundles").glob("*.jsonl"))}


def refuse_shipped(repository: Repository, reference: str) -> None:
    """For what changes or copies versions of the local store.

    Raises:
        UsageError: the reference can only mean a bundle that ships with the toolkit.
    """
    name = reference.partition("@")[0]
    if name in shipped_bundles() and not repository.versions(name):
        raise UsageError(
            f"{reference!r} ships with the toolkit and is not in the local store",
            remedy="Name a version of the local store; everyone with the toolkit has the shipped bundles",
        )


def _require_meant(bundle: Bundle, reference: str) -> Bundle:
    if not _is_meant(bundle, reference):
        raise UnknownNameError("bundle", reference, [bundle.reference])
    return bundle


def _is_meant(bundle: Bundle, reference: str) -> bool:
    return f"{bundle.reference}#".startswith((f"{reference}#", f"{reference}@"))


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


def child_version(
    repository: Repository, name: str, parents: Sequence[BundleHeader | Reference] = (), chosen: str | None = None
) -> str:
    """The version of a new bundle: after all versions of ``name`` in the store and of its parents that have this name,
    or the one that the user chose.

    Args:
        repository: that gets the bundle.
        name: of the bundle.
        parents: what it is made of.
        chosen: ``X.Y.Z``, which may be lower than other versions in the store but not than a parent; or ``major``,
            ``minor``, ``patch``: the number that rises; None: minor.

    Raises:
        UsageError: an invalid name; a chosen version that is none, that exists, or that is not above a parent's.
    """
    if chosen is not None and chosen not in _BUMPS:
        return _free_version(repository, name, parents, chosen)
    bump = cast("Literal['major', 'minor', 'patch']", chosen or "minor")
    following = parse_version(repository.next_version(name, bump))
    for parent in parents:
        version = parse_version(parent.version or "")
        if parent.name == name and version is not None and following is not None and following <= version:
            following = version.following(bump)
    return str(following)


def _free_version(repository: Repository, name: str, parents: Sequence[BundleHeader | Reference], chosen: str) -> str:
    """The version that a user wrote, if it can be that of a new bundle; errors as ``child_version``."""
    following = child_version(repository, name, parents)  # refuses an invalid name
    version = parse_version(chosen)
    if version is None:
        raise UsageError(
            f"the version must be MAJOR.MINOR.PATCH, or major, minor or patch, got {quoted(chosen)}",
            remedy=f"Write it as in {following} or {following}-rc.1, in lower case and without '+'",
        )
    existing = repository.versions(name)
    if version in existing:
        raise UsageError(
            f"{name}@{chosen} exists already, and a version never changes",
            remedy=f"Choose another, such as {following}",
        )
    for parent in parents:
        if parent.name == name and (below := parse_version(parent.version or "")) is not None and version <= below:
            raise UsageError(
                f"the version must be above that of its parent {name}@{parent.version}, got {chosen}",
                remedy=f"Choose a higher one, such as {following}, or another name",
            )
    if existing and not version.pre and version < existing[-1]:
        _logger.info("%s@%s is below %s@%s, so %s alone does not mean it", name, chosen, name, existing[-1], name)
    return chosen


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


def renumber_version(repository: Repository, reference: str, chosen: str | None = None) -> Manifest:
    """Give a version of a local store another number, such as one that is free where it is to be pushed.

    It is written again, with the same content, parents and time of creation, and the old one is removed. Its digest
    changes, so this is for a version that nobody has yet.

    Args:
        repository: a local store.
        reference: with a version.
        chosen: the new one, as ``child_version`` takes it.

    Raises:
        UsageError: a bare name, a version that cannot be, or one that others in the store were made of.
        BundleError, StorageError: it cannot be read, or the store not be written.
    """
    manifest = repository.resolve_version(reference)
    children = [f"{child.name}@{child.version}" for child in repository.children(manifest)]
    if children:
        raise UsageError(
            f"{manifest.name}@{manifest.version} is a parent of {', '.join(children[:5])}",
            remedy="A version that others were made of keeps its number; renumber the last one",
        )
    bundle = repository.read(manifest)
    header = bundle.header
    number = child_version(repository, header.name, [parse_reference(parent) for parent in header.parents], chosen)
    yank = repository.yank_of(manifest)

    def write(path: Path) -> Bundle:
        return write_bundle(
            path,
            name=header.name,
            version=number,
            created=header.created,
            label_set=header.label_set,
            generators=header.generators,
            license=header.license,
            records=bundle.records(),
            rejected=iter_rejected(bundle.path, header) if rejected_path(bundle.path).exists() else (),
            parents=header.parents,
            complete=header.complete,
        )

    renumbered = add_version(repository, write)
    if yank is not None:
        repository.yank(str(renumbered), yank.reason)
    repository.remove(str(manifest))
    return renumbered
