"""Exports read by FiftyOne's importers. Its database, which it downloads, is not needed for that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from exported_runs import HOSTILE_CLASSES, HOSTILE_NAMES

from abs_classify.labelling.exporters.exports import ExportOptions, export_labels
from abs_classify.labelling.label_folder import LabelFolder


@pytest.mark.parametrize("links", [None, "symbolic"])
def test_hostile_names(hostile: LabelFolder, read: Any, links: Any) -> None:
    summary = export_labels(hostile, "fiftyone", ExportOptions(links=links))
    values = {
        name: read(summary.folder, "classification", f"{name}.json")
        for name in ("labels", "predictions", "ground_truth")
    }
    assert values["labels"]["classes"] == [label.name for label in HOSTILE_CLASSES]
    assert [len(value["rows"]) for value in values.values()] == [len(HOSTILE_NAMES), len(HOSTILE_NAMES), 1]
    assert all(Path(path).is_file() and size == [60, 40] for path, size, _ in values["labels"]["rows"])
    corrected = values["ground_truth"]["rows"][0]
    assert corrected[2] == ["con", None]
    assert {path: label for path, _, label in values["predictions"]["rows"]}[corrected[0]] == ["CON", 0.75]


def test_boxes(boxes: LabelFolder, read: Any) -> None:
    summary = export_labels(boxes, "fiftyone")
    rows = read(summary.folder, "detection", "labels.json")["rows"]
    assert [label for _, _, label in rows] == [
        [["dog & <co>", [0, 0, 0.2, 0.2], 0.75], ["owl", [0.1, 0.1, 0.5, 0.5], None]],
        [["owl", [0, 0, 1, 1], 0.5]],
    ]
