"""Bundles written in the formats of other tools, byte for byte the same every time."""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from abs_core.descriptions import Description, DescriptionKind
from abs_core.errors import BundleError, LabelError, UnknownNameError
from abs_core.files import atomic_write
from abs_core.labels import read_labels
from abs_core.text import escape_formula, quoted
from abs_descriptions.bundles.exchange import FORMATS, KINDS, read_external
from abs_descriptions.bundles.format import BundleHeader
from abs_descriptions.bundles.matching import match_labels
from abs_descriptions.bundles.reader import iter_records, read_header

__all__ = ["ExportCount", "export_bundle", "keys_from_file"]

#: One class for export: its label, its name, its descriptions.
Group = tuple[str, str, Sequence[Description]]


def _serialize_json(groups: Iterable[Group]) -> Iterator[bytes]:
    separator = "{"
    for label, _, records in groups:
        texts = ",\n".join("    " + json.dumps(record.text, ensure_ascii=False) for record in records)
        yield f"{separator}\n  {json.dumps(label, ensure_ascii=False)}: [\n{texts}\n  ]".encode()
        separator = ","
    yield b"\n}\n"


def _serialize_waffle(groups: Iterable[Group]) -> Iterator[bytes]:
    # As Python's json.dumps(..., indent=4) writes it, as that project's scripts do.
    separator = "{"
    for label, _, records in groups:
        texts = ",\n".join("        " + json.dumps(record.text) for record in records)
        yield f"{separator}\n    {json.dumps(label)}: [\n{texts}\n    ]".encode()
        separator = ","
    yield b"\n}"


def _serialize_lines(groups: Iterable[Group]) -> Iterator[bytes]:
    for label, _, records in groups:
        yield "".join(f"{label}\t{record.text}\n" for record in records).encode()


def _serialize_csv(groups: Iterable[Group]) -> Iterator[bytes]:
    yield b"class,name,kind,text\n"
    for label, name, records in groups:
        rows = io.StringIO()
        csv.writer(rows, lineterminator="\n").writerows(
            [escape_formula(label), escape_formula(name), record.kind, escape_formula(record.text)]
            for record in records
        )
        yield rows.getvalue().encode()


_Writer = Callable[[Iterable[Group]], Iterator[bytes]]
_WRITERS: Mapping[str, _Writer] = MappingProxyType(
    {
        "cupl": _serialize_json,
        "clip-d": _serialize_json,
        "waffle": _serialize_waffle,
        "text": _serialize_lines,
        "csv": _serialize_csv,
    }
)

# what CLIP_benchmark calls the data sets whose label sets ship under another name
_CLIP_BENCHMARK = MappingProxyType(
    {
        "imagenet": "imagenet1k",
        "stanford-cars": "cars",
        "fgvc-aircraft": "fgvc_aircraft",
        "flowers102": "flowers",
    }
)


def _serialize_templates(dataset: str, groups: Iterable[Group]) -> Iterator[bytes]:
    yield f"{{{json.dumps(dataset, ensure_ascii=False)}:\n".encode()
    yield from _serialize_json(groups)
    yield b"}\n"


@dataclass(frozen=True)
class ExportCount:
    """How many descriptions were written, and how many left out.

    Args:
        written: descriptions in the file.
        left_out: descriptions of the kind that the format does not hold.
        without_key: the ids of classes that the file of keys does not name.
    """

    written: int
    left_out: int
    without_key: tuple[str, ...] = ()


def export_bundle(
    path: Path,
    target: Path,
    format_name: str,
    *,
    key: Literal["name", "id", "source"] | Mapping[str, str] = "name",
    dataset: str | None = None,
) -> ExportCount:
    """Write the descriptions of the bundle at ``path`` in an external format. The same bundle gives the same bytes.

    ``cupl``, ``text`` and ``clip-benchmark`` hold sentences, ``clip-d`` and ``waffle`` phrases, ``csv`` both. Classes
    without a description of that kind do not appear. Classes with one key and the same descriptions are written once.
    In CSV a text that a spreadsheet would run gets an apostrophe before it. A ``target`` that is a link stays one: what
    it leads to is written.

    Args:
        key: by what a class is written; ids are always unique, names need not be. "source" is what the file called it
            that the descriptions were imported from. Or the keys themselves, by class id, as ``keys_from_file`` gives
            them: classes without one are left out. CSV has ids and names.
        dataset: what ``clip-benchmark`` calls the data set; None goes by the label set's name.

    Raises:
        UnknownNameError: no such format.
        BundleError: the bundle is broken, has no description of that kind, or two classes of one key with other
            descriptions.
        StorageError: a file cannot be read or written.
    """
    if format_name not in FORMATS:
        raise UnknownNameError("exchange format", format_name, FORMATS)
    kind = KINDS[format_name]
    header = read_header(path)
    if header.counts.records == 0:
        raise BundleError(
            f"{header.name}@{header.version} has no descriptions to export", remedy="Name a bundle that has some"
        )
    if format_name == "clip-benchmark":
        name = header.label_set.name
        writer: _Writer = partial(_serialize_templates, dataset or _CLIP_BENCHMARK.get(name, name))
    else:
        writer = _WRITERS[format_name]
    labels = _export_labels(header, key, format_name)
    tally = _Tally(header, labels)
    with atomic_write(Path(os.path.realpath(target))) as stream:
        for block in writer(tally.groups(path, kind)):
            stream.write(block)
        if tally.written == 0:
            raise BundleError(
                f"{header.name}@{header.version} has no {kind or 'description'} to export as {format_name}",
                remedy=f"Choose another format: {', '.join(name for name in FORMATS if KINDS[name] != kind)}",
            )
    return ExportCount(tally.written, tally.left_out, tuple(tally.without_key))


