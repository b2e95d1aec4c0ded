"""Files from elsewhere into a repository: description files of other tools, bundles, and archives of bundles."""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from abs_core.class_names import name_remarks
from abs_core.descriptions import Description, Rejection
from abs_core.errors import BundleError, LabelError, UsageError
from abs_core.files import ensure_writable, storage_errors
from abs_core.labels import LabelEntry, LabelSet, build_label_set
from abs_core.remarks import RemarkCounter
from abs_core.text import printable, quoted
from abs_descriptions.bundles.archives import ARCHIVES, unpack_bundles
from abs_descriptions.bundles.edited import apply_edits, find_edited
from abs_descriptions.bundles.exchange import ExternalText, import_generator, read_external, to_records
from abs_descriptions.bundles.format import Generator
from abs_descriptions.bundles.manifest import Manifest
from abs_descriptions.bundles.matching import LabelMatching, match_labels, read_mapping
from abs_descriptions.bundles.reader import Bundle, read_bundle
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.versions import add_version, child_version, find_bundle, timestamp
from abs_descriptions.bundles.writer import write_bundle

__all__ = ["holds_bundles", "import_bundles", "import_descriptions", "recognized_format"]

_logger = logging.getLogger(__name__)
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
    mapping: Path | None = None,
    skip_unknown: bool = False,
    parent: str | None = None,
    version: str | None = None,
) -> Manifest:
    """Read another tool's file, match its classes and add the descriptions as a new version of a bundle.

    Which class each label of the file means is logged before anything is refused. What was not simply the id or the
    name of one class, and what was left out, is in the parameters of the bundle's generator too.

    An export that was changed by hand becomes a child of its bundle, in which what was not changed keeps where it comes
    from (``edited``): of ``parent``, or, for a CSV, of the newest version of this name if half of the texts are its.

    Args:
        repository: a local store.
        file: what to read.
        name: of the bundle.
        format_name: of the file, one of ``exchange.FORMATS``; None goes by its ending and its texts.
        label_set: to match with; None takes the file's own labels as classes, with the names it states.
        license: of the texts.
        source: who or what wrote them.
        mapping: a file that says which class a label means (``matching.read_mapping``).
        skip_unknown: whether labels that name no class, or that could mean several, are left out.
        parent: the bundle that the file was exported from.
        version: of the bundle, as ``child_version`` takes it.

    Raises:
        UsageError: a file whose format its ending and its texts leave open, or a version that cannot be.
        BundleError: a broken file, or a label that names no class or several.
        LabelError: a file that gives one class two names. StorageError: the store cannot be written.
    """
    chosen, texts = recognized_format(file) if format_name is None else (format_name, read_external(file, format_name))
    _refuse_templates(file, texts)
    origin = _origin(repository, name, chosen, texts, label_set, parent)
    if label_set is None and origin is None and (mapping is not None or skip_unknown):
        raise UsageError("--mapping and --skip-unknown need --labels", remedy="Name the label set with --labels")
    labels = label_set or (_stated_labels(file, texts, name) if origin is None else origin.header.label_set)
    matching = _matched(texts, labels, mapping, skip_unknown=skip_unknown)
    generator = import_generator(file, chosen, matching, labels.names).model_copy(update={"model": source})
    if origin is not None:
        return _add_edited(repository, name, version, origin, generator, texts, matching, license)
    records, rejected = to_records(texts, matching, generator.id)
    described = {record.class_id for record in records}
    if not records:
        raise BundleError(
            f"{printable(str(file))} has no text for a class of the label set {quoted(labels.name)}",
            remedy="Name the label set of its classes with --labels, or correct the file",
        )
    _log_unusable(rejected, [entry.id for entry in labels.classes if entry.id not in {*described, *matching.missing}])
    content = _Content(labels, [generator], license, records, rejected, [], len(described) == len(labels.classes))
    return _add(repository, name, child_version(repository, name, chosen=version), content)


@dataclass(frozen=True)
class _Content:
    labels: LabelSet
    generators: Sequence[Generator]
    license: str
    records: Sequence[Description]
    rejected: Sequence[Rejection]
    parents: Sequence[str]
    complete: bool


def _add(repository: Repository, name: str, version: str, content: _Content) -> Manifest:
    def write(path: Path) -> Bundle:
        return write_bundle(
            path,
            name=name,
            version=version,
            created=timestamp(),
            label_set=content.labels,
            generators=content.generators,
            license=content.license,
            records=content.records,
            rejected=content.rejected,
            parents=content.parents,
            complete=content.complete,
        )

    return add_version(repository, write)


