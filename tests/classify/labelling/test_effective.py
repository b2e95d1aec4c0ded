"""What rows become when reviewers decided, and what is counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from labelled_folders import labelled_folder

from abs_classify.evaluation.significance import wilson
from abs_classify.labelling.decisions import CurrentDecision, ReviewDecision, ShownBy
from abs_classify.labelling.effective import EffectiveLabels, preferred
from abs_classify.labelling.label_folder import LabelFolder
from abs_classify.labelling.rows import LabelRow


def current(
    action: str, label: str = "", *, model: str = "cat", shown_by: ShownBy = "chosen", conflict: bool = False
) -> CurrentDecision:
    other = ReviewDecision("sha256:" + "0" * 64, "reject", reviewer="bob", time="2026-01-01T00:00:00.000Z")
    others = (other,) if conflict else ()
    return CurrentDecision(action, label, ("alice",), "2026", shown_by, conflict, others, model, "a.jpg")  # type: ignore[arg-type]


@pytest.fixture
def rows(tmp_path: Path) -> list[LabelRow]:
    return list(labelled_folder(tmp_path, 12, copies=1, unreadable=1).rows())


@pytest.fixture
def folder(tmp_path: Path) -> LabelFolder:
    return LabelFolder.open(tmp_path / "labelled")


def test_a_decided_row_has_the_decided_label_and_its_copy_has_it_too(rows: list[LabelRow], folder: LabelFolder) -> None:
    first, second, third = rows[:3]
    assert first.label is not None
    names = [label.id for label in folder.classes]
    other = next(entry for entry in second.ranking[1:])
    labels = EffectiveLabels(
        folder.classes,
        {
            first.image_id: current("accept", names[first.label], model=names[first.label]),
            second.image_id: current("label", names[other.position], model=names[second.label or 0]),
            third.image_id: current("reject"),
        },
    )
    done = list(labels.rows(rows))
    assert (done[0].status, done[0].ranking, done[0].reason) == ("reviewed", first.ranking, "accepted by alice")
    assert (done[1].label, done[1].confidence) == (other.position, other.confidence)
    assert done[1].margin == pytest.approx(other.confidence - second.ranking[0].confidence)
    assert done[1].reason.startswith("corrected by alice, was ")
    assert (done[2].status, done[2].label, done[2].reason) == ("reviewed", None, "none of the classes (alice)")
    copy = next(row for row in done[3:] if row.image_id == first.image_id)
    assert (copy.status, copy.label) == ("reviewed", first.label)
    untouched = [row for row in done[3:] if row.status != "reviewed"]
    assert untouched == [row for row in rows[3:] if row.image_id != first.image_id]
    summary = labels.summary
    # twelve images, three decided; a copy counts once, and an unreadable file is no image
    assert (summary.accepted, summary.corrected, summary.rejected, summary.undecided) == (1, 1, 1, 9)


def test_conflicts_unknown_classes_and_images_that_are_gone_are_kept_and_named(
    rows: list[LabelRow], folder: LabelFolder
) -> None:
    decisions = {
        rows[0].image_id: current("label", "dog", conflict=True),
        rows[1].image_id: current("label", "unicorn"),
        "sha256:" + "1" * 64: current("reject"),
    }
    labels = EffectiveLabels(folder.classes, decisions)
    assert list(labels.rows(rows)) == rows
    assert labels.summary.conflicts == [(rows[0].path, ("alice: dog", "bob: none of the classes"))]
    assert (labels.summary.undecided, labels.summary.conflict_count) == (12, 1)
    assert labels.summary.remarks.counts == {
        "decisions for classes that the folder does not have": 1,
        "decisions on images that the folder does not have": 1,
    }


def test_only_images_drawn_at_random_say_how_right_the_labels_were(rows: list[LabelRow], folder: LabelFolder) -> None:
    decisions = {row.image_id: current("label", "dog", model="cat") for row in rows[:4]}
    decisions |= {row.image_id: current("accept", "cat", model="cat", shown_by="random") for row in rows[4:7]}
    decisions[rows[7].image_id] = current("label", "dog", model="cat", shown_by="random")
    labels = EffectiveLabels(folder.classes, decisions)
    assert labels.summary.accuracy is None
    list(labels.rows(rows))
    assert labels.summary.accuracy == (0.75, *wilson(3, 4))


def test_the_preferred_reviewer_settles_conflicts_and_nothing_else() -> None:
    decisions = {"a": current("label", "dog", conflict=True), "b": current("accept", "cat")}
    assert preferred(decisions, "alice")["a"].label == "dog"
    assert not preferred(decisions, "alice")["a"].conflict
    bobs = preferred(decisions, "bob")
    assert (bobs["a"].action, bobs["a"].reviewers, bobs["a"].conflict) == ("reject", ("bob",), False)
    assert bobs["b"] == decisions["b"]
    assert preferred(decisions, "carol") == decisions
