"""Review files: what a spreadsheet does to them, what the decisions become, and what is refused with its line."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from abs_core.errors import BundleError, UsageError
from abs_core.labels import ClassLabel, LabelSet
from abs_descriptions.bundles import (
    Bundle,
    Description,
    Generator,
    Provenance,
    Rejection,
    iter_rejected,
    read_bundle,
    write_bundle,
)
from abs_descriptions.bundles.merge import merge_bundles
from abs_descriptions.bundles.review import Review, read_review_file, write_review_file, write_reviewed
from abs_descriptions.bundles.review_file import COLUMNS, row_id

LABELS = LabelSet("pets", (ClassLabel("001", "=cat"), ClassLabel("dog", "dog")))
REQUEST = "sha256:" + "a" * 64
MODEL = Provenance("model", 3, "looks", REQUEST)
HOSTILE = ["=1+1", "'=1+1", "''+cmd", "@SUM(A1)", "-2", "+3", "'quoted'", '<script>alert("x")</script>', "a\ttab",
           "\x1b[2Jx", 'comma, "quote"; semicolon', "été 東京 🐕", "a\u202eb", "1,5",
           "0012", "TRUE", "x\u0085y"]  # fmt: skip

Row = dict[str, str]
Edit = Callable[[list[Row]], object]


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make(tmp_path / "pets.jsonl", ["A cat has wiskers.", "It barks.", "It purrs."], ["A dog has a nose."])


def make(path: Path, cats: list[str], dogs: list[str]) -> Bundle:
    return write_bundle(
        path,
        name="pets",
        version="1.0.0",
        created="2025-01-31T12:00:00Z",
        label_set=LABELS,
        generators=[Generator(id="model", backend="local", model="m", parameters={})],
        license="CC0-1.0",
        records=[
            *(
                Description(text, class_id="001", provenance=MODEL, scores={"clip": 0.5}, id=f"c{i}")
                for i, text in enumerate(cats)
            ),
            *(Description(text, class_id="dog", provenance=MODEL) for text in dogs),
        ],
        rejected=[Rejection("dog", "Sure!", "chatty", MODEL)],
        complete=bool(cats and dogs),
    )


def rows_of(bundle: Bundle, folder: Path) -> list[Row]:
    write_review_file(bundle, folder / "review.csv")
    return list(csv.DictReader(io.StringIO((folder / "review.csv").read_text("utf-8-sig"), newline="")))


def saved(rows: list[Row], folder: Path, delimiter: str = ",", end: str = "\r\n") -> Path:
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, delimiter=delimiter, lineterminator=end)
    writer.writeheader()
    writer.writerows(rows)
    path = folder / "back.csv"
    path.write_text(out.getvalue(), encoding="utf-8-sig", newline="")
    return path


def reviewed(bundle: Bundle, review: Review, folder: Path, reviewer: str = "Jane Doe") -> Bundle:
    return write_reviewed(
        folder / "child.jsonl",
        bundle,
        review,
        reviewer=reviewer,
        name="pets",
        version="1.1.0",
        created="2025-02-01T12:00:00Z",
    )


def decide(rows: list[Row], text: str, decision: str, new_text: str = "", reason: str = "") -> None:
    row = next(row for row in rows if row["text"] == text)
    row.update(decision=decision, new_text=new_text, reason=reason)


def test_review_file_is_exactly_this(tmp_path: Path) -> None:
    bundle = make(tmp_path / "pets.jsonl", ["=1+1"], ['A "dog", brown.'])
    ids = [row_id(record) for record in bundle.records()]
    write_review_file(bundle, tmp_path / "review.csv")
    assert (tmp_path / "review.csv").read_bytes().decode() == (
        "\ufeffbundle,row,class,name,kind,text,decision,new_text,reason\r\n"
        f"{bundle.reference},{ids[0]},001,'=cat,sentence,'=1+1,,,\r\n"
        f'{bundle.reference},{ids[1]},dog,dog,sentence,"A ""dog"", brown.",,,\r\n'
    )
    assert ids[0] == "r" + hashlib.sha256(b"001\0=1+1").hexdigest()[:16]


def test_no_cell_of_a_review_file_is_a_formula(tmp_path: Path) -> None:
    bundle = make(tmp_path / "pets.jsonl", HOSTILE, HOSTILE)
    for row in rows_of(bundle, tmp_path):
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row.values())


def test_unedited_review_file_changes_nothing(tmp_path: Path) -> None:
    bundle = make(tmp_path / "pets.jsonl", HOSTILE, HOSTILE)
    write_review_file(bundle, tmp_path / "review.csv")
    review = read_review_file(tmp_path / "review.csv", bundle)
    assert (dict(review.rows), review.undecided) == ({}, 2 * len(HOSTILE))
    child = reviewed(bundle, review, tmp_path)
    assert list(child.records()) == list(bundle.records())


def excel(data: bytes, delimiter: str = ";") -> bytes:
    """As a European Excel saves it: semicolons, the mark, empty cells at the end of a row left out."""
    rows = [list(row) for row in csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""))]
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\r\n")
    for row in rows:
        while row and not row[-1]:
            row.pop()
        writer.writerow(row)
    return b"\xef\xbb\xbf" + out.getvalue().encode()


MANGLED: dict[str, Callable[[bytes], bytes]] = {
    "semicolons": excel,
    "tabs": lambda data: excel(data, "\t"),
    "line feeds": lambda data: data.replace(b"\r\n", b"\n"),
    "no mark": lambda data: data.removeprefix(b"\xef\xbb\xbf"),
    "empty rows": lambda data: data + b"\r\n,,,,,,,,\r\n",
    "the class as a number": lambda data: data.replace(b",001,", b",1,"),
    "columns in capitals": lambda data: data.replace(b"decision,new_text", b"Decision, NEW_TEXT"),
    "decisions in capitals": lambda data: data.replace(b"accept,", b" Accept ,").replace(b"reject,", b"REJECT,"),
}


@pytest.mark.parametrize("how", MANGLED)
def test_review_file_is_read_as_spreadsheets_save_it(tmp_path: Path, bundle: Bundle, how: str) -> None:
    rows = rows_of(bundle, tmp_path)
    decide(rows, "A cat has wiskers.", "edit", 'A cat has "whiskers"; été.')
    decide(rows, "It barks.", "reject", reason="no, it does not")
    decide(rows, "It purrs.", "accept")
    path = saved(rows, tmp_path)
    plain = path.read_bytes()
    path.write_bytes(MANGLED[how](plain))
    assert path.read_bytes() != plain
    assert [(row.decision, row.new_text, row.reason) for row in read_review_file(path, bundle).rows.values()] == [
        ("edit", 'A cat has "whiskers"; été.', ""),
        ("reject", "", "no, it does not"),
        ("accept", "", ""),
    ]


def test_review_file_may_be_sorted(tmp_path: Path, bundle: Bundle) -> None:
    rows = rows_of(bundle, tmp_path)
    decide(rows, "It barks.", "reject")
    review = read_review_file(saved(sorted(rows, key=lambda row: row["text"], reverse=True), tmp_path), bundle)
    assert [row.text for row in review.rows.values()] == ["It barks."]


def test_decisions_become_a_child_version(tmp_path: Path, bundle: Bundle) -> None:
    rows = rows_of(bundle, tmp_path)
    decide(rows, "A cat has wiskers.", "edit", "A cat has whiskers.", "spelling")
    decide(rows, "It barks.", "reject", reason="dogs do")
    decide(rows, "It purrs.", "accept")
    review = read_review_file(saved(rows, tmp_path), bundle)
    child = reviewed(bundle, review, tmp_path)
    header = read_bundle(child.path).header
    assert header.parents == (bundle.reference,)
    assert [(g.id, g.backend, g.model) for g in header.generators] == [
        ("model", "local", "m"),
        ("review", "review", "Jane Doe"),
    ]
    assert header.generators[1].parameters == {
        "accepted": 1,
        "edited": 1,
        "rejected": 1,
        "undecided": 1,
        "sheet_digest": review.file_digest,
    }
    assert list(child.records()) == [
        Description(
            "A cat has whiskers.",
            class_id="001",
            provenance=Provenance("model", 3, "looks", REQUEST, None, "review"),
            id="c0",
        ),
        Description(
            "It purrs.",
            class_id="001",
            provenance=Provenance("model", 3, "looks", REQUEST, "review"),
            scores={"clip": 0.5},
            id="c2",
        ),
        Description("A dog has a nose.", class_id="dog", provenance=MODEL),
    ]
    assert list(iter_rejected(child.path, header)) == [
        Rejection("dog", "Sure!", "chatty", MODEL),
        Rejection("001", "A cat has wiskers.", "edited", MODEL, "spelling", "review"),
        Rejection("001", "It barks.", "review", MODEL, "dogs do", "review"),
    ]


def test_lines_of_a_reviewed_bundle_are_exactly_these(tmp_path: Path, bundle: Bundle) -> None:
    rows = rows_of(bundle, tmp_path)
    decide(rows, "It purrs.", "accept")
    decide(rows, "A dog has a nose.", "edit", "A dog has a wet nose.")
    child = reviewed(bundle, read_review_file(saved(rows, tmp_path), bundle), tmp_path)
    lines = child.path.read_text().split("\n")
    assert lines[3] == (
        '{"class":"001","id":"c2","kind":"sentence","provenance":{"accepted_by":"review","generator":"model",'
        f'"prompt":"looks","request":"{REQUEST}","sample":3}},"scores":{{"clip":0.5}},"text":"It purrs."}}'
    )
    assert lines[4] == (
        '{"class":"dog","kind":"sentence","provenance":{"edited_by":"review","generator":"model",'
        f'"prompt":"looks","request":"{REQUEST}","sample":3}},"text":"A dog has a wet nose."}}'
    )
    assert (tmp_path / "child.rejected.jsonl").read_text().split("\n")[1] == (
        '{"class":"dog","provenance":{"generator":"model","prompt":"looks",'
        f'"request":"{REQUEST}","sample":3}},"reason":"edited","rejected_by":"review","text":"A dog has a nose."}}'
    )


def test_second_review_keeps_the_first(tmp_path: Path, bundle: Bundle) -> None:
    rows = rows_of(bundle, tmp_path)
    decide(rows, "It purrs.", "accept")
    decide(rows, "It barks.", "edit", "It meows.")
    first = reviewed(bundle, read_review_file(saved(rows, tmp_path), bundle), tmp_path)
    (tmp_path / "second").mkdir()
    rows = rows_of(first, tmp_path / "second")
    decide(rows, "It meows.", "accept")
    decide(rows, "It purrs.", "edit", "It purrs softly.")
    second = reviewed(first, read_review_file(saved(rows, tmp_path / "second"), first), tmp_path / "second", "John")
    assert [(g.id, g.model) for g in second.header.generators][1:] == [("review", "Jane Doe"), ("review-2", "John")]
    by = {record.text: (record.provenance.accepted_by, record.provenance.edited_by) for record in second.records()}
    assert by["It meows."] == ("review-2", "review")
    assert by["It purrs softly."] == (None, "review-2")
    assert second.header.counts.rejected == 3


def test_merge_keeps_who_reviewed(tmp_path: Path, bundle: Bundle) -> None:
    (tmp_path / "other").mkdir()
    rows = rows_of(bundle, tmp_path)
    decide(rows, "It barks.", "reject")
    decide(rows, "It purrs.", "accept")
    first = reviewed(bundle, read_review_file(saved(rows, tmp_path), bundle), tmp_path)
    rows = rows_of(bundle, tmp_path / "other")
    decide(rows, "A dog has a nose.", "edit", "A dog has a wet nose.")
    second = reviewed(bundle, read_review_file(saved(rows, tmp_path / "other"), bundle), tmp_path / "other", "John")
    merged = merge_bundles(
        tmp_path / "merged.jsonl",
        [first.path, second.path],
        name="pets",
        version="2.0.0",
        created="2025-02-01T12:00:00Z",
    )
    assert [(g.id, g.model) for g in merged.header.generators][1:] == [("review", "Jane Doe"), ("review-2", "John")]
    edited = [record for record in merged.records() if record.provenance.edited_by]
    assert [(record.text, record.provenance.edited_by) for record in edited] == [("A dog has a wet nose.", "review-2")]
    assert {rejection.rejected_by for rejection in iter_rejected(merged.path, merged.header)} == {
        None,
        "review",
        "review-2",
    }


def test_class_without_a_sentence_makes_the_child_partial(tmp_path: Path, bundle: Bundle) -> None:
    rows = rows_of(bundle, tmp_path)
    decide(rows, "A dog has a nose.", "reject")
    child = reviewed(bundle, read_review_file(saved(rows, tmp_path), bundle), tmp_path)
    assert (bundle.header.complete, child.header.complete, child.header.counts.classes) == (True, False, 1)


def test_edited_texts_may_change_places(tmp_path: Path, bundle: Bundle) -> None:
    rows = rows_of(bundle, tmp_path)
    decide(rows, "It barks.", "edit", "It purrs.")
    decide(rows, "It purrs.", "edit", "It barks.")
    child = reviewed(bundle, read_review_file(saved(rows, tmp_path), bundle), tmp_path)
    assert [record.text for record in child.records()][1:3] == ["It purrs.", "It barks."]


@pytest.mark.parametrize(("name", "words"), [("", "empty"), ("a\nb", "control character"), ("x" * 1001, "1000"),
                                             (" x", "begins or ends"), ("https://u:p@h/", "credentials")])  # fmt: skip
def test_what_is_no_reviewer(tmp_path: Path, bundle: Bundle, name: str, words: str) -> None:
    rows = rows_of(bundle, tmp_path)
    decide(rows, "It purrs.", "accept")
    review = read_review_file(saved(rows, tmp_path), bundle)
    with pytest.raises((UsageError, BundleError), match=words):
        reviewed(bundle, review, tmp_path, name)
    assert not (tmp_path / "child.jsonl").exists()


def put(position: int, **cells: str) -> Edit:
    return lambda rows: rows[position].update(cells)


BAD: dict[str, tuple[Edit, int | None, str]] = {
    "another bundle": (put(1, bundle=f"pets@1.0.0#sha256:{'0' * 64}"), 3, "file is of 'pets@1.0.0#sha256:0000"),
    "no bundle": (put(0, bundle=""), 2, "the review file is of ''"),
    "a missing row": (lambda rows: rows.pop(1), None, "1 of 4 rows are missing, the first is r"),
    "a row twice": (lambda rows: rows.append(rows[1]), 6, "is already on line 3"),
    "an unknown decision": (put(2, decision="maybe"), 4, "unknown decision 'maybe'; valid: accept, reject, edit"),
    "a changed row id": (put(3, row="r0000000000000000"), 5, "the bundle has no row 'r0000000000000000'"),
    "a changed text": (put(0, text="A cat has whiskers."), 2, "the text of row"),
    "texts sorted alone": (
        lambda rows: [row.update(text=text) for row, text in zip(rows, sorted(r["text"] for r in rows), strict=True)],
        3, "in the bundle it is 'It barks.'"),
    "an edit without a text": (put(0, decision="edit"), 2, "new_text is empty"),
    "an edit that changes nothing": (put(1, decision="edit", new_text="It barks."), 3, "new_text is the old text"),
    "a new text without an edit": (put(1, new_text="x"), 3, "the decision is '', not 'edit'"),
    "a reason for nothing": (put(1, decision="accept", reason="x"), 3, "a reason and the decision is 'accept'"),
    "an edit into another text": (put(1, decision="edit", new_text="It purrs."), 3, "has the text 'It purrs.' already"),
    "two edits into one": (
        lambda rows: [row.update(decision="edit", new_text="It sits.") for row in rows[:2]],
        2, "has the text 'It sits.' already"),
    "an edit of two lines": (put(0, decision="edit", new_text="a\nb"), 2, "the new_text contains a line break"),
    "an edit too long": (put(0, decision="edit", new_text="x" * 4001), 2, "longer than 4000 characters"),
    "terminal escapes": (put(0, decision="\x1b[2J\u202e"), 2, "unknown decision '\\x1b[2j\\u202e'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_review_file_gets_a_clean_error(tmp_path: Path, bundle: Bundle, case: str) -> None:
    edit, line, words = BAD[case]
    rows = rows_of(bundle, tmp_path)
    edit(rows)
    path = saved(rows, tmp_path)
    check(path, bundle, str(path) + ("" if line is None else f", line {line}") + ": ", words)


RAW: dict[str, tuple[bytes, str, str]] = {
    "nothing": (b"", ", line 1", "no column 'bundle'"),
    "another table": (b"class,text\r\ncat,A cat.\r\n", ", line 1", "no column 'bundle'"),
    "a column twice": (
        b"bundle,row,text,decision,new_text,reason,row\r\n", ", line 1", "more than one column 'row'"),
    "latin-1": (b"bundle,row,text,decision,new_text,reason\r\n,,caf\xe9,,,\r\n", ", line 2", "byte 0xe9"),
    "an open quotation mark": (
        b'bundle,row,text,decision,new_text,reason\r\n,"a,,,,\r\n', ", line 2", "invalid CSV"),
    "only the columns": (b"bundle,row,text,decision,new_text,reason\r\n", "", "4 of 4 rows are missing"),
    "a bundle": (b'{"class":"cat"}\n', ", line 1", "no column"),
    "NUL": (b"bundle,row,text,decision,new_text,reason\r\n\0,,,,,\r\n", ", line 2", ""),
    "a cell of a megabyte": (
        b"bundle,row,text,decision,new_text,reason\r\n" + b"x" * 1_000_000, ", line 2", "invalid CSV"),
}  # fmt: skip


@pytest.mark.parametrize("case", RAW)
def test_what_is_no_review_file_gets_a_clean_error(tmp_path: Path, bundle: Bundle, case: str) -> None:
    data, where, words = RAW[case]
    path = tmp_path / "back.csv"
    path.write_bytes(data)
    check(path, bundle, f"{path}{where}: ", words)


def check(path: Path, bundle: Bundle, begin: str, words: str) -> None:
    with pytest.raises(BundleError) as caught:
        read_review_file(path, bundle)
    assert caught.value.message.startswith(begin)
    assert words in caught.value.message
    assert caught.value.remedy
    assert str(caught.value).isprintable()
