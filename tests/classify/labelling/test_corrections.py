"""The corrections of a labelled folder: gathered, with what is left out, and its rows labelled anew."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import save_small_clip

from abs_classify import label
from abs_classify.labelling.corrections import learn_from_folder, relabel
from abs_classify.labelling.decisions import DecisionLog, ReviewDecision
from abs_classify.labelling.heads import LinearHead
from abs_classify.labelling.judge import Thresholds
from abs_classify.labelling.label_folder import LabelFolder
from abs_classify.labelling.learned import Learned, LearnedHead, learned_folder, learned_of, subject_of_folder
from abs_classify.labelling.reopening import reopen_labeller
from abs_classify.labelling.rows import LabelRow
from abs_classify.labelling.run import LabelRun
from abs_classify.models.registry import load_model
from abs_core.errors import ResultError, UsageError
from abs_core.text import json_text

CLASSES = {"tabby": ("A tabby cat has stripes.",), "toaster": ("A toaster holds two slices.",), "shoe": ("A shoe.",)}
COUNT = 24


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_model(f"local-dir:{save_small_clip(tmp_path_factory.mktemp('clip') / 'small', 0)}")


def add_photos(folder: Path, numbers: Sequence[int]) -> None:
    folder.mkdir(exist_ok=True)
    for number in numbers:
        pixels = np.random.default_rng(number).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")


def start(tmp_path: Path, model: Any, **options: Any) -> LabelRun:
    place = {"out": tmp_path / "out", "cache": tmp_path / "cache"}
    return label(tmp_path / "photos", CLASSES, model=model, method="cupl", **place, **options)


def run(tmp_path: Path, model: Any) -> list[LabelRow]:
    return list(start(tmp_path, model))


@pytest.fixture
def folder(tmp_path: Path, model: Any) -> LabelFolder:
    add_photos(tmp_path / "photos", range(COUNT))
    run(tmp_path, model)
    return LabelFolder.open(tmp_path / "out")


def decide(folder: LabelFolder, decisions: Sequence[ReviewDecision], reviewer: str = "anna") -> None:
    log = DecisionLog(folder.path, reviewer)
    log.append(decisions)
    log.close()


def decision(row: LabelRow, label: str, **values: Any) -> ReviewDecision:
    values = {"image_id": row.image_id, "action": "label", "label": label, "shown_by": "random", **values}
    return ReviewDecision(path=row.path, **values)


def opened(folder: LabelFolder, model: Any, tmp_path: Path) -> Any:
    return reopen_labeller(folder, model, cache=tmp_path / "cache")


def test_decisions_that_cannot_be_used_are_counted_and_left_out(
    folder: LabelFolder, model: Any, tmp_path: Path
) -> None:
    rows = list(folder.rows())
    ids = [entry.id for entry in folder.classes]
    decide(folder, [decision(row, ids[number % 3]) for number, row in enumerate(rows[:20])])
    decide(folder, [decision(rows[0], ids[1])], "bob")  # disagrees
    decide(folder, [decision(rows[20], "giraffe"), decision(rows[21], "", action="reject")])
    gone = ReviewDecision(image_id=f"sha256:{'0' * 64}", action="label", label=ids[0], path="gone.jpg")
    decide(folder, [gone])
    learning = learn_from_folder(folder, opened(folder, model, tmp_path))
    assert learning.report.images == learning.report.at_random == 19
    reasons = sorted(remark.kind for remark in learning.remarks)
    assert [reason.removeprefix("left out: ") for reason in reasons] == [
        "a decision for a class that the folder does not have",
        "a decision on an image that is no longer there",
        "an image of none of the classes; it can fit `known` alone",
        "an image on which reviewers disagree",
    ]
    assert learned_of(folder).generation == 0


def test_what_is_learned_is_kept_but_not_by_a_dry_run(folder: LabelFolder, model: Any, tmp_path: Path) -> None:
    ids = [entry.id for entry in folder.classes]
    rows = list(folder.rows())
    decide(folder, [decision(row, ids[number % 3]) for number, row in enumerate(rows[:22])])
    labeller = opened(folder, model, tmp_path)
    dry = learn_from_folder(folder, labeller, save=False)
    assert not learned_folder(folder).exists()
    assert dry.learned.images == 22
    assert json.loads(json_text(asdict(dry.report)))["at_random"] == 22
    assert learn_from_folder(folder, labeller.again()).learned.generation == learned_of(folder).generation > 0


def test_nothing_decided_is_said(folder: LabelFolder, model: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing is decided"):
        learn_from_folder(folder, opened(folder, model, tmp_path))


def test_decided_images_that_are_gone_are_said(folder: LabelFolder, model: Any, tmp_path: Path) -> None:
    rows = list(folder.rows())
    decide(folder, [decision(row, folder.classes[0].id) for row in rows[:3]])
    (tmp_path / "photos").rename(tmp_path / "moved")
    labeller = reopen_labeller(folder, model, cache=tmp_path / "empty")
    with pytest.raises(UsageError, match=r"nothing to learn from .* 3 left out: .* cannot be read now"):
        learn_from_folder(folder, labeller)


def test_rows_and_tables_and_later_images_have_what_was_learned(
    folder: LabelFolder, model: Any, tmp_path: Path
) -> None:
    labeller = opened(folder, model, tmp_path)
    width = labeller.class_vectors().shape[1]
    shoes = LearnedHead(LinearHead(np.zeros((3, width)), np.array([0.0, 0.0, 50.0])), 1.0, True)
    learned = Learned(1.0, 30, shoes, 0.5, subject=subject_of_folder(folder))
    before = [row.label for row in folder.rows()]
    learned.save(learned_folder(folder))
    changed = relabel(folder, labeller, learned, Thresholds(0.1))
    assert changed == sum(position != 2 for position in before) > 0
    assert labeller.work.nothing  # everything came from the cache
    assert {(row.label, row.status) for row in folder.rows()} == {(2, "labelled")}
    with (folder.path / "labels.csv").open() as stream:
        assert {row["label"] for row in csv.DictReader(stream)} == {"shoe"}
    assert run(tmp_path, model) == []
    add_photos(tmp_path / "photos", [COUNT])
    assert [row.label for row in run(tmp_path, model)] == [2]
    nothing = replace(learned, images=0, head=None, threshold=None)
    nothing.save(learned_folder(folder))
    relabel(folder, labeller.again(), nothing, Thresholds(0.1))
    assert [row.label for row in folder.rows()][:COUNT] == before


def test_a_threshold_that_is_given_leaves_the_rest_of_what_was_learned(model: Any, tmp_path: Path) -> None:
    add_photos(tmp_path / "photos", range(2))
    asked = {"none": True, "negatives": ["a lamp"]}
    list(start(tmp_path, model, **asked))
    folder = LabelFolder.open(tmp_path / "out")
    for known, threshold, status in ((2.0, 1.0, "rejected"), (-2.0, 1.0, "doubtful"), (-2.0, 0.0, "labelled")):
        Learned(1.0, 30, threshold=0.5, known=known, subject=subject_of_folder(folder)).save(learned_folder(folder))
        list(start(tmp_path, model, threshold=threshold, **asked))
        assert {row.status for row in folder.rows()} == {status}


def test_the_summary_and_the_table_of_a_run_show_what_was_decided(
    folder: LabelFolder, model: Any, tmp_path: Path
) -> None:
    rows = list(folder.rows())
    shoes = sum(row.label == 2 for row in rows)
    corrected, rejected = [row for row in rows if row.label != 2][:2]
    decide(folder, [decision(corrected, "shoe"), decision(rejected, "", action="reject")])
    again = start(tmp_path, model)
    cells = again.table()
    reviewed = [row["path"] for row in (cells if isinstance(cells, list) else cells.to_dict("records"))
                if row["status"] == "reviewed"]  # fmt: skip
    assert sorted(reviewed) == sorted([corrected.path, rejected.path])
    summary = again.summary()
    assert summary.statuses["reviewed"] == 2
    assert summary.images == COUNT
    assert summary.classes["shoe"] == shoes + 1
    with (folder.path / "labels.csv").open() as stream:
        assert sum(row["status"] == "reviewed" for row in csv.DictReader(stream)) == 2


def test_what_was_learned_of_another_folder_is_refused(folder: LabelFolder, model: Any, tmp_path: Path) -> None:
    Learned(1.0, 30, subject={**subject_of_folder(folder), "seed": 7}).save(learned_folder(folder))
    with pytest.raises(ResultError, match="learned with another seed"):
        run(tmp_path, model)


def test_what_is_learned_while_a_run_begins_is_not_passed_over(folder: LabelFolder, model: Any, tmp_path: Path) -> None:
    add_photos(tmp_path / "photos", [COUNT])
    begun = start(tmp_path, model)
    Learned(2.0, 30, threshold=0.5, subject=subject_of_folder(folder)).save(learned_folder(folder))
    with pytest.raises(UsageError, match=r"something was learned .* since this run began"):
        list(begun)
    assert len(run(tmp_path, model)) == COUNT + 1  # by what was learned
