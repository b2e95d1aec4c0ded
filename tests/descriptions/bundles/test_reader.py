"""Reading bundles: as a stream, in one spelling, with the digest, and those of older format versions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonlines
import pytest
from bundle_samples import RECORDS, REJECTED, write_cat, write_sample

from abs_core.canonical import canonical_json
from abs_core.errors import BundleError
from abs_descriptions.bundles import (
    Description,
    Provenance,
    iter_records,
    iter_rejected,
    load_descriptions,
    read_bundle,
    read_header,
)
from abs_descriptions.bundles.codec import Migration
from abs_descriptions.bundles.reader import open_pass

STORED = Path(__file__).parent / "stored"


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pets.jsonl"
    bundle = write_sample(path, rejected=REJECTED)
    assert list(iter_records(path)) == RECORDS
    assert load_descriptions(path) == {"cat": RECORDS[:2], "dog": RECORDS[2:]}
    assert read_bundle(path).header == read_header(path) == bundle.header
    assert read_bundle(path) == bundle
    assert list(bundle.records()) == RECORDS
    assert bundle.descriptions() == load_descriptions(path)
    assert bundle.digest == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    assert list(iter_rejected(path, bundle.header)) == [
        REJECTED[0],
        replace(REJECTED[1], text="A d\0g\nhas \ufffd"),
    ]


def test_jsonlines_reads_it_without_this_package(tmp_path: Path) -> None:
    write_sample(tmp_path / "pets.jsonl")
    with jsonlines.open(tmp_path / "pets.jsonl") as reader:
        lines = list(reader)
    assert [line["text"] for line in lines[1:]] == [record.text for record in RECORDS]


def test_every_line_is_canonical(tmp_path: Path) -> None:
    write_sample(tmp_path / "pets.jsonl", rejected=REJECTED)
    for path in (tmp_path / "pets.jsonl", tmp_path / "pets.rejected.jsonl"):
        for line in path.read_bytes().decode().split("\n")[:-1]:
            assert canonical_json(json.loads(line)) == line


def test_stream_can_be_left_early(tmp_path: Path) -> None:
    """The end of the file is torn, and nobody who stops before it has to know."""
    path = tmp_path / "a.jsonl"
    write_sample(
        path,
        (Description(f"Text {i}.", class_id="cat", provenance=Provenance("hand", i)) for i in range(20_000)),
        complete=False,
    )
    path.write_bytes(path.read_bytes()[:-10])
    stream = iter_records(path)
    assert next(stream).text == "Text 0."
    with pytest.raises(BundleError, match=r"line 20001: .*truncated"):
        list(stream)


def test_validated_bundle_that_changed_is_refused(tmp_path: Path) -> None:
    bundle = write_sample(tmp_path / "pets.jsonl")
    write_sample(tmp_path / "pets.jsonl", license="MIT")
    with pytest.raises(BundleError, match="not the expected sha256:"):
        bundle.descriptions()


class TestMigrations:
    """A stored file of a format version that is older than today's, read through numbered steps.

    Format version 1 is the first, so the older one is invented: "licence" was "license", and a record's provenance was
    its generator alone.
    """

    @staticmethod
    def header(value: dict[str, Any]) -> dict[str, Any]:
        changed = {key: item for key, item in value.items() if key != "license"}
        return changed | {"format_version": 1, "licence": value["license"]}

    @staticmethod
    def record(value: dict[str, Any]) -> dict[str, Any]:
        return value | {"provenance": {"generator": value["provenance"], "sample": 0}}

    @staticmethod
    def read(path: Path, steps: Mapping[int, Migration]) -> list[Description]:
        with open_pass(path, steps) as reading:
            records = list(reading.records())
            reading.finish(None)
        return records

    def test_old_file_is_read_as_it_lies(self) -> None:
        path = STORED / "format-0.jsonl"
        steps = {0: Migration(self.header, self.record)}
        assert self.read(path, steps) == [
            Description("A cat has whiskers.", class_id="cat", provenance=Provenance("hand")),
            Description('A "dog" barks.', "phrase", class_id="dog", provenance=Provenance("hand")),
        ]
        with open_pass(path, steps) as reading:
            assert len(list(reading.records())) == 2
            reading.finish("sha256:" + hashlib.sha256(path.read_bytes()).hexdigest())
            assert reading.header.license == "CC0-1.0"

    def test_old_file_is_checked_before_and_after(self, tmp_path: Path) -> None:
        data = (STORED / "format-0.jsonl").read_bytes()
        steps = {0: Migration(self.header, self.record)}
        path = tmp_path / "old.jsonl"
        for old, new, words in (
            (b'"kind":"phrase"', b'"kind": "phrase"', "line 3: not in canonical form"),
            (b'"provenance":"hand"', b'"provenance":"mind"', "line 2: the generator 'mind'"),
            (b"barks", b"meows", "line 3: the records have the digest"),
            (b'"license"', b'"license" ', "line 1: not in canonical form"),
        ):
            path.write_bytes(data.replace(old, new, 1))
            with pytest.raises(BundleError, match=words):
                self.read(path, steps)

    def test_without_its_step_it_is_refused(self) -> None:
        with pytest.raises(BundleError, match="format version 0 never existed"):
            read_bundle(STORED / "format-0.jsonl")


def test_a_bundle_that_was_replaced_after_it_was_validated_is_not_read(tmp_path: Path) -> None:
    bundle = write_cat(tmp_path / "pets.jsonl", "A cat purrs.")
    write_cat(tmp_path / "pets.jsonl", "A cat barks.")
    for read in (lambda: list(bundle.records()), bundle.descriptions, bundle.label_space):
        with pytest.raises(BundleError, match="digest"):
            read()
    assert [record.text for record in read_bundle(bundle.path).records()] == ["A cat barks."]