class _Tally:
    """The groups of a bundle for export, and how much of it they are."""

    def __init__(self, header: BundleHeader, labels: Mapping[str, str]) -> None:
        self.written = 0
        self.left_out = 0
        self.without_key: list[str] = []
        self._bundle = f"{header.name}@{header.version}"
        self._names = header.label_set.names
        self._labels = labels
        self._shared = {label for label, count in Counter(labels.values()).items() if count > 1}
        self._texts: dict[str, list[str]] = {}

    def groups(self, path: Path, kind: DescriptionKind | None) -> Iterator[Group]:
        for class_id, group in groupby(iter_records(path), key=attrgetter("class_id")):
            records = list(group)
            if class_id not in self._labels:
                self.without_key.append(class_id)
                continue
            kept = [record for record in records if kind is None or record.kind == kind]
            self.left_out += len(records) - len(kept)
            label = self._labels[class_id]
            if kept and not self._is_written(label, kept):
                self.written += len(kept)
                yield label, self._names[class_id], kept

    def _is_written(self, label: str, records: Sequence[Description]) -> bool:
        """Whether the same texts stand under this label already.

        Raises:
            BundleError: other texts do.
        """
        if label not in self._shared:
            return False
        texts = [record.text for record in records]
        if self._texts.setdefault(label, texts) is texts:
            return False
        if self._texts[label] == texts:
            return True
        raise BundleError(
            f"two classes of {self._bundle} are called {quoted(label)} and have other descriptions",
            remedy="Export with class ids as keys",
        )


def keys_from_file(file: Path, bundle: Path) -> tuple[dict[str, str], list[str]]:
    """The keys under which another file has the classes of a bundle, to write the bundle under the same ones.

    Args:
        file: descriptions in JSON, or a file of class names.
        bundle: whose classes, with their names and aliases, the keys are matched with.

    Returns:
        Class id to key, and the keys that name no class of the bundle.

    Raises:
        BundleError, LabelError: a file that is neither; a key that could mean several classes.
        StorageError: a file cannot be read.
    """
    labels = _labels_of(file)
    matching = match_labels(labels, read_header(bundle).label_set)
    keys: dict[str, str] = {}
    for label, ids in matching.matched.items():
        for class_id in ids:
            keys.setdefault(class_id, label)
    return keys, [*matching.unknown, *matching.ambiguous]


def _labels_of(file: Path) -> list[str]:
    if file.suffix.lower() == ".json":
        try:
            return [text.label for text in read_external(file, "cupl")]
        except BundleError as error:
            failure = error
        try:
            return [text.label for text in read_external(file, "clip-benchmark")]
        except BundleError:
            pass
        try:
            return [label.name for label in read_labels(file).classes]
        except LabelError:
            raise failure from None
    return [label.name for label in read_labels(file).classes]


def _export_labels(
    header: BundleHeader, key: Literal["name", "id", "source"] | Mapping[str, str], format_name: str
) -> Mapping[str, str]:
    classes = header.label_set.classes
    if key == "id" or format_name == "csv":
        return {entry.id: entry.id for entry in classes}
    if not isinstance(key, str):
        return dict(key)
    names = {entry.id: entry.name for entry in classes}
    return names if key == "name" else names | _source_labels(header)


def _source_labels(header: BundleHeader) -> dict[str, str]:
    """Class id to the label of an imported file, where that is not its name."""
    labels: dict[str, str] = {}
    for generator in header.generators:
        stated = generator.parameters.get("labels") if generator.backend == "import" else None
        for label, ids in stated.items() if isinstance(stated, dict) else ():
            for class_id in ids if isinstance(ids, list) else ():
                if isinstance(class_id, str) and class_id in header.label_set.names:
                    labels.setdefault(class_id, label)
    return labels
