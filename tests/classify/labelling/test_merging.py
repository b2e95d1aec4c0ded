"""Decisions into tables, and decisions from elsewhere into a folder."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from click.testing import CliRunner
from labelled_folders import CLASSES, labelled_folder

from abs_classify.labelling.decisions import DecisionLog, ReviewDecision, decision_line, read_decisions
from abs_classify.labelling.label_folder import LabelFolder
from abs_classify.labelling.merging import merge_decisions, take_in_decisions
from abs_cli.main import cli
from abs_core.errors import UsageError
from abs_core.labels import ClassLabel


@pytest.fixture
def folder(tmp_path: Path) -> LabelFolder:
    return labelled_folder(tmp_path, 6)


def decide(folder: LabelFolder, reviewer: str, number: int, label: str = "") -> None:
    row = folder.row(number)
    assert row is not None
    with DecisionLog(folder.path, reviewer) as log:
        log.append([ReviewDecision(row.image_id, "label" if label else "reject", label, model_label="cat")])


def table(folder: LabelFolder) -> list[dict[str, str]]:
    with (folder.path / "labels.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_tables_have_what_was_decided_and_are_made_again_from_the_decisions(folder: LabelFolder) -> None:
    decide(folder, "alice", 1, "red_fox")
    decide(folder, "alice", 2)
    summary = merge_decisions(folder)
    assert summary.rejected == 1
    first, second, third, *_ = table(folder)
    assert (first["label"], first["status"]) == ("red fox", "reviewed")
    assert (second["label"], second["confidence"], second["status"]) == ("", "", "reviewed")
    assert third["status"] != "reviewed"
    with DecisionLog(folder.path, "alice") as log:
        log.append([ReviewDecision(row.image_id, "undo") for row in folder.rows(count=2)])
    merge_decisions(folder)
    assert [row["status"] for row in table(folder)] == [row.status for row in folder.rows()]


def test_none_of_the_classes_is_not_taken_in_where_there_are_further_classes(
    folder: LabelFolder, tmp_path: Path
) -> None:
    wider = labelled_folder(tmp_path / "wider", 6, classes=(*CLASSES, ClassLabel("owl", "owl")))
    same = labelled_folder(tmp_path / "same", 6)
    decide(folder, "alice", 1, "dog")
    decide(folder, "alice", 2)
    decide(folder, "alice", 3)
    decide(folder, "alice", 3, "cat")
    decide(folder, "alice", 4, "cat")
    decide(folder, "alice", 4)
    added, left_out = take_in_decisions(wider, [folder.path])
    assert added == 3
    assert left_out == [f"{folder.path}: 2 images left out: none of the classes, but decided without 'owl'"]
    assert sorted(decision.label for decision in read_decisions(wider.path).current.values()) == ["cat", "dog"]
    assert take_in_decisions(same, [folder.path]) == (6, [])


def test_decisions_are_taken_in_once(folder: LabelFolder, tmp_path: Path) -> None:
    other = labelled_folder(tmp_path / "other", 6)
    decide(other, "bob", 1, "dog")
    decide(folder, "alice", 2, "dog")
    row = other.row(3)
    assert row is not None
    file = tmp_path / "carol.jsonl"
    line = decision_line(ReviewDecision(row.image_id, "reject", reviewer="carol", time="2026-01-01T00:00:00Z"))
    file.write_bytes(line.rstrip() + b"\nrubbish")
    added, left_out = take_in_decisions(folder, [other.path, file, other.path / "decisions"])
    assert added == 2
    assert [text.split(": ", 1)[1] for text in left_out] == [
        "1 left out: the end of a file, cut off in its last line (carol.jsonl)"
    ]
    assert take_in_decisions(folder, [other.path, file, folder.path])[0] == 0
    decisions = read_decisions(folder.path)
    assert {decision.reviewer for decision in decisions} == {"alice", "bob", "carol"}
    assert decisions.problems == ()
    with pytest.raises(UsageError, match="no decisions in"):
        take_in_decisions(folder, [tmp_path / "nothing"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="has no decisions"):
        take_in_decisions(folder, [tmp_path / "empty"])


def test_the_command_says_what_was_decided(folder: LabelFolder) -> None:
    decide(folder, "alice", 1, "dog")
    decide(folder, "bob", 1, "cat")
    decide(folder, "bob", 2, "cat")
    result = CliRunner().invoke(cli, ["label", "merge", str(folder.path)])
    assert result.exit_code == 1
    assert "conflict: " in result.stdout
    assert "bob: cat; alice: dog" in result.stdout
    assert "5 undecided" in result.stdout
    assert "no image drawn at random was reviewed" in result.stdout
    result = CliRunner().invoke(cli, ["label", "merge", str(folder.path), "--prefer", "alice", "--json"])
    assert result.exit_code == 0
    assert '"conflicts": 0' in result.stdout
    assert table(folder)[0]["label"] == "dog"
    (current,) = [read_decisions(folder.path).current[row.image_id] for row in folder.rows(count=1)]
    assert (current.conflict, current.label, current.reviewers) == (False, "dog", ("alice",))
    decide(folder, "bob", 3, "cat")
    merge_decisions(folder)  # it is kept, whatever is decided on other images
    assert table(folder)[0]["label"] == "dog"
    with pytest.raises(UsageError, match="'eve' decided nothing; who did: alice, bob"):
        merge_decisions(folder, "eve")
