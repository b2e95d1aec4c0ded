"""Files of conflicts: what is decided by hand, and what is refused in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from bundle_reviews import decide, table_of, write_table
from bundle_samples import texts, write_texts

from abs_core.errors import BundleError, UsageError
from abs_descriptions.bundles import Bundle, iter_rejected
from abs_descriptions.bundles.conflicts import MergeConflictError
from abs_descriptions.bundles.merge import Settling, add_merged
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.review import ReviewFile, add_reviewed

Row = dict[str, str]


@pytest.fixture
def store(tmp_path: Path) -> Repository:
    store = Repository.local(tmp_path / "store")
    store.add(
        write_texts(tmp_path / "pets.jsonl", [*texts("cat", "=It barks.", "It purrs."), *texts("dog", "It sits.")]).path
    )
    return store


@pytest.fixture
def sides(store: Repository, tmp_path: Path) -> list[Bundle]:
    decisions = {
        "Ann": {"=It barks.": ("reject", "dogs do"), "It purrs.": ("accept",), "It sits.": ("reject",)},
        "Bob": {"=It barks.": ("edit", "=It meows."), "It purrs.": ("reject",)},
    }
    bundle, made = store.read("pets@1.0.0"), []
    for who, choices in decisions.items():
        file = ReviewFile(decide(bundle, tmp_path / f"{who}.csv", choices), who)
        made.append(store.read(add_reviewed(store, bundle, [file], fork=True)))
    return made


@pytest.fixture
def written(store: Repository, sides: list[Bundle], tmp_path: Path) -> Path:
    path = tmp_path / "conflicts.csv"
    with pytest.raises(MergeConflictError):
        add_merged(store, sides, settling=Settling(file=path))
    return path


def merge(store: Repository, sides: list[Bundle], path: Path, *decisions: Row, rule: str = "refuse") -> Bundle:
    rows = table_of(path)
    for row, decision in zip(rows, decisions, strict=False):
        row.update(decision)
    write_table(path, rows, list(rows[0]))
    settling = Settling(rule, path, "Cay")  # type: ignore[arg-type]
    return store.read(add_merged(store, sides, settling=settling))


def test_the_file_shows_what_each_side_says(written: Path) -> None:
    first, second = table_of(written)
    assert list(first) == [
        "merge", "row", "class", "name", "text", "first: pets@1.1.0", "second: pets@1.2.0",
        "decision", "new_text", "reason"]  # fmt: skip
    assert (first["text"], first["first: pets@1.1.0"]) == ("'=It barks.", "rejected by Ann ('dogs do')")
    assert first["second: pets@1.2.0"] == "edited by Bob: =It meows."
    assert (second["text"], second["second: pets@1.2.0"]) == ("It purrs.", "rejected by Bob")
    assert first["merge"] == second["merge"] != ""
    assert first["row"] != second["row"]


@pytest.mark.parametrize(
    ("decision", "expected", "by"),
    [
        ({"decision": "First"}, [], None),
        ({"decision": "2.0"}, ["=It meows."], "Bob"),
        ({"decision": "accept"}, ["=It barks."], "Cay"),
        ({"decision": "reject", "reason": "neither"}, [], None),
        ({"decision": "edit", "new_text": "It hisses."}, ["It hisses."], "Cay"),
    ],
)
def test_a_conflict_is_decided_by_hand(
    store: Repository, sides: list[Bundle], written: Path, decision: Row, expected: list[str], by: str | None
) -> None:
    child = merge(store, sides, written, decision, {"decision": "first"})
    cats = [record for record in child.records() if record.text != "It purrs."]
    names = {generator.id: generator.model for generator in child.header.generators}
    assert [record.text for record in cats] == expected
    for record in cats:
        assert names[record.provenance.edited_by or record.provenance.accepted_by or ""] == by
    parameters = child.header.generators[-1].parameters
    assert (names["review-3"], parameters["conflicts"]) == ("Cay", 2)
    gone = {entry.text for entry in iter_rejected(child.path, child.header)}
    assert {"=It barks.", "=It meows."} - set(expected) <= gone, "what lost stays away from later merges"


def test_a_rule_decides_the_rows_that_are_left(store: Repository, sides: list[Bundle], written: Path) -> None:
    child = merge(store, sides, written, {"decision": "second"}, rule="reject")
    assert [record.text for record in child.records()] == ["=It meows."]


def test_rows_that_are_left_are_listed_and_the_file_stays(
    store: Repository, sides: list[Bundle], written: Path
) -> None:
    with pytest.raises(MergeConflictError) as caught:
        merge(store, sides, written, {"decision": "second"})
    assert [conflict.text for conflict in caught.value.conflicts] == ["It purrs."]
    assert table_of(written)[0]["decision"] == "second"


BAD: dict[str, tuple[Row, str]] = {
    "another merge": ({"merge": "m0000000000000000", "decision": "first"}, "are of another merge"),
    "a place that is none": ({"decision": "third"}, "'third'; valid: first, second, accept, edit, reject"),
    "an edit without a text": ({"decision": "edit"}, "the new_text is empty"),
    "a text without an edit": (
        {"decision": "first", "new_text": "x"},
        "there is a new_text and the decision is 'first'",
    ),
    "a text without a decision": ({"new_text": "x"}, "there is a new_text and no decision"),
    "a row that is none": (
        {"row": "d0000000000000000", "decision": "first"},
        "'d0000000000000000' is no conflict here",
    ),
    "an error of a spreadsheet": ({"decision": "edit", "new_text": "#REF!"}, "an error of a spreadsheet"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_of_conflicts(store: Repository, sides: list[Bundle], written: Path, case: str) -> None:
    decision, words = BAD[case]
    with pytest.raises(BundleError, match=r"conflicts\.csv") as caught:
        merge(store, sides, written, decision)
    assert words in caught.value.message
    assert "1.3.0" not in map(str, store.versions("pets"))


def test_a_row_twice_and_bundles_in_another_order(store: Repository, sides: list[Bundle], written: Path) -> None:
    rows = table_of(written)
    write_table(written, [rows[0], rows[0]], list(rows[0]))
    with pytest.raises(BundleError, match=r"line 3: the row .* is already on line 2"):
        add_merged(store, sides, settling=Settling(file=written, decided_by="Cay"))
    write_table(written, rows, list(rows[0]))
    with pytest.raises(BundleError, match="or of these bundles in another order"):
        add_merged(store, sides[::-1], settling=Settling(file=written, decided_by="Cay"))


def test_decisions_are_of_somebody(store: Repository, sides: list[Bundle], written: Path) -> None:
    rows = [row | {"decision": "first"} for row in table_of(written)]
    write_table(written, rows, list(rows[0]))
    with pytest.raises(UsageError, match="needs who decided"):
        add_merged(store, sides, settling=Settling(file=written))


def test_a_kind_and_an_id_are_decided_by_a_side_alone(store: Repository, tmp_path: Path) -> None:
    first = write_texts(tmp_path / "a.jsonl", [texts("cat", "It sits.")[0]])
    second = write_texts(tmp_path / "b.jsonl", [replace(texts("cat", "It sits.")[0], kind="phrase")])
    path = tmp_path / "kinds.csv"
    with pytest.raises(MergeConflictError):
        add_merged(store, [first, second], settling=Settling(file=path))
    with pytest.raises(BundleError, match="unknown decision 'accept'; valid: first, second"):
        merge(store, [first, second], path, {"decision": "accept"})
    assert [record.kind for record in merge(store, [first, second], path, {"decision": "second"}).records()] == [
        "phrase"
    ]
