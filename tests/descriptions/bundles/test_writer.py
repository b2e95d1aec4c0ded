"""Writing bundles: exact bytes, the order of records, rejected completions, and what is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from bundle_samples import CREATED, HAND, MODEL, PETS, RECORDS, REJECTED, REQUEST, write_sample

from abs_core.errors import BundleError, StorageError
from abs_core.labels import ClassLabel, LabelSet, from_names
from abs_descriptions.bundles import (
    Description,
    Provenance,
    Rejection,
    iter_rejected,
    load_descriptions,
    read_bundle,
    rejected_path,
)

STORED = Path(__file__).parent / "stored"


def test_bytes_are_the_stored_ones(tmp_path: Path) -> None:
    """Format version 1 never changes: this file was written by the first release that had it."""
    bundle = write_sample(tmp_path / "pets.jsonl", rejected=REJECTED, parents=["pets@0.9.0#" + REQUEST])
    assert (tmp_path / "pets.jsonl").read_bytes() == (STORED / "format-1.jsonl").read_bytes()
    assert (tmp_path / "pets.rejected.jsonl").read_bytes() == (STORED / "format-1.rejected.jsonl").read_bytes()
    assert (
        bundle.reference == "pets@1.0.0#sha256:" + hashlib.sha256((STORED / "format-1.jsonl").read_bytes()).hexdigest()
    )


def test_lines_are_exactly_these(tmp_path: Path) -> None:
    write_sample(tmp_path / "pets.jsonl")
    header, *lines = (tmp_path / "pets.jsonl").read_text(encoding="utf-8").split("\n")
    assert lines == [
        '{"class":"cat","kind":"sentence","provenance":{"generator":"model","prompt":"looks","request":"' + REQUEST
        + '","sample":0},"scores":{"a":0.25,"b":1},"text":"A cat has whiskers."}',
        '{"class":"cat","kind":"sentence","provenance":{"generator":"model","prompt":"looks","sample":1},'
        '"text":"Its eyes are called \\"slit-eyed\\" \\\\ green."}',
        '{"class":"dog","id":"d-1","kind":"phrase","provenance":{"generator":"hand","sample":0},'
        '"text":"un museau d\'épagneul 🐕"}',
        "",
    ]  # fmt: skip
    body = "\n".join(lines).encode()
    assert json.loads(header) == {
        "format": "abs-descriptions",
        "format_version": 1,
        "name": "pets",
        "version": "1.0.0",
        "created": CREATED,
        "label_set": {
            "name": "pets",
            "version": "2.1.0",
            "classes": [
                {"id": "cat", "name": "cat", "note": "Felis catus."},
                {"id": "dog", "name": "dog", "group": "canine"},
            ],
            "digest": PETS.digest,
        },
        "generators": [
            {
                "id": "model",
                "backend": "local",
                "model": "SmolLM2-135M-Instruct",
                "parameters": {"temperature": 0.7, "stop": None, "seed": 3},
                "prompts": {"id": "animals", "version": "1.2.0", "digest": "sha256:" + "cd" * 32},
            },
            {"id": "hand", "backend": "hand", "model": "not stated", "parameters": {}},
        ],
        "licence": "CC0-1.0",
        "parents": [],
        "complete": True,
        "counts": {"classes": 2, "records": 3, "rejected": 0},
        "records_digest": "sha256:" + hashlib.sha256(body).hexdigest(),
        "rejected_digest": "sha256:" + hashlib.sha256(b"").hexdigest(),
    }


def test_order_of_arrival_does_not_change_the_order_of_classes(tmp_path: Path) -> None:
    many = [
        Description(f"Text {i}.", class_id="cat" if i % 3 else "dog", provenance=Provenance("hand", i))
        for i in range(1000)
    ]
    write_sample(tmp_path / "mixed.jsonl", many)
    write_sample(tmp_path / "sorted.jsonl", sorted(many, key=lambda record: record.class_id))
    assert (tmp_path / "mixed.jsonl").read_bytes() == (tmp_path / "sorted.jsonl").read_bytes()
    loaded = load_descriptions(tmp_path / "mixed.jsonl")
    assert [r.provenance.sample for r in loaded["dog"]] == list(range(0, 1000, 3))


def test_strings_are_brought_to_nfc(tmp_path: Path) -> None:
    labels = LabelSet("cafe\u0301", (ClassLabel("cafe\u0301", "cafe\u0301"),))
    record = Description(
        "A cafe\u0301.", class_id="cafe\u0301", provenance=Provenance("hand", 0, "cafe\u0301"), id="cafe\u0301"
    )
    bundle = write_sample(tmp_path / "a.jsonl", [record], label_set=labels, license="cafe\u0301")
    [read] = bundle.records()
    assert (read.class_id, read.text, read.provenance.prompt, read.id) == ("café", "A café.", "café", "café")
    assert bundle.header.label_set.classes[0].name == bundle.header.license == "café"
    assert b"e\xcc\x81" not in (tmp_path / "a.jsonl").read_bytes()


def test_label_set_digest_is_that_of_the_label_set(tmp_path: Path) -> None:
    labels = from_names(["Zürich", "a cat", "東京"], name="mixed")
    bundle = write_sample(tmp_path / "a.jsonl", [], label_set=labels, complete=False)
    stored = bundle.header.label_set
    assert stored.classes == labels.classes
    assert bundle.header.label_set_entry.digest == stored.digest == labels.digest
    again = write_sample(tmp_path / "b.jsonl", [], label_set=stored, complete=False)
    assert again.digest == bundle.digest


def test_rejected_file_is_there_only_if_something_was_rejected(tmp_path: Path) -> None:
    path = tmp_path / "pets.jsonl"
    assert rejected_path(path) == tmp_path / "pets.rejected.jsonl"
    header = write_sample(path).header
    assert not rejected_path(path).exists()
    assert list(iter_rejected(path, header)) == []
    write_sample(path, rejected=REJECTED)
    assert rejected_path(path).exists()
    write_sample(path)
    assert not rejected_path(path).exists()
    assert read_bundle(path).header == header


def test_long_rejected_text_is_cut_and_fits(tmp_path: Path) -> None:
    path = tmp_path / "pets.jsonl"
    # U+0958 takes two characters in NFC, a control character takes six in JSON.
    texts = ["x" * 200_000, "\u0958" * 100_000, "\x01" * 100_000, "🐕" * 150_000]
    write_sample(path, rejected=[Rejection("cat", text, "loop", Provenance("hand", i)) for i, text in enumerate(texts)])
    read = list(iter_rejected(path, read_bundle(path).header))
    assert [len(rejection.text) for rejection in read] == [100_000] * 4
    assert [rejection.text[-1] == "…" for rejection in read] == [True, True, False, True]


def test_partial_bundle_says_so(tmp_path: Path) -> None:
    bundle = write_sample(tmp_path / "a.jsonl", RECORDS[:2], complete=False)
    assert not bundle.header.complete
    assert (bundle.header.counts.classes, bundle.header.counts.records) == (1, 2)
    assert set(load_descriptions(tmp_path / "a.jsonl")) == {"cat"}
    empty = write_sample(tmp_path / "b.jsonl", [], complete=False)
    assert list(empty.records()) == []


HERE = Provenance("hand")


def cat(text: str, kind: Any = "sentence", **fields: Any) -> Description:
    """A description that keeps every rule but for the fields given."""
    return Description(text, kind, **{"class_id": "cat", "provenance": HERE, **fields})


REFUSED: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "a text twice": ([*RECORDS, RECORDS[0]], {}, "class 'cat': the text 'A cat has whiskers.' appears twice"),
    "a text twice after NFC": (
        [cat("caf\u00e9"), cat("cafe\u0301")], {}, "the text 'café' appears twice"),
    "an id twice": (
        [*RECORDS, cat("A dog.", class_id="dog", id="d-1")], {}, "class 'dog': the id 'd-1' appears twice"),
    "an unknown class": ([cat("A wolf.", class_id="wolf")], {}, "record 1: the class 'wolf' is not in the label"),
    "an unknown generator": ([cat("A.", provenance=Provenance("x"))], {}, "record 1: the generator 'x'"),
    "no class": ([cat("A.", class_id="")], {}, "record 1: the class '' is not in the label set"),
    "no provenance": ([Description("A.", class_id="cat")], {}, "record 1: the generator '' is not in the header"),
    "an empty text": ([*RECORDS, cat("")], {}, "record 4: the text is empty"),
    "a line break": ([cat("a\nb")], {}, "line break"),
    "a NUL": ([cat("a\0b")], {}, "NUL"),
    "a lone surrogate": ([cat("a\ud800b")], {}, "lone surrogate"),
    "a text too long": ([cat("é" * 4001)], {}, "longer than 4000"),
    "a number as text": ([cat(cast("Any", 7))], {}, "wrong type"),
    "a kind": ([cat("a", "poem")], {}, "kind"),
    "NaN": ([cat("a", scores={"a": float("nan")})], {}, "finite"),
    "a huge integer": ([cat("a", scores={"a": 2**60})], {}, "finite number of double precision"),
    "a score name": ([cat("a", scores={"a\"b": 1.0})], {}, "score name"),
    "a truth value as sample": ([cat("a", provenance=Provenance("hand", True))], {}, "sample"),
    "a request": ([cat("a", provenance=Provenance("hand", 0, None, "abc"))], {}, "request"),
    "a class without records": (RECORDS[:2], {}, "complete but describes 1 of 2"),
    "a name that climbs": (RECORDS, {"name": "../pets"}, "name: "),
    "a range for a version": (RECORDS, {"version": "^1.0.0"}, "version: "),
    "build metadata": (RECORDS, {"version": "1.0.0+x"}, "version: "),
    "no UTC time": (RECORDS, {"created": "2025-01-31T12:00:00+01:00"}, "created: "),
    "a parent that is not pinned": (RECORDS, {"parents": ["pets@1.0.0"]}, "names no digest"),
    "no licence": (RECORDS, {"license": ""}, "licence: "),
    "a generator twice": (RECORDS, {"generators": [MODEL, HAND, HAND]}, "'hand' appears twice"),
    "a secret in a URL": (
        RECORDS,
        {"generators": [MODEL, HAND.model_copy(update={"parameters": {"a": ["https://x:y@z.org"]}})]},
        "generator 1 contains a URL with credentials"),
    "deep parameters": (
        RECORDS,
        {"generators": [MODEL, HAND.model_copy(update={"parameters": {"a": json.loads("[" * 40 + "]" * 40)}})]},
        "nested deeper"),
    "NaN in parameters": (
        RECORDS, {"generators": [MODEL, HAND.model_copy(update={"parameters": {"a": float("nan")}})]}, "Out of range"),
    "a rejection of no class": (RECORDS, {"rejected": [Rejection("wolf", "", "x", HERE)]}, "completion 1: the class"),
    "a rejection without reason": (RECORDS, {"rejected": [Rejection("cat", "", "", HERE)]}, "reason: is empty"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_bundle_leaves_nothing_behind(tmp_path: Path, case: str) -> None:
    records, changes, words = REFUSED[case]
    path = tmp_path / "pets.jsonl"
    write_sample(path, rejected=REJECTED)
    before = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()}
    with pytest.raises(BundleError) as caught:
        write_sample(path, records, **changes)
    assert words in caught.value.message
    assert caught.value.remedy
    assert "secret" not in str(caught.value)
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == before


def test_broken_source_leaves_nothing_behind(tmp_path: Path) -> None:
    def records() -> Iterator[Description]:
        yield RECORDS[0]
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        write_sample(tmp_path / "pets.jsonl", records())
    assert list(tmp_path.iterdir()) == []


def test_unwritable_place_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="file/pets"):
        write_sample(tmp_path / "file" / "pets.jsonl")


@pytest.mark.parametrize("field", ["accepted_by", "edited_by", "generator"])
def test_a_record_of_an_unknown_generator_is_refused(tmp_path: Path, field: str) -> None:
    source = Provenance(**{"generator": "hand", field: "nobody"})
    with pytest.raises(BundleError, match=r"record 1: .*'nobody'"):
        write_sample(tmp_path / "a.jsonl", [Description("A cat.", class_id="cat", provenance=source)], complete=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "rejection",
    [
        Rejection("cat", "x", "review", Provenance("hand"), rejected_by="nobody"),
        Rejection("cat", "x", "chatty", Provenance("nobody")),
        Rejection("nobody", "x", "chatty", Provenance("hand")),
    ],
)
def test_a_rejection_of_an_unknown_reviewer_generator_or_class_is_refused(tmp_path: Path, rejection: Rejection) -> None:
    with pytest.raises(BundleError, match=r"rejected completion 1: .*'nobody'"):
        write_sample(tmp_path / "a.jsonl", rejected=[rejection])
    assert list(tmp_path.iterdir()) == []


def test_aliases_come_back_and_a_bundle_without_them_has_the_bytes_it_had(tmp_path: Path) -> None:
    plain = write_sample(tmp_path / "plain.jsonl")
    known = LabelSet("pets", tuple(replace(label, aliases=("moggy",)) for label in PETS.classes), "2.1.0")
    bundle = write_sample(tmp_path / "known.jsonl", label_set=known)
    assert [label.aliases for label in read_bundle(bundle.path).header.label_set.classes] == [("moggy",), ("moggy",)]
    assert "aliases" not in plain.path.read_text(encoding="utf-8")
    assert bundle.header.label_set_entry.digest == plain.header.label_set_entry.digest
