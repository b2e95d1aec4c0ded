"""Import and export: byte-stable both ways, the class matching shown, hostile files refused by name and line."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from abs_core.descriptions import DescriptionKind
from abs_core.errors import BundleError, StorageError, UnknownNameError
from abs_core.labels import ClassLabel, LabelSet, from_names
from abs_descriptions.bundles import Bundle, Description, Generator, Provenance, read_bundle, text_problem, write_bundle
from abs_descriptions.bundles.exchange import FORMATS, ExternalText, import_generator, read_external, to_records
from abs_descriptions.bundles.exporting import ExportCount, export_bundle
from abs_descriptions.bundles.matching import match_labels

LABELS = from_names(["brick wall", "cat", "Border Collie"], name="things")
HAND = Provenance("hand")
HOSTILE = ["=1+1", "'=1+1", "''+cmd", "@SUM(A1)", "-2", "'quoted'", '<script>alert("x")</script>', "a\ttab", "\x1b[2Jx",
           "comma, \"quote\"", "été 東京 🐕", "back\\slash"]  # fmt: skip


def write(path: Path, records: list[Description], label_set: LabelSet = LABELS) -> Bundle:
    return write_bundle(
        path,
        name="things",
        version="1.0.0",
        created="2025-01-31T12:00:00Z",
        label_set=label_set,
        generators=[Generator(id="hand", backend="hand", model="none", parameters={})],
        license="CC0-1.0",
        records=records,
        complete=False,
    )


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    records = [
        Description("Red bricks, grey mortar.", class_id="brick_wall", provenance=HAND),
        Description("grey mortar", "phrase", class_id="brick_wall", provenance=HAND),
        Description('A cat is "small".', class_id="cat", provenance=HAND),
        Description("whiskers", "phrase", class_id="cat", provenance=HAND),
        Description("pointed ears", "phrase", class_id="cat", provenance=HAND),
    ]
    return write(tmp_path / "things.jsonl", records).path


EXACT = {
    "cupl": '{\n  "brick wall": [\n    "Red bricks, grey mortar."\n  ],\n'
    '  "cat": [\n    "A cat is \\"small\\"."\n  ]\n}\n',
    "clip-d": '{\n  "brick wall": [\n    "grey mortar"\n  ],\n'
    '  "cat": [\n    "whiskers",\n    "pointed ears"\n  ]\n}\n',
    "waffle": '{\n    "brick wall": [\n        "grey mortar"\n    ],\n'
    '    "cat": [\n        "whiskers",\n        "pointed ears"\n    ]\n}',
    "clip-benchmark": '{"things":\n{\n  "brick wall": [\n    "Red bricks, grey mortar."\n  ],\n'
    '  "cat": [\n    "A cat is \\"small\\"."\n  ]\n}\n}\n',
    "text": 'brick wall\tRed bricks, grey mortar.\ncat\tA cat is "small".\n',
    "csv": "class,name,kind,text\n"
    'brick_wall,brick wall,sentence,"Red bricks, grey mortar."\n'
    "brick_wall,brick wall,phrase,grey mortar\n"
    'cat,cat,sentence,"A cat is ""small""."\n'
    "cat,cat,phrase,whiskers\n"
    "cat,cat,phrase,pointed ears\n",
}
COUNTS = {"cupl": (2, 3), "clip-d": (3, 2), "waffle": (3, 2), "clip-benchmark": (2, 3), "text": (2, 3), "csv": (5, 0)}


def test_all_formats_are_tested() -> None:
    assert set(EXACT) == set(COUNTS) == set(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_export_is_exactly_this(tmp_path: Path, bundle: Path, name: str) -> None:
    target = tmp_path / "out"
    assert export_bundle(bundle, target, name) == ExportCount(*COUNTS[name])
    assert target.read_bytes() == EXACT[name].encode()


@pytest.mark.parametrize("name", FORMATS)
def test_export_import_export_gives_the_same_bytes(tmp_path: Path, name: str) -> None:
    kinds: tuple[DescriptionKind, ...] = (
        ("phrase",) if name in ("clip-d", "waffle") else ("sentence", "phrase") if name == "csv" else ("sentence",)
    )
    records = [
        Description(
            f"{text}{number}", kinds[number % len(kinds)], class_id=class_id, provenance=Provenance("hand", number)
        )
        for class_id in ("brick_wall", "border_collie")
        for number, text in enumerate(HOSTILE)
    ]
    first, second = tmp_path / "first", tmp_path / "second"
    export_bundle(write(tmp_path / "a.jsonl", records).path, first, name)
    texts = read_external(first, name)
    matching = match_labels([text.label for text in texts], LABELS)
    matching.check()
    again, rejected = to_records(texts, matching, "hand")
    assert rejected == []
    assert [(r.class_id, r.text, r.kind) for r in again] == [(r.class_id, r.text, r.kind) for r in records]
    export_bundle(write(tmp_path / "b.jsonl", again).path, second, name)
    assert first.read_bytes() == second.read_bytes()


def test_spreadsheet_runs_nothing(tmp_path: Path) -> None:
    labels = LabelSet("odd", (ClassLabel("=id", "@name"), ClassLabel("x", "+x")))
    records = [Description(text, class_id="=id", provenance=HAND) for text in HOSTILE]
    export_bundle(write(tmp_path / "a.jsonl", records, labels).path, tmp_path / "a.csv", "csv")
    rows = list(csv.reader(io.StringIO((tmp_path / "a.csv").read_text(encoding="utf-8"), newline="")))
    assert [row[3] for row in rows[1:6]] == ["'=1+1", "''=1+1", "'''+cmd", "'@SUM(A1)", "'-2"]
    assert rows[1][:2] == ["'=id", "'@name"]
    assert not [cell for row in rows for cell in row if cell[:1] in ("=", "+", "-", "@", "\t", "\r")]


def test_ids_as_keys_where_names_are_not_unique(tmp_path: Path) -> None:
    labels = LabelSet("twins", (ClassLabel("a", "missile", note="one"), ClassLabel("b", "missile", note="other")))
    path = write(
        tmp_path / "a.jsonl",
        [Description("A.", class_id="a", provenance=HAND), Description("B.", class_id="b", provenance=HAND)],
        labels,
    ).path
    with pytest.raises(BundleError, match=r"two classes of things@1.0.0 are called 'missile' and have other"):
        export_bundle(path, tmp_path / "out.json", "cupl")
    assert not (tmp_path / "out.json").exists()
    export_bundle(path, tmp_path / "out.json", "cupl", key="id")
    assert json.loads((tmp_path / "out.json").read_text()) == {"a": ["A."], "b": ["B."]}


def test_nothing_to_export_leaves_no_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [Description("A cat.", class_id="cat", provenance=HAND)]).path
    with pytest.raises(BundleError, match="has no phrase to export as clip-d"):
        export_bundle(path, tmp_path / "out.json", "clip-d")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.jsonl"]
    empty = write(tmp_path / "empty.jsonl", []).path
    with pytest.raises(BundleError, match=r"things@1.0.0 has no descriptions to export") as caught:
        export_bundle(empty, tmp_path / "out.csv", "csv")
    assert caught.value.remedy == "Name a bundle that has some"


def test_export_to_a_link_writes_what_it_leads_to(tmp_path: Path, bundle: Path) -> None:
    (tmp_path / "far").mkdir()
    link, target = tmp_path / "out.csv", tmp_path / "far" / "real.csv"
    link.symlink_to(Path("far") / "real.csv")
    for _ in range(2):
        export_bundle(bundle, link, "csv")
        assert link.is_symlink()
        assert target.read_bytes() == EXACT["csv"].encode()


def test_unknown_format_lists_the_valid_ones(tmp_path: Path, bundle: Path) -> None:
    for work in (lambda: read_external(bundle, "yaml"), lambda: export_bundle(bundle, tmp_path / "x", "yaml")):
        with pytest.raises(UnknownNameError, match="valid: cupl, clip-d, waffle, clip-benchmark, text, csv"):
            work()


def test_matching_is_shown_before_it_is_used() -> None:
    labels = LabelSet(
        "mixed",
        (ClassLabel("n1", "missile", note="a"), ClassLabel("n2", "missile", note="b"), ClassLabel("cat", "House_Cat"),
         ClassLabel("dog", "cat"), ClassLabel("wolf", "wolf")),
    )  # fmt: skip
    matching = match_labels(["missile", "cat", "house-cat", "HOUSE  CAT", "unicorn", "n1", "cat"], labels)
    # "n1" is named by its id, so "missile" is the other one of that name
    assert matching.matched == {
        "missile": ("n2",),
        "cat": ("cat",),
        "house-cat": ("cat",),
        "HOUSE  CAT": ("cat",),
        "n1": ("n1",),
    }
    assert matching.unknown == ("unicorn",)
    assert matching.missing == ("dog", "wolf")
    with pytest.raises(BundleError, match="no class is called 'a', 'b', 'c', 'd', 'e' and 1 more"):
        match_labels("abcdef", labels).check()
    match_labels(["n1", "wolf"], labels).check()


def test_nothing_vanishes_on_import() -> None:
    texts = [
        ExternalText("cat", "A cat.\r\n  It purrs. ", "sentence"),
        ExternalText("cat", "A cat. It purrs.", "sentence"),
        ExternalText("cat", "   ", "sentence"),
        ExternalText("cat", "a\0b", "sentence"),
        ExternalText("cat", "x" * 5000, "sentence"),
        ExternalText("cat", "\ud800", "sentence"),
        ExternalText("cat", "cafe\u0301", "phrase"),
        ExternalText("unicorn", "A unicorn.", "sentence"),
    ]
    records, rejected = to_records(texts, match_labels(["cat", "unicorn"], LABELS), "import")
    assert records == [
        Description("A cat. It purrs.", class_id="cat", provenance=Provenance("import", 0)),
        Description("café", "phrase", class_id="cat", provenance=Provenance("import", 6)),
    ]
    assert [(r.reason, r.detail, r.provenance.sample) for r in rejected] == [
        ("duplicate", None, 1),
        ("unusable", "the text is empty", 2),
        ("unusable", "the text contains a NUL character", 3),
        ("unusable", "the text is longer than 4000 characters", 4),
        ("unusable", "the text contains a lone surrogate", 5),
    ]


def test_import_becomes_a_sound_bundle_that_names_its_source(tmp_path: Path) -> None:
    source = tmp_path / "cupl.json"
    source.write_text(json.dumps({"Cat": ["A cat has whiskers.", "A cat has whiskers."], "brick wall": ["Bricks."]}))
    texts = read_external(source, "cupl")
    generator = import_generator(source, "cupl")
    records, rejected = to_records(texts, match_labels([t.label for t in texts], LABELS), generator.id)
    bundle = write_bundle(
        tmp_path / "b.jsonl",
        name="things",
        version="1.0.0",
        created="2025-01-31T12:00:00Z",
        label_set=LABELS,
        generators=[generator],
        license="unknown",
        records=records,
        rejected=rejected,
        complete=False,
    )
    assert read_bundle(bundle.path).header.counts.rejected == 1
    assert bundle.header.generators[0].parameters == {
        "format": "cupl",
        "file_digest": "sha256:" + hashlib.sha256(source.read_bytes()).hexdigest(),
    }
    assert [record.class_id for record in bundle.records()] == ["brick_wall", "cat"]


def test_files_as_other_programs_write_them(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\xef\xbb\xbfcat\tA cat.\r\n\r\ncat\tA\tcat.\n")
    assert [text.text for text in read_external(path, "text")] == ["A cat.", "A\tcat."]
    path.write_bytes(b'\xef\xbb\xbfsource,text,class\r\nx,"A cat\r\nwith lines.",cat\r\n\r\n')
    assert read_external(path, "csv") == [ExternalText("cat", "A cat\r\nwith lines.", "sentence")]
    for mark in ";\t":
        path.write_text(f"Class{mark}TEXT{mark}Name\nn01{mark}A robin, red.{mark}robin\nn02{mark}An owl.{mark} \n")
        assert read_external(path, "csv") == [
            ExternalText("n01", "A robin, red.", "sentence", "robin"),
            ExternalText("n02", "An owl.", "sentence"),
        ]
    path.write_text('{"cat": [], "dog": ["\\u0041 dog."]}')
    assert read_external(path, "clip-d") == [ExternalText("cat", "", "phrase"), ExternalText("dog", "A dog.", "phrase")]


def test_a_file_of_waffleclip_comes_out_as_it_went_in(tmp_path: Path) -> None:
    """Its scripts write ``json.dumps(..., indent=4)``: escapes for what is not ASCII, and no line feed at the end."""
    texts = {"brick wall": ["grey mortar", "bricks\u2019 edges"], "cat": ['"slit" pupils', "a tail/brush"]}
    first, second = tmp_path / "descriptors_things.json", tmp_path / "again.json"
    first.write_text(json.dumps(texts, indent=4))
    external = read_external(first, "waffle")
    records, rejected = to_records(external, match_labels(texts, LABELS), "hand")
    assert rejected == []
    export_bundle(write(tmp_path / "a.jsonl", records).path, second, "waffle")
    assert second.read_bytes() == first.read_bytes()


def test_an_empty_list_is_a_class_and_blanks_around_descriptors_go() -> None:
    texts = [ExternalText("cat", "", "phrase"), ExternalText("brick wall", "toothed edges  ", "phrase")]
    records, rejected = to_records(texts, match_labels(["cat", "brick wall"], LABELS), "hand")
    assert [record.text for record in records] == ["toothed edges"]
    assert [(rejection.class_id, rejection.reason, rejection.detail) for rejection in rejected] == [
        ("cat", "unusable", "the text is empty")
    ]


BAD: list[tuple[str, bytes, str]] = [
    ("cupl", b"", "line 1: invalid JSON"),
    ("cupl", b'{"cat": [\n"a",\n}', "line 3: invalid JSON"),
    ("cupl", b"[1]", "not a JSON object of lists"),
    ("cupl", b'{"cat": "a"}', "'cat' has no list of texts"),
    ("cupl", b'{"cat": ["a", 7]}', "text 2 of 'cat' is not a string"),
    ("cupl", b'{"cat": ["a"], "cat": ["b"]}', "the class 'cat' appears twice"),
    ("cupl", b'{"cat": [' + b"[" * 100_000, "nested too deep"),
    ("clip-d", b'{"cat": [' + b"1" * 10_000 + b"]}", "a number with too many digits"),
    ("clip-d", b'{"\x1b": 1}', "line 1: invalid JSON"),
    ("clip-d", b'{"\\u001b[2J": 1}', "'\\x1b[2J' has no list"),
    ("text", b"cat A cat.", "line 1: no tab"),
    ("text", b"cat\tA cat.\n\nb\xffg", "line 3: byte 0xff is not valid UTF-8"),
    ("csv", b"", "line 1: the first row has no column 'class'"),
    ("csv", b"class,name\n", "line 1: the first row has no column 'text'"),
    ("csv", b"class,text,Text\n", "line 1: the first row has more than one column 'text'"),
    ("csv", b"class,text\ncat,a,b\n", "line 2: 3 cells, the first row has 2"),
    ("csv", b'class,text\ncat,"a\n', "line 2: invalid CSV"),
    ("csv", b"class,text,kind\ncat,a,poem\n", "line 2: the kind must be 'sentence' or 'phrase', got 'poem'"),
    ("csv", b"class,text\ncat," + b"x" * 200_000 + b"\n", "line 2: invalid CSV: field larger"),
]


@pytest.mark.parametrize(("name", "data", "words"), BAD, ids=[f"{name}: {words}" for name, _, words in BAD])
def test_bad_file_gets_a_clean_error(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(BundleError) as caught:
        read_external(path, name)
    assert caught.value.message.startswith(str(path))
    assert words in caught.value.message
    assert caught.value.remedy
    assert str(caught.value).isprintable()


def test_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BundleError, match="pipe: not a file"):
        read_external(tmp_path / "pipe", "text")


def test_missing_file_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such file"):
        read_external(tmp_path / "none.json", "cupl")


@pytest.mark.fuzz
@pytest.mark.slow
@settings(max_examples=800, deadline=20_000, suppress_health_check=list(HealthCheck), database=None)
@given(
    name=st.sampled_from(FORMATS),
    data=st.binary(max_size=80)
    | st.text(st.sampled_from("{}[]\":,\\\t\n\r'=a1"), max_size=80).map(lambda text: text.encode())
    | st.text(max_size=40).map(lambda text: f"class,text\ncat,{text}\n".encode("utf-8", "replace")),
)
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, name: str, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(data)
    texts: Any = []
    try:
        texts = read_external(path, name)
    except BundleError as error:
        assert str(path) in error.message  # noqa: PT017  most bytes are refused, some are not
    records, rejected = to_records(texts, match_labels([text.label for text in texts], LABELS), "hand")
    assert len(records) + len(rejected) <= len(texts)
    assert all(record.class_id == "cat" and text_problem(record.text) is None for record in records)
