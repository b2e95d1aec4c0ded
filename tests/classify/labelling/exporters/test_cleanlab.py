"""cleanlab exports, read back by cleanlab."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from exported_runs import HOSTILE_CLASSES, HOSTILE_NAMES, decide, make_run, row, save_photos
from numpy.typing import NDArray

from abs_classify.labelling.exporters.cleanlab import spread_ranking
from abs_classify.labelling.exporters.exports import export_labels
from abs_classify.labelling.rows import ClassConfidence, LabelRow
from abs_core.text import text_of_cell

filtering = pytest.importorskip("cleanlab.filter")


def probabilities(rows: Sequence[LabelRow]) -> NDArray[np.float32]:
    """Sure of the first class in every tenth row, else of the class that the row says; the last row is not known."""
    array = np.full((len(rows), 3), 0.05, np.float32)
    for values, entry in zip(array, rows, strict=True):
        values[0 if entry.number % 10 == 0 else entry.label or 0] = 0.9
    array[[entry.number == 60 for entry in rows]] = np.nan
    return array


def test_label_errors_are_found_in_what_was_exported(tmp_path: Path) -> None:
    photos = save_photos(tmp_path / "photos", [f"{number}.jpg" for number in range(60)], (4, 4))
    folder = make_run(tmp_path / "out", [row(photo, 1 + number % 2) for number, photo in enumerate(photos)])
    decide(folder, "ann", _4="cat", _5="cat")
    summary = export_labels(folder, "cleanlab", probabilities=probabilities)
    labels = np.load(summary.folder / "labels.npy")
    predicted = np.load(summary.folder / "pred_probs.npy", mmap_mode="r")
    assert (labels.dtype, labels.shape, predicted.dtype, predicted.shape) == (np.int64, (60,), np.float32, (60, 3))
    assert labels[:6].tolist() == [1, 2, 1, 0, 0, 2]
    # what the caller does not know comes from the row
    assert predicted[-1] == pytest.approx([0.125, 0.125, 0.75])
    issues = filtering.find_label_issues(labels, np.asarray(predicted), return_indices_ranked_by="self_confidence")
    assert set(issues.tolist()) >= {9, 19, 29, 39, 49}
    rows = read_listing(summary.folder)
    assert [(rows[number]["label_id"], rows[number]["source"]) for number in (2, 3, 9)] == [
        ("dog", "model"),
        ("cat", "reviewer"),
        ("owl", "model"),
    ]
    assert Path(rows[9]["path"]) == photos[9]


def read_listing(folder: Path) -> list[dict[str, str]]:
    with (folder / "images.csv").open(encoding="utf-8", newline="") as stream:
        return [{name: text_of_cell(cell) for name, cell in entry.items()} for entry in csv.DictReader(stream)]


def test_without_probabilities_the_rest_is_spread_evenly(tmp_path: Path) -> None:
    rows = [
        LabelRow("a", "labelled", (ClassConfidence(2, 0.5), ClassConfidence(0, 0.2))),
        LabelRow("b", "labelled", (ClassConfidence(1, 1.0), ClassConfidence(0, 0.2))),
    ]
    spread = spread_ranking(rows, 5)
    assert spread[0] == pytest.approx([0.2, 0.1, 0.5, 0.1, 0.1])
    assert spread.sum(axis=1) == pytest.approx([1, 1])
    assert spread_ranking(rows, 3)[0] == pytest.approx([0.2, 0.3, 0.5])


def test_hostile_names_come_back(tmp_path: Path) -> None:
    photos = save_photos(tmp_path / "photos", HOSTILE_NAMES)
    rows = [row(photo, number % 7, classes=7) for number, photo in enumerate(photos)]
    summary = export_labels(make_run(tmp_path / "out", rows, HOSTILE_CLASSES), "cleanlab")
    listing = read_listing(summary.folder)
    assert [entry["path"] for entry in listing] == list(map(str, photos))
    assert [entry["label"] for entry in listing[:7]] == [label.name for label in HOSTILE_CLASSES]
    text = (summary.folder / "images.csv").read_text("utf-8")
    assert len(text.splitlines()) == len(HOSTILE_NAMES) + 1
    assert ",'=1+1," in text
    classes = json.loads((summary.folder / "classes.json").read_bytes())
    assert [entry["name"] for entry in classes] == [label.name for label in HOSTILE_CLASSES]
