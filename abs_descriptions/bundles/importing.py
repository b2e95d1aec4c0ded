"""Files from elsewhere into a repository: description files of other tools, bundles, and archives of bundles."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

from abs_core.errors import BundleError, LabelError, UsageError
from abs_core.files import ensure_writable
from abs_core.labels import LabelEntry, LabelSet, build_label_set
from abs_core.text import printable, quoted
from abs_descriptions.bundles.archives import ARCHIVES, unpack_bundles
from abs_descriptions.bundles.exchange import (
    ExternalText,
    LabelMatching,
    import_generator,
    match_labels,
    read_external,
    to_records,
)
from abs_descriptions.bundles.manifest import Manifest
from abs_descriptions.bundles.reader import Bundle, read_bundle
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.versions import add_version, timestamp
from abs_descriptions.bundles.writer import write_bundle

__all__ = ["holds_bundles", "import_bundles", "import_descriptions"]

_logger = logging.getLogger(__name__)
_FORMAT_BY_SUFFIX = {".json": "cupl", ".tsv": "text", ".txt": "text", ".csv": "csv"}
_NOT_STATED = "not stated"


def import_descriptions(
    repository: Repository,
    file: Path,
    *,
    name: str,
    format_name: str | None = None,
    label_set: LabelSet | None = None,
    license: str = _NOT_STATED,
    source: str = _NOT_STATED,
) -> Manifest:
    """Read another tool's file, match its classes and add the descriptions as a new version of a bundle.

    Which class each label of the file means is logged before anything is refused.

    Args:
        repository: a local store.
        file: what to read.
        name: of the bundle.
        format_name: of the file, one of ``exchange.FORMATS``; None goes by its ending.
        label_set: to match with; None takes the file's own labels as classes, with the names it states.
        license: of the texts.
        source: who or what wrote them.

    Raises:
        UsageError: an ending that says nothing.
        BundleError: a broken file, or a label that names no class or several.
        LabelError: a file that gives one class two names.
        StorageError: the store cannot be written.
    """
    chosen = format_name or _FORMAT_BY_SUFFIX.get(file.suffix.lower())
    if chosen is None:
        raise UsageError(f"the ending of {file.name!r} does not say its format", remedy="Give --format")
    texts = read_external(file, chosen)
    labels = _stated_labels(file, texts, name) if label_set is None else label_set
    matching = match_labels([text.label for text in texts], labels)
    _log_matching(matching, labels)
    matching.check()
    generator = import_generator(file, chosen).model_copy(update={"model": source})
    records, rejected = to_records(texts, matching, generator.id)
    version = repository.next_version(name)

    def write(path: Path) -> Bundle:
        return write_bundle(
            path,
            name=name,
            version=version,
            created=timestamp(),
            label_set=labels,
            generators=[generator],
            license=license,
            records=records,
            rejected=rejected,
            complete=len({record.class_id for record in records}) == len(labels.classes),
        )

    return add_version(repository, write)


def holds_bundles(file: Path) -> bool:
    """Whether the name of a file says that it is a bundle or an archive of bundles."""
    return file.name.lower().endswith((".jsonl", *ARCHIVES))


def import_bundles(repository: Repository, file: Path) -> list[Manifest]:
    """Add a bundle, or all bundles of an archive, as they are: all of them or none.

    Raises:
        BundleError: a broken bundle or archive, or a version that the repository has with another digest.
        StorageError: a file cannot be read or written.
    """
    if file.name.lower().endswith(".jsonl"):
        return [repository.add(file)]
    if repository.root is not None:
        ensure_writable(repository.root)
    with tempfile.TemporaryDirectory(dir=repository.root, prefix=".import-") as folder:
        unpacked = unpack_bundles(file, Path(folder))
        for name in unpacked.ignored:
            _logger.info("left out: %s", name)
        try:
            bundles = [read_bundle(path) for path in unpacked.bundles]
            _refuse_conflicts(repository, bundles)
            return [repository.add(bundle.path) for bundle in bundles]
        except BundleError as error:
            # The user knows the archive, not where it was unpacked.
            message = error.message.replace(printable(folder), printable(str(file)))
            raise BundleError(message, remedy=error.remedy) from None


def _refuse_conflicts(repository: Repository, bundles: Sequence[Bundle]) -> None:
    digests: dict[str, str] = {}
    for bundle in bundles:
        version = f"{bundle.header.name}@{bundle.header.version}"
        repository.refuse_conflict(Manifest.of(bundle.header, bundle.digest, bundle.path.stat().st_size))
        if digests.setdefault(version, bundle.digest) != bundle.digest:
            raise BundleError(
                f"{printable(str(bundle.path))}: {version} appears twice in this archive, with different bytes",
                remedy="Ask which of the two is meant",
            )


def _log_matching(matching: LabelMatching, label_set: LabelSet) -> None:
    _logger.info(
        "%d labels matched with %d classes of %s:", len(matching.matched), len(label_set.classes), label_set.name
    )
    for label, class_id in matching.matched.items():
        name = label_set.names[class_id]
        _logger.info("  %s -> %s%s", label, class_id, "" if name == label else f" ({name})")
    for label, ids in matching.ambiguous.items():
        _logger.info("  %s -> several: %s", label, ", ".join(ids))
    for label in matching.unknown:
        _logger.info("  %s -> no class", label)
    if matching.missing:
        shown = ", ".join(matching.missing[:10]) + (", ..." if len(matching.missing) > 10 else "")
        _logger.warning("%d classes get no description: %s", len(matching.missing), shown)


def _stated_labels(file: Path, texts: Sequence[ExternalText], name: str) -> LabelSet:
    """The labels of a file as classes: where it states a name beside a label, the label is the id."""
    where, remedy = printable(str(file)), "Correct the file, or name a label set with --labels"
    names: dict[str, str | None] = {}
    for text in texts:
        stated = names.get(text.label)
        if stated and text.name and stated != text.name:
            raise LabelError(
                f"{where} gives the class {quoted(text.label)} two names, {quoted(stated)} and {quoted(text.name)}",
                remedy=remedy,
            )
        names[text.label] = stated or text.name
    entries = (
        LabelEntry(f"{where}, class {position}", stated or label, stated and label)
        for position, (label, stated) in enumerate(names.items(), 1)
    )
    try:
        return build_label_set(entries, where=where, name=name, source="a list of names")
    except LabelError as error:
        raise LabelError(error.message, remedy=remedy) from None
