"""Exports opened in Datumaro: its own format, COCO's and CVAT's, which CVAT reads with a relative of it."""

from __future__ import annotations

from typing import Any

import pytest
from exported_runs import HOSTILE_CLASSES, HOSTILE_NAMES

from abs_classify.labelling.exporters.cvat import cvat_names
from abs_classify.labelling.exporters.exports import ExportOptions, export_labels
from abs_classify.labelling.label_folder import LabelFolder


@pytest.mark.parametrize("export_format", ["datumaro", "coco", "cvat"])
def test_hostile_names(hostile: LabelFolder, read: Any, export_format: str) -> None:
    summary = export_labels(hostile, export_format, ExportOptions(links="hard"))
    value = read(summary.folder, {"coco": "coco_instances"}.get(export_format, export_format))
    names = [label.name for label in HOSTILE_CLASSES]
    assert value["classes"] == (cvat_names(names) if export_format == "cvat" else names)
    assert len(value["items"]) == len(HOSTILE_NAMES)
    assert all(item["size"] == [40, 60] for item in value["items"])
    labels = {item["id"]: item["labels"][0][0] for item in value["items"]}
    assert labels["a b&_c_'_"] == "con"
    assert labels["ünïcode 猫"] == HOSTILE_CLASSES[3].name


def test_images_that_stay_where_they_are(hostile: LabelFolder, read: Any) -> None:
    summary = export_labels(hostile, "datumaro")
    value = read(summary.folder, "datumaro", "allow_external_media")
    assert all(item["size"] == [40, 60] for item in value["items"])
    attributes = {item["id"]: item["attributes"][0] for item in value["items"]}
    assert attributes["a b&<c>'\""] == {"source": "reviewer", "status": "reviewed"}
    assert attributes["a.b.c"] == {"source": "model", "status": "labelled", "score": 0.75}


@pytest.mark.parametrize("export_format", ["datumaro", "coco", "cvat"])
def test_boxes(boxes: LabelFolder, read: Any, export_format: str) -> None:
    summary = export_labels(boxes, export_format, ExportOptions(links="hard"))
    value = read(summary.folder, {"coco": "coco_instances"}.get(export_format, export_format))
    labels = {item["id"]: sorted(item["labels"]) for item in value["items"]}
    assert labels == {
        "a": [["dog & <co>", "bbox", [0, 0, 12, 8]], ["owl", "bbox", [6, 4, 30, 20]]],
        "b": [["owl", "bbox", [0, 0, 60, 40]]],
    }
