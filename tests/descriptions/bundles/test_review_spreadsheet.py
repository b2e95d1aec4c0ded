"""Review files that a spreadsheet changed, and sentences that reviewers add."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from bundle_reviews import decide, table_of, write_table
from bundle_samples import G, texts, write_texts

from abs_core.descriptions import Description, Rejection
from abs_core.errors import BundleError, UsageError
from abs_core.labels import ClassLabel, LabelSet
from abs_descriptions.bundles import Bundle, Provenance, iter_rejected
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.review import ReviewFile, add_reviewed, read_review_file, write_review
from abs_descriptions.bundles.review_file import COLUMNS

LABELS = LabelSet("pets", (ClassLabel("001", "cat"), ClassLabel("dog", "dog"), ClassLabel("owl", "owl")))


@pytest.fixture
def store(tmp_path: Path) -> Repository:
    store = Repository.local(tmp_path / "store")
    records = [*texts("001", 'A "slit" pupil.', "It's 1-2 cm.", "3-4", "0012"), *texts("dog", "It runs.")]
    rejected = [Rejection("dog", "It meows.", "review", G, None, "g"), Rejection("dog", "Sure!", "chatty", G)]
    store.add(write_texts(tmp_path / "pets.jsonl", records, label_set=LABELS, rejected=rejected).path)
    return store


@pytest.fixture
def bundle(store: Repository) -> Bundle:
    return store.read("pets")


def changed(bundle: Bundle, path: Path, text: str, cell: str) -> Path:
    """A review file in which one sentence is accepted, and its text was changed by something."""
    rows = table_of(decide(bundle, path, {text: ("accept",)}))
    for row in rows:
        row["text"] = cell if row["text"] == text else row["text"]
    return write_table(path, rows)


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ('A "slit" pupil.', "A \u201cslit\u201d pupil."),
        ('A "slit" pupil.', 'A ""slit"" pupil. '),
        ("It's 1-2 cm.", "It\u2019s 1\u20132\u00a0cm."),
        ("0012", "12.0"),
    ],
)
def test_a_text_that_was_retyped_is_restored_and_counted(bundle: Bundle, tmp_path: Path, text: str, cell: str) -> None:
    review = read_review_file(changed(bundle, tmp_path / "r.csv", text, cell), bundle)
    assert review.count("accept") == 1
    (remark,) = review.remarks
    assert (remark.kind.startswith("recognized "), remark.count) == (True, 1)


def test_a_date_is_refused_with_what_it_was(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(
        BundleError, match=r"line 4: .*'03\.04\.2025' \(a spreadsheet may have made a date of it\)"
    ) as caught:
        read_review_file(changed(bundle, tmp_path / "r.csv", "3-4", "03.04.2025"), bundle)
    assert "in the bundle it is '3-4'" in caught.value.message


def test_rows_that_may_have_been_sorted_by_some_columns_are_not_recognized(tmp_path: Path) -> None:
    alike = texts("cat", 'A "slit" pupil.', "A \u201cslit\u201d pupil.")
    bundle = write_texts(tmp_path / "alike.jsonl", alike)
    with pytest.raises(BundleError, match="the text of row"):
        read_review_file(changed(bundle, tmp_path / "r.csv", alike[0].text, alike[1].text), bundle)


FILES: dict[str, Callable[[str], str]] = {
    "carriage returns": lambda text: text.replace("\r\n", "\r"),
    "a separator line": lambda text: "sep=;\n" + text.replace(",", ";"),
    "renamed with spaces": lambda text: text.replace("new_text", "New Text"),
    "other columns": lambda text: text.replace("decision,new_text,reason", "decision,new_text,reason,colour"),
    "an empty first line": lambda text: "\r\n" + text,
}


@pytest.mark.parametrize("how", FILES)
def test_files_in_the_forms_of_programs(tmp_path: Path, how: str) -> None:
    bundle = write_texts(tmp_path / "plain.jsonl", texts("cat", "It purrs."))
    path = decide(bundle, tmp_path / "r.csv", {"It purrs.": ("accept",)})
    plain = path.read_bytes().decode("utf-8-sig")
    path.write_bytes(FILES[how](plain).encode("utf-16" if how == "carriage returns" else "utf-8"))
    assert read_review_file(path, bundle).count("accept") == 1


def test_a_column_that_is_missing_is_named_with_those_that_are_there(bundle: Bundle, tmp_path: Path) -> None:
    path = decide(bundle, tmp_path / "r.csv", {})
    path.write_bytes(path.read_bytes().replace(b"decision", b"Entscheidung"))
    with pytest.raises(BundleError, match=r"no column 'decision'; it has 'bundle', 'row', .*'Entscheidung'"):
        read_review_file(path, bundle)


def test_added_sentences_have_the_reviewer_as_their_source(store: Repository, bundle: Bundle, tmp_path: Path) -> None:
    # A spreadsheet wrote 1 for 001, and the owl has no sentence yet.
    added = [("dog", "It wags."), ("1", "It purrs."), ("owl", "It hoots."), ("dog", "It runs.")]
    path = decide(bundle, tmp_path / "r.csv", {"It runs.": ("accept",)}, added)
    child = store.read(add_reviewed(store, bundle, [ReviewFile(path, "Ann")]))
    new = [record for record in child.records() if record.provenance.generator == "review"]
    assert [(r.class_id, r.text, r.provenance.sample) for r in new] == [
        ("001", "It purrs.", 0),
        ("dog", "It wags.", 1),
        ("owl", "It hoots.", 2),
    ]
    assert child.header.generators[-1].parameters["added"] == 3
    review = read_review_file(path, bundle)
    assert [remark.kind for remark in review.remarks] == ["added although it is there already: the sentence"]


def test_a_new_text_that_was_rejected_before_is_said(
    store: Repository, bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = decide(bundle, tmp_path / "r.csv", {"It runs.": ("edit", "It meows.")}, [("dog", "Sure!")])
    child = store.read(add_reviewed(store, bundle, [ReviewFile(path, "Ann")]))
    assert [r.text for r in child.records() if r.class_id == "dog"] == ["It meows.", "Sure!"]
    assert "1 added again after a reviewer rejected it (It meows.)" in caplog.messages


BAD_ROWS = {
    "no class": ({"decision": "add", "new_text": "x", "class": "horse"}, "the class 'horse' is no class of the bundle"),
    "no text": ({"decision": "add", "class": "dog"}, "the decision is add and new_text is empty"),
    "of a sentence": (
        {"decision": "add", "new_text": "x", "class": "dog", "text": "y"},
        "the decision is add in a row of a sentence that is there",
    ),
    "no kind": ({"decision": "add", "new_text": "x", "class": "dog", "kind": "word"}, "must be 'sentence' or 'phrase'"),
    "two lines": ({"decision": "add", "new_text": "a\nb", "class": "dog"}, "contains a line break"),
    "a formula without a value": ({"decision": "add", "new_text": "#NAME?", "class": "dog"}, "error of a spreadsheet"),
    "a row by hand": ({"text": "It swims.", "class": "dog"}, "the bundle has no row '', 'It swims.'; a new sentence"),
    "another version": (
        {"bundle": "pets@9.0.0", "decision": "add", "new_text": "x"},
        "the review file is of 'pets@9.0.0'",
    ),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_new_rows(bundle: Bundle, tmp_path: Path, case: str) -> None:
    cells, words = BAD_ROWS[case]
    rows = table_of(decide(bundle, tmp_path / "r.csv", {}))
    path = write_table(tmp_path / "r.csv", [*rows, {"bundle": bundle.reference, **cells}], COLUMNS)
    with pytest.raises(BundleError, match="line 7") as caught:
        read_review_file(path, bundle)
    assert words in caught.value.message


def test_an_edit_keeps_its_text_from_being_added_again(bundle: Bundle, tmp_path: Path) -> None:
    path = decide(
        bundle, tmp_path / "r.csv", {"It runs.": ("edit", "It trots.")}, [("dog", "It trots."), ("dog", "It runs.")]
    )
    review = read_review_file(path, bundle)
    assert [row.new_text for row in review.added["dog"]] == ["It runs."]


def test_three_reviews_of_one_version_add_up(store: Repository, bundle: Bundle, tmp_path: Path) -> None:
    decisions = {
        "Ann": {"It runs.": ("accept",), "0012": ("reject",)},
        "Bob": {"3-4": ("edit", "Three to four."), "0012": ("reject",)},
        "Cay": {"It runs.": ("accept",), "It's 1-2 cm.": ("edit", "It is small.")},
    }
    for who, choices in decisions.items():
        reference = add_reviewed(store, bundle, [ReviewFile(decide(bundle, tmp_path / f"{who}.csv", choices), who)])
    child = store.read(reference)
    assert [record.text for record in child.records()] == [
        'A "slit" pupil.', "It is small.", "Three to four.", "It runs."]  # fmt: skip
    names = {generator.id: generator.model for generator in child.header.generators}
    accepted = [record for record in child.records() if record.provenance.accepted_by is not None]
    assert [(record.text, names[record.provenance.accepted_by or ""]) for record in accepted] == [("It runs.", "Ann")]
    rejected = [entry for entry in iter_rejected(child.path, child.header) if entry.text == "0012"]
    assert [names[entry.rejected_by or ""] for entry in rejected] == ["Ann", "Bob"]
    together = [ReviewFile(tmp_path / f"{who}.csv", who) for who in decisions]
    once = store.read(add_reviewed(store, bundle, together, fork=True, name="once"))
    assert {r.text for r in once.records()} == {r.text for r in child.records()}
    assert once.header.parents == (bundle.reference,)


def test_a_head_that_is_yanked_gets_no_review(store: Repository, bundle: Bundle, tmp_path: Path) -> None:
    path = decide(bundle, tmp_path / "r.csv", {"It runs.": ("accept",)})
    store.yank(add_reviewed(store, bundle, [ReviewFile(path, "Ann")]), "spoiled")
    again = store.read(add_reviewed(store, bundle, [ReviewFile(path, "Bob")]))
    assert again.header.parents == (bundle.reference,)


def test_files_of_two_versions_are_read_one_after_the_other(store: Repository, bundle: Bundle, tmp_path: Path) -> None:
    first = decide(bundle, tmp_path / "a.csv", {"It runs.": ("accept",)})
    child = store.read(add_reviewed(store, bundle, [ReviewFile(first, "Ann")]))
    second = decide(child, tmp_path / "b.csv", {"3-4": ("reject",)})
    with pytest.raises(UsageError, match=r"the review files are of 2 versions: 'pets@1.0.0#.*'pets@1.1.0#"):
        add_reviewed(store, child, [ReviewFile(first, "Ann"), ReviewFile(second, "Bob")])


def test_a_record_without_a_decision_keeps_its_line(store: Repository, bundle: Bundle, tmp_path: Path) -> None:
    first = decide(bundle, tmp_path / "a.csv", {"It runs.": ("accept",)})
    second = decide(bundle, tmp_path / "b.csv", {"3-4": ("reject",)})
    add_reviewed(store, bundle, [ReviewFile(first, "Ann")])
    child = store.read(add_reviewed(store, bundle, [ReviewFile(second, "Bob")]))
    before = bundle.path.read_bytes().split(b"\n")[1:]
    after = child.path.read_bytes().split(b"\n")[1:]
    assert [line for line in before if b"slit" in line or b"0012" in line] == [after[0], after[2]]
    assert Description("It runs.", class_id="dog", provenance=Provenance("g", accepted_by="review")) in child.records()


def test_a_file_with_new_sentences_alone_is_not_written_over(bundle: Bundle, tmp_path: Path) -> None:
    path, _ = write_review(bundle, tmp_path)
    decide(bundle, path, {}, [("dog", "It wags.")])
    with pytest.raises(UsageError, match="exists with 1 decisions"):
        write_review(bundle, tmp_path)
