"""Bundles as a user names them: a file, a reference to the local store, or a bundle that ships with the toolkit."""

from __future__ import annotations

from pathlib import Path

from abs_core.errors import BundleError, UnknownNameError, UsageError
from abs_core.files import data_folder, is_file
from abs_descriptions.bundles.reader import Bundle, read_bundle
from abs_descriptions.bundles.references import parse_reference
from abs_descriptions.bundles.repository import Repository

__all__ = ["find_bundle", "is_bundle_name", "refuse_shipped", "shipped_bundles"]


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
        return read_bundle(path)
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
        remedy = "See `abs bundle ls`, or write one with `abs gen-descriptions LABELS --name NAME`"
        raise UnknownNameError("bundle", reference, names, remedy=remedy) from error
    repository.warn_if_yanked(manifest)
    return repository.read(manifest)


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