def _origin(
    repository: Repository,
    name: str,
    format_name: str,
    texts: Sequence[ExternalText],
    label_set: LabelSet | None,
    parent: str | None,
) -> Bundle | None:
    """The bundle that the file was exported from, if one is named or recognized."""
    origin = find_edited(repository, name, texts) if parent is None else find_bundle(repository, parent)
    if origin is not None and parent is None and format_name != "csv":
        # Other formats say less of a bundle, so nothing is taken for gone without being told.
        _logger.warning(
            "half of the texts are those of %s: --parent %s@%s keeps their provenance",
            origin.reference, origin.header.name, origin.header.version,
        )  # fmt: skip
        return None
    if origin is not None and label_set is not None and label_set.digest != origin.header.label_set.digest:
        if parent is None:
            return None
        raise UsageError(
            f"{printable(origin.reference)} has another label set than --labels",
            remedy="Leave out --labels or --parent",
        )
    return origin


def _add_edited(
    repository: Repository,
    name: str,
    version: str | None,
    parent: Bundle,
    generator: Generator,
    texts: Sequence[ExternalText],
    matching: LabelMatching,
    license: str,
) -> Manifest:
    """The child of ``parent`` that a changed export describes; ``parent`` itself if nothing was changed."""
    existing = {entry.id for entry in parent.header.generators}
    numbered = (f"{generator.id}-{number}" for number in count(2))
    free = next(candidate for candidate in chain([generator.id], numbered) if candidate not in existing)
    editor = generator.model_copy(update={"id": free})
    given, unusable = to_records(texts, matching, editor.id)
    edited = apply_edits(parent, given, unusable, editor.id, str(generator.parameters["format"]))
    if edited.is_unchanged:
        _logger.info("the file has the content of %s, so there is no new version", parent.reference)
        return Manifest.of(parent.header, parent.digest, parent.path.stat().st_size)
    _logger.info(
        "a changed export of %s: %d kept, %d edited, %d new, %d gone",
        parent.reference, edited.kept, edited.edited, edited.added, edited.removed,
    )  # fmt: skip
    described = {record.class_id for record in edited.records}
    content = _Content(
        parent.header.label_set,
        [*parent.header.generators, editor],
        parent.header.license if license == _NOT_STATED else license,
        edited.records,
        edited.rejected,
        [parent.reference],
        parent.header.complete and len(described) == len(parent.header.label_set.classes),
    )
    return _add(repository, name, child_version(repository, name, [parent.header], version), content)


def _matched(
    texts: Sequence[ExternalText], labels: LabelSet, mapping: Path | None, *, skip_unknown: bool
) -> LabelMatching:
    """What the labels of a file mean, logged and then checked."""
    stated = list(dict.fromkeys(text.label for text in texts))
    given = {} if mapping is None else read_mapping(mapping, labels)
    matching = match_labels(stated, labels, given)
    if skip_unknown:
        matching = matching.without_unknown()
    _log_matching(matching, labels)
    unused = [label for label in given if label not in set(stated)]
    if unused:
        _logger.warning("%d labels of the mapping are not in the file, such as %s", len(unused), unused[0])
    matching.check()
    return matching


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
        "%d labels matched with %d classes of %s", len(matching.matched), len(label_set.classes), label_set.name
    )
    for label, ids in matching.matched.items():
        names = dict.fromkeys(label_set.names[class_id] for class_id in ids)
        if [*ids] == [label] == [*names]:
            continue  # a thousand lines that say nothing would hide those that do
        _logger.info("  %s -> %s%s", label, ", ".join(ids), "" if [*names] == [label] else f" ({', '.join(names)})")
    for label, ids in matching.ambiguous.items():
        _logger.info("  %s -> several: %s", label, ", ".join(ids))
    for label in matching.unknown:
        _logger.info("  %s -> no class", label)
    for remark in matching.remarks():
        log = _logger.info if remark.kind.startswith("matched") else _logger.warning
        log("%s", remark)
    if matching.missing:
        shown = ", ".join(matching.missing[:10]) + (", ..." if len(matching.missing) > 10 else "")
        _logger.warning("%d classes get no description: %s", len(matching.missing), shown)


def _log_unusable(rejected: Sequence[Rejection], empty: Sequence[str]) -> None:
    """Which texts of a file are no descriptions of the bundle, and which of its classes have none for it."""
    counter = RemarkCounter()
    for rejection in rejected:
        counter.add(f"left out as {rejection.detail or 'a duplicate'}: a text of", rejection.class_id)
    for class_id in empty:
        counter.add("without a text that can be used: the class", class_id)
    for remark in counter.remarks:
        _logger.warning("%s", remark)


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
        labels = build_label_set(entries, where=where, name=name, source="a list of names")
    except LabelError as error:
        raise LabelError(error.message, remedy=remedy) from None
    for remark in name_remarks(labels.classes):
        _logger.warning("%s; --labels names a label set", remark)
    return labels


