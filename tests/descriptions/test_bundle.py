"""The bundle format: exact bytes, one spelling, order, digests, rejected completions, migrations, the schema."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import jsonlines
import pytest

from abs_core.canonical import canonical_json
from abs_core.errors import BundleError, StorageError
from abs_core.labels import ClassLabel, LabelSet, from_names
from abs_descriptions.bundles import (
    Bundle,
    Description,
    Generator,
    PromptSetEntry,
    Provenance,
    Rejection,
    iter_records,
    iter_rejected,
    load_descriptions,
    read_bundle,
    read_header,
    rejected_path,
    validate,
    write_bundle,
)
from abs_descriptions.bundles import format as limits
from abs_descriptions.bundles.codec import Migration, RecordRules
from abs_descriptions.bundles.format import bundle_schema
from abs_descriptions.bundles.reader import open_pass

STORED = Path(__file__).parent / "stored"
ROOT = Path(__file__).parents[2]
CREATED = "2025-01-31T12:00:00Z"
PETS = LabelSet(
    "pets", (ClassLabel("cat", "cat", note="Felis catus."), ClassLabel("dog", "dog", group="canine")), "2.1.0"
)
REQUEST = "sha256:" + "ab" * 32
MODEL = Generator(
    id="model",
    backend="local",
    model="SmolLM2-135M-Instruct",
    parameters={"temperature": 0.7, "stop": None, "seed": 3},
    prompts=PromptSetEntry(id="animals", version="1.2.0", digest="sha256:" + "cd" * 32),
)
RECORDS = [
    Description(
        "A cat has whiskers.",
        class_id="cat",
        provenance=Provenance("model", 0, "looks", REQUEST),
        scores={"b": 1, "a": 0.25},
    ),
    Description(
        'Its eyes are called "slit-eyed" \\ green.', class_id="cat", provenance=Provenance("model", 1, "looks")
    ),
    Description("un museau d'épagneul 🐕", "phrase", class_id="dog", provenance=Provenance("hand"), id="d-1"),
]
REJECTED = [
    Rejection("cat", "Sure! Here is", "chatty", Provenance("model", 2, "looks", REQUEST), "begins with 'Sure'"),
    Rejection("dog", "A d\0g\nhas \ud800", "odd", Provenance("model", 3)),
]
HAND = Generator(id="hand", backend="hand", model="not stated", parameters={})


def write(path: Path, records: Any = RECORDS, **changes: Any) -> Bundle:
    fields: dict[str, Any] = {
        "name": "pets",
        "version": "1.0.0",
        "created": CREATED,
        "label_set": PETS,
        "generators": [MODEL, HAND],
        "license": "CC0-1.0",
    }
    return write_bundle(path, records=records, **fields | changes)


def test_bytes_are_the_stored_ones(tmp_path: Path) -> None:
    """Format version 1 never changes: this file was written by the first release that had it."""
    bundle = write(tmp_path / "pets.jsonl", rejected=REJECTED, parents=["pets@0.9.0#" + REQUEST])
    assert (tmp_path / "pets.jsonl").read_bytes() == (STORED / "format-1.jsonl").read_bytes()
    assert (tmp_path / "pets.rejected.jsonl").read_bytes() == (STORED / "format-1.rejected.jsonl").read_bytes()
    assert (
        bundle.reference == "pets@1.0.0#sha256:" + hashlib.sha256((STORED / "format-1.jsonl").read_bytes()).hexdigest()
    )


def test_lines_are_exactly_these(tmp_path: Path) -> None:
    write(tmp_path / "pets.jsonl")
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


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pets.jsonl"
    bundle = write(path, rejected=REJECTED)
    assert list(iter_records(path)) == RECORDS
    assert load_descriptions(path) == {"cat": RECORDS[:2], "dog": RECORDS[2:]}
    assert validate(path) == read_header(path) == bundle.header
    assert read_bundle(path) == bundle
    assert list(bundle.records()) == RECORDS
    assert bundle.descriptions() == load_descriptions(path)
    assert bundle.digest == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    assert list(iter_rejected(path, bundle.header)) == [
        REJECTED[0],
        replace(REJECTED[1], text="A d\0g\nhas \ufffd"),
    ]


def test_jsonlines_reads_it_without_this_package(tmp_path: Path) -> None:
    write(tmp_path / "pets.jsonl")
    with jsonlines.open(tmp_path / "pets.jsonl") as reader:
        lines = list(reader)
    assert [line["text"] for line in lines[1:]] == [record.text for record in RECORDS]


def test_every_line_is_canonical(tmp_path: Path) -> None:
    write(tmp_path / "pets.jsonl", rejected=REJECTED)
    for path in (tmp_path / "pets.jsonl", tmp_path / "pets.rejected.jsonl"):
        for line in path.read_bytes().decode().split("\n")[:-1]:
            assert canonical_json(json.loads(line)) == line


def test_order_of_arrival_does_not_change_the_order_of_classes(tmp_path: Path) -> None:
    many = [
        Description(f"Text {i}.", class_id="cat" if i % 3 else "dog", provenance=Provenance("hand", i))
        for i in range(1000)
    ]
    write(tmp_path / "mixed.jsonl", many)
    write(tmp_path / "sorted.jsonl", sorted(many, key=lambda record: record.class_id))
    assert (tmp_path / "mixed.jsonl").read_bytes() == (tmp_path / "sorted.jsonl").read_bytes()
    loaded = load_descriptions(tmp_path / "mixed.jsonl")
    assert [r.provenance.sample for r in loaded["dog"]] == list(range(0, 1000, 3))


def test_strings_are_brought_to_nfc(tmp_path: Path) -> None:
    labels = LabelSet("cafe\u0301", (ClassLabel("cafe\u0301", "cafe\u0301"),))
    record = Description(
        "A cafe\u0301.", class_id="cafe\u0301", provenance=Provenance("hand", 0, "cafe\u0301"), id="cafe\u0301"
    )
    bundle = write(tmp_path / "a.jsonl", [record], label_set=labels, license="cafe\u0301")
    [read] = bundle.records()
    assert (read.class_id, read.text, read.provenance.prompt, read.id) == ("café", "A café.", "café", "café")
    assert bundle.header.label_set.classes[0].name == bundle.header.license == "café"
    assert b"e\xcc\x81" not in (tmp_path / "a.jsonl").read_bytes()


def test_label_set_digest_is_that_of_the_label_set(tmp_path: Path) -> None:
    labels = from_names(["Zürich", "a cat", "東京"], name="mixed")
    bundle = write(tmp_path / "a.jsonl", [], label_set=labels, complete=False)
    stored = bundle.header.label_set
    assert stored.classes == labels.classes
    assert bundle.header.label_set_entry.digest == stored.digest == labels.digest
    again = write(tmp_path / "b.jsonl", [], label_set=stored, complete=False)
    assert again.digest == bundle.digest


def test_rejected_file_is_there_only_if_something_was_rejected(tmp_path: Path) -> None:
    path = tmp_path / "pets.jsonl"
    assert rejected_path(path) == tmp_path / "pets.rejected.jsonl"
    header = write(path).header
    assert not rejected_path(path).exists()
    assert list(iter_rejected(path, header)) == []
    write(path, rejected=REJECTED)
    assert rejected_path(path).exists()
    write(path)
    assert not rejected_path(path).exists()
    assert validate(path) == header


def test_long_rejected_text_is_cut_and_fits(tmp_path: Path) -> None:
    path = tmp_path / "pets.jsonl"
    # U+0958 takes two characters in NFC, a control character takes six in JSON.
    texts = ["x" * 200_000, "\u0958" * 100_000, "\x01" * 100_000, "🐕" * 150_000]
    write(path, rejected=[Rejection("cat", text, "loop", Provenance("hand", i)) for i, text in enumerate(texts)])
    read = list(iter_rejected(path, validate(path)))
    assert [len(rejection.text) for rejection in read] == [100_000] * 4
    assert [rejection.text[-1] == "…" for rejection in read] == [True, True, False, True]


def test_partial_bundle_says_so(tmp_path: Path) -> None:
    bundle = write(tmp_path / "a.jsonl", RECORDS[:2], complete=False)
    assert not bundle.header.complete
    assert (bundle.header.counts.classes, bundle.header.counts.records) == (1, 2)
    assert set(load_descriptions(tmp_path / "a.jsonl")) == {"cat"}
    empty = write(tmp_path / "b.jsonl", [], complete=False)
    assert list(empty.records()) == []


def test_stream_can_be_left_early(tmp_path: Path) -> None:
    """The end of the file is torn, and nobody who stops before it has to know."""
    path = tmp_path / "a.jsonl"
    write(
        path,
        (Description(f"Text {i}.", class_id="cat", provenance=Provenance("hand", i)) for i in range(20_000)),
        complete=False,
    )
    path.write_bytes(path.read_bytes()[:-10])
    stream = iter_records(path)
    assert next(stream).text == "Text 0."
    with pytest.raises(BundleError, match=r"line 20001: .*torn"):
        list(stream)


HERE = Provenance("hand")


def cat(text: str, kind: Any = "sentence", **fields: Any) -> Description:
    """A description that keeps every rule but for the fields given."""
    return Description(text, kind, **{"class_id": "cat", "provenance": HERE, **fields})


REFUSED: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "a text twice": ([*RECORDS, RECORDS[0]], {}, "class 'cat': the text 'A cat has whiskers.' repeats"),
    "a text twice after NFC": (
        [cat("caf\u00e9"), cat("cafe\u0301")], {}, "the text 'café' repeats"),
    "an id twice": (
        [*RECORDS, cat("A dog.", class_id="dog", id="d-1")], {}, "class 'dog': the id 'd-1' repeats"),
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
    "a class without records": (RECORDS[:2], {}, "complete and describes 1 of 2"),
    "a name that climbs": (RECORDS, {"name": "../pets"}, "name: "),
    "a range for a version": (RECORDS, {"version": "^1.0.0"}, "version: "),
    "build metadata": (RECORDS, {"version": "1.0.0+x"}, "version: "),
    "no UTC time": (RECORDS, {"created": "2025-01-31T12:00:00+01:00"}, "created: "),
    "a parent that is not pinned": (RECORDS, {"parents": ["pets@1.0.0"]}, "names no digest"),
    "no licence": (RECORDS, {"license": ""}, "licence: "),
    "a generator twice": (RECORDS, {"generators": [MODEL, HAND, HAND]}, "'hand' stands twice"),
    "a secret in a URL": (
        RECORDS,
        {"generators": [MODEL, HAND.model_copy(update={"parameters": {"a": ["https://x:y@z.org"]}})]},
        "generator 1 holds a URL with credentials"),
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
    write(path, rejected=REJECTED)
    before = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()}
    with pytest.raises(BundleError) as caught:
        write(path, records, **changes)
    assert words in caught.value.message
    assert caught.value.remedy
    assert "secret" not in str(caught.value)
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == before


def test_broken_source_leaves_nothing_behind(tmp_path: Path) -> None:
    def records() -> Iterator[Description]:
        yield RECORDS[0]
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        write(tmp_path / "pets.jsonl", records())
    assert list(tmp_path.iterdir()) == []


def test_unwritable_place_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="file/pets"):
        write(tmp_path / "file" / "pets.jsonl")


def test_validated_bundle_that_changed_is_refused(tmp_path: Path) -> None:
    bundle = write(tmp_path / "pets.jsonl")
    write(tmp_path / "pets.jsonl", license="MIT")
    with pytest.raises(BundleError, match="expected was sha256:"):
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
            validate(STORED / "format-0.jsonl")


def test_schema_in_the_docs_is_that_of_the_models() -> None:
    stored = json.loads((ROOT / "docs" / "bundle.schema.json").read_text(encoding="utf-8"))
    assert stored == json.loads(json.dumps(bundle_schema())), "write docs/bundle.schema.json again from bundle_schema()"


def test_schema_names_every_key_of_a_real_bundle() -> None:
    definitions = bundle_schema()["$defs"]
    header, *records = [json.loads(line) for line in (STORED / "format-1.jsonl").read_text("utf-8").splitlines()]
    assert set(definitions["BundleHeader"]["required"]) == set(header)
    for record in records:
        assert (
            set(definitions["RecordModel"]["required"]) <= set(record) <= set(definitions["RecordModel"]["properties"])
        )


def test_example_in_the_docs_is_sound() -> None:
    page = (ROOT / "docs" / "bundle-format.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith('{"class"')]
    rules = RecordRules(["cat", "dog"], ["model"])
    assert [rules.read(line).kind for line in lines] == ["sentence", "phrase", "sentence"]


def test_limits_in_the_docs_are_those_of_the_code() -> None:
    page = (ROOT / "docs" / "bundle-format.md").read_text(encoding="utf-8")
    for words in (
        f"longer than {limits.MAX_HEADER_BYTES // 2**20} MiB, any other line than {limits.MAX_LINE_BYTES // 2**20} MiB",
        f"deeper than {limits.MAX_DEPTH} levels",
        f"1 to {limits.MAX_TEXT:,} characters",
        f"at most {limits.MAX_REJECTED_TEXT:,} characters",
        f"1 to {limits.MAX_TOKEN} characters",
        f"1 to {limits.MAX_CLASS_NAME:,})",
        f"1 to {limits.MAX_SCORES} names",
    ):
        assert words in page
