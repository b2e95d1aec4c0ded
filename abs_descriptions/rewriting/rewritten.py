"""What is kept of a rewriting: a child version with the chosen descriptions, or a review file that proposes them.

In the child each new record points to a generator of its own pair of classes: the language model with its parameters
and prompt set, and in ``parameters.confusion`` how many images confuse the two. One more generator, of the backend
``rewrite``, says how was chosen and what was measured. What was written and not chosen goes to the rejected
completions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from abs_core.canonical import digest
from abs_core.descriptions import Description, Rejection
from abs_core.errors import UsageError
from abs_core.files import atomic_write, storage_errors
from abs_core.text import counted
from abs_descriptions.bundles import Bundle, BundleHeader, Generator
from abs_descriptions.bundles.reader import iter_rejected, rejected_path
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.review_file import COLUMNS, row_id, serialize_table
from abs_descriptions.bundles.versions import (
    add_version,
    child_version,
    find_same_version,
    shipped_bundles,
    timestamp,
)
from abs_descriptions.bundles.writer import write_bundle
from abs_descriptions.generation.cleaning import RejectionReason
from abs_descriptions.rewriting.candidates import Candidate, WrittenCandidates

__all__ = ["add_rewritten", "rewriter", "write_proposals"]


def rewriter(header: BundleHeader, measured: Mapping[str, JsonValue]) -> Generator:
    """The generator that chose among the new descriptions, with what it measured."""
    parameters = dict(measured)
    short = digest([header.records_digest, parameters]).removeprefix("sha256:")[:12]
    model = parameters.pop("model", "")
    return Generator(id=f"rewrite-{short}", backend="rewrite", model=str(model) or "none", parameters=parameters)


def add_rewritten(
    repository: Repository,
    parent: Bundle,
    chosen: Sequence[Candidate],
    candidates: Sequence[Candidate],
    written: WrittenCandidates,
    chooser: Generator,
    *,
    name: str,
    version: str | None,
) -> tuple[str, bool]:
    """Add the child version with the chosen descriptions behind those of the parent.

    A child that the repository has already is not written twice.

    Args:
        repository: a local store.
        parent: the bundle that was rewritten.
        chosen: what the child gets.
        candidates: all that was written; the others go to the rejected completions.
        written: with generators and rejections.
        chooser: what chose.
        name, version: of the child; the version as ``child_version`` takes it.

    Returns:
        The pinned reference, and whether it was written now.

    Raises:
        BundleError, StorageError, UsageError: it cannot be written.
    """
    refused = [entry.description for entry in candidates if entry not in chosen]
    header = parent.header
    generators = _joined([*header.generators, *written.generators, chooser])

    def write(path: Path, number: str, created: str) -> Bundle:
        return write_bundle(
            path,
            name=name,
            version=number,
            created=created,
            label_set=header.label_set,
            generators=generators,
            license=header.license,
            records=_records(parent, [entry.description for entry in chosen]),
            rejected=_rejections(parent, written.rejected, refused),
            parents=[parent.reference],
            complete=header.complete,
        )

    number = child_version(repository, name, [header], version)
    same = find_same_version(repository, name, header.counts.records + len(chosen), write)
    if same is not None:
        return str(same), False
    versions = {manifest.version for manifest in repository.list(header.name)}
    if parent.path in shipped_bundles().values() and header.version not in versions:
        repository.add(parent.path)  # so that child and parent can be pushed together
    return str(add_version(repository, lambda path: write(path, number, timestamp()))), True


def _joined(generators: Iterable[Generator]) -> list[Generator]:
    """Each generator once; an id follows from what it stands for, so one that is there already is the same."""
    return list({generator.id: generator for generator in generators}.values())


def _records(parent: Bundle, new: Sequence[Description]) -> Iterator[Description]:
    yield from parent.records()
    yield from new


def _rejections(parent: Bundle, rejected: Iterable[Rejection], refused: Iterable[Description]) -> Iterator[Rejection]:
    if rejected_path(parent.path).exists():
        yield from iter_rejected(parent.path, parent.header)
    yield from rejected
    for record in refused:
        yield Rejection(record.class_id, record.text, RejectionReason.NO_GAIN.value, record.provenance)


def write_proposals(parent: Bundle, candidates: Sequence[Candidate], folder: Path) -> list[Path]:
    """Write the review file of a bundle with the new descriptions as rows of the decision ``add``.

    A reviewer deletes the rows of descriptions that are not to be added. The column ``why`` has the pair of classes
    and its images, and is not read back.

    Returns:
        The path of the file.

    Raises:
        UsageError: the folder has another file of that name, which may be somebody's work.
        BundleError, StorageError: the bundle is no longer the validated one; a file cannot be read or written.
    """
    names = parent.header.label_set.names
    path = folder / f"{parent.header.name}-{parent.header.version}-proposals.csv"
    existing = [
        (parent.reference, row_id(record), record.class_id, names[record.class_id], record.kind, record.text)
        for record in parent.records()
    ]
    rows = [(*cells, "", "", "", "") for cells in existing]
    for entry in candidates:
        record = entry.description
        cells = (parent.reference, "", record.class_id, names[record.class_id], record.kind, "", "add", record.text)
        rows.append((*cells, "", _why(entry, names)))
    data = b"".join(serialize_table((*COLUMNS, "why"), rows))
    with storage_errors(path, "read"):
        if path.exists() and path.read_bytes() != data:
            raise UsageError(f"{str(path)!r} exists and says something else", remedy="Name another folder, or move it")
    with atomic_write(path) as stream:
        stream.write(data)
    return [path]


def _why(entry: Candidate, names: Mapping[str, str]) -> str:
    """The reason of a proposal, in words."""
    confusion = entry.confusion
    count = counted(confusion.images, "image wavers", "images waver")
    return f"{count} between {names[confusion.first]} and {names[confusion.second]}"
