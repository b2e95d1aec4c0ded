"""Reviews of reviewed bundles, and edits into texts that the same review frees."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from bundle_samples import CREATED, THREE_PETS, G, texts, write_texts

from abs_core.errors import BundleError
from abs_descriptions.bundles import Bundle, Description, Provenance, iter_rejected
from abs_descriptions.bundles.merge import merge_bundles
from abs_descriptions.bundles.review import read_review_file, write_review_file, write_reviewed
from abs_descriptions.bundles.review_file import COLUMNS


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_texts(tmp_path / "pets.jsonl", [*texts("cat", "It purrs.", "It barks."), *texts("dog", "It sits.")])


def review(bundle: Bundle, folder: Path, **decisions: tuple[str, str]) -> Bundle:
    """The child in which texts, by their verb, are decided: the decision and the new text."""
    folder.mkdir()
    write_review_file(bundle, folder / "review.csv")
    rows = list(csv.DictReader(io.StringIO((folder / "review.csv").read_text("utf-8-sig"), newline="")))
    for row in rows:
        decision, new_text = decisions.get(row["text"].removeprefix("It ").removesuffix("."), ("", ""))
        row.update(decision=decision, new_text=new_text)
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    (folder / "review.csv").write_text(out.getvalue(), encoding="utf-8", newline="")
    decided = read_review_file(folder / "review.csv", bundle)
    return write_reviewed(
        folder / "pets.jsonl", bundle, decided, reviewer=folder.name, name="pets", version="1.1.0", created=CREATED
    )


def test_every_review_has_a_generator_of_its_own(tmp_path: Path, bundle: Bundle) -> None:
    first = review(bundle, tmp_path / "Ann", purrs=("accept", ""))
    second = review(first, tmp_path / "Bob", barks=("edit", "It meows."))
    third = review(second, tmp_path / "Cleo", meows=("accept", ""), sits=("reject", ""))
    assert [(entry.id, entry.model) for entry in third.header.generators][1:] == [
        ("review", "Ann"),
        ("review-2", "Bob"),
        ("review-3", "Cleo"),
    ]
    by = {record.text: (record.provenance.accepted_by, record.provenance.edited_by) for record in third.records()}
    assert by == {"It purrs.": ("review", None), "It meows.": ("review-3", "review-2")}
    assert [(entry.text, entry.rejected_by) for entry in iter_rejected(third.path, third.header)] == [
        ("It barks.", "review-2"),
        ("It sits.", "review-3"),
    ]


def test_an_edit_may_take_the_text_of_a_sentence_that_is_rejected(tmp_path: Path, bundle: Bundle) -> None:
    child = review(bundle, tmp_path / "Ann", purrs=("edit", "It barks."), barks=("reject", ""))
    assert [record.text for record in child.records()] == ["It barks.", "It sits."]
    assert [entry.text for entry in iter_rejected(child.path, child.header)] == ["It purrs.", "It barks."]


def test_an_edit_may_not_take_the_text_of_one_that_stays(tmp_path: Path, bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"'cat' has the text 'It barks\.' already"):
        review(bundle, tmp_path / "Ann", purrs=("edit", "It barks."), barks=("accept", ""))
    assert [record.text for record in review(bundle, tmp_path / "Bob", purrs=("edit", "It sits.")).records()] == [
        "It sits.",
        "It barks.",
        "It sits.",
    ]


def test_a_merge_carries_over_who_accepted_edited_and_rejected(tmp_path: Path, bundle: Bundle) -> None:
    first = review(bundle, tmp_path / "Ann", sits=("reject", ""))
    other = write_texts(tmp_path / "more.jsonl", texts("fish", "It swims.", "It glides.", "It flies."))
    second = review(
        other, tmp_path / "Bob", swims=("accept", ""), glides=("edit", "It glistens."), flies=("reject", "")
    )
    merged = merge_bundles(
        tmp_path / "merged.jsonl", [first.path, second.path], name="pets", version="2.0.0", created=CREATED
    )
    by = {record.text: record.provenance for record in merged.records() if record.class_id == "fish"}
    assert by == {
        "It swims.": Provenance("g", accepted_by="review-2"),
        "It glistens.": Provenance("g", edited_by="review-2"),
    }
    assert {entry.text: entry.rejected_by for entry in iter_rejected(merged.path, merged.header)} == {
        "It sits.": "review",
        "It glides.": "review-2",
        "It flies.": "review-2",
    }


def test_a_merge_keeps_scores_and_ids(tmp_path: Path) -> None:
    record = Description("It swims.", class_id="fish", provenance=G, scores={"clip": 0.5}, id="f1")
    sources = [
        write_texts(tmp_path / "a.jsonl", texts("cat", "It purrs.")),
        write_texts(tmp_path / "b.jsonl", [record]),
    ]
    merged = merge_bundles(
        tmp_path / "merged.jsonl",
        [source.path for source in sources],
        name="pets",
        version="2.0.0",
        created=CREATED,
        label_set=THREE_PETS,
    )
    assert list(merged.records())[1] == record
