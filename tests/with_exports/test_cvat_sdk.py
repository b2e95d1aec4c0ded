"""What a CVAT export says, sent as CVAT's SDK sends it. Datumaro reads the file itself, see there."""

from __future__ import annotations

from typing import Any

from exported_runs import HOSTILE_NAMES

from abs_classify.labelling.exporters.exports import export_labels
from abs_classify.labelling.label_folder import LabelFolder


def test_hostile_names(hostile: LabelFolder, read: Any) -> None:
    value = read(export_labels(hostile, "cvat").folder)
    assert len(value["names"]) == len(set(value["names"])) == len(HOSTILE_NAMES)
    tags = value["data"]["tags"]
    assert [(tag["label_id"], tag["source"]) for tag in tags[:3]] == [(6, "manual"), (2, "auto"), (3, "auto")]
    assert [label["type"] for label in value["task"]["labels"]] == ["tag"] * 7


def test_boxes(boxes: LabelFolder, read: Any) -> None:
    value = read(export_labels(boxes, "cvat").folder)
    assert [(shape["frame"], shape["label_id"], shape["points"]) for shape in value["data"]["shapes"]] == [
        (0, 2, [0, 0, 12, 8]),
        (0, 3, [6, 4, 36, 24]),
        (1, 3, [0, 0, 60, 40]),
    ]