_PLACEHOLDER = re.compile(r"\{[A-Za-z_]{0,20}\}|%s")


def _refuse_templates(file: Path, texts: Sequence[ExternalText]) -> None:
    """Texts with a place for the class name are no descriptions, and would be used as they are written.

    Raises:
        BundleError: half of the texts are so.
    """
    templates = [text.text for text in texts if _PLACEHOLDER.search(text.text)]
    if templates and 2 * len(templates) >= len(texts):
        raise BundleError(
            f"{printable(str(file))} holds templates, {len(templates)} of {len(texts)} texts: {quoted(templates[0])}",
            remedy="Write them one on each line of a file for `abs eval --templates FILE`, or fill in the class names",
        )


_FORMAT_BY_SUFFIX = {".json": "cupl", ".tsv": "text", ".txt": "text", ".csv": "csv"}
_CLEAR, _RARE = 0.8, 0.1

_SENTENCE_END = re.compile(r"[.!?…。！？।؟۔][\"'”’»)\]]*$")


def recognized_format(file: Path) -> tuple[str, list[ExternalText]]:
    """The format of a file, and its texts read in it. What was recognized by the texts is logged.

    Sentences and descriptors have one form in JSON, and are used in different ways: texts that are clearly descriptors
    are read as such, clear sentences as sentences, and what is neither is not guessed.

    Raises:
        UsageError: an ending or texts that leave the format open.
        BundleError: a broken file.
        StorageError: the file cannot be read.
    """
    chosen = _FORMAT_BY_SUFFIX.get(file.suffix.lower())
    if chosen is None:
        raise UsageError(f"the ending of {file.name!r} does not say its format", remedy="Give --format")
    if chosen == "cupl" and _holds_templates(file):
        _logger.info("read as clip-benchmark: class-specific templates of a data set")
        return "clip-benchmark", read_external(file, "clip-benchmark")
    texts = read_external(file, chosen)
    open_texts = [text for text in texts if text.text.strip() and not text.states_kind]
    sentences, phrases = _looks_of(open_texts)
    total = len(open_texts)
    if not total:
        return chosen, texts
    shown = f"{phrases} of {total} texts look like phrases, {sentences} like sentences"
    if phrases >= _CLEAR * total and sentences <= _RARE * total:
        return _as_phrases(chosen, file, shown)
    if sentences < _CLEAR * total and chosen == "cupl":
        raise UsageError(
            f"{printable(file.name, 80)!r} could hold sentences or phrases: {shown}",
            remedy="Give --format cupl (sentences) or --format clip-d (phrases)",
        )
    return chosen, texts


def _as_phrases(chosen: str, file: Path, shown: str) -> tuple[str, list[ExternalText]]:
    if chosen == "cupl":
        _logger.info("read as clip-d: %s; --format cupl reads them as sentences", shown)
        return "clip-d", read_external(file, "clip-d")
    raise UsageError(
        f"{printable(file.name, 80)!r} holds phrases where {chosen} without a kind holds sentences: {shown}",
        remedy=f"Give --format {chosen} if they are sentences, or a CSV with the column kind",
    )


def _looks_of(texts: Sequence[ExternalText]) -> tuple[int, int]:
    """How many texts look like sentences, and how many like phrases.

    A sentence has an end mark; a phrase has none and begins with a small letter or a number. Others may be either, as
    in scripts without capitals.
    """
    sentences = phrases = 0
    for text in texts:
        stripped = text.text.strip()
        if _SENTENCE_END.search(stripped[-8:]):
            sentences += 1
        elif stripped and (stripped[0].islower() or stripped[0].isdigit()):
            phrases += 1
    return sentences, phrases


# an object whose first value is an object too
_NESTED = re.compile(rb'(?:\xef\xbb\xbf)?\s*\{\s*"(?:[^"\\]|\\.)*"\s*:\s*\{', re.DOTALL)


def _holds_templates(file: Path) -> bool:
    """Whether a JSON file has an object where descriptions have a list; the rest is checked when it is read."""
    with storage_errors(file, "read"):
        if not file.is_file():
            return False
        with file.open("rb") as stream:
            return _NESTED.match(stream.read(64 * 1024)) is not None
