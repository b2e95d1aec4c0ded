"""Exports imported into a real Label Studio, through its SDK."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from exported_runs import HOSTILE_CLASSES, HOSTILE_NAMES

from abs_classify.labelling.exporters.exports import ExportOptions, export_labels
from abs_classify.labelling.label_folder import LabelFolder


def test_hostile_names(hostile: LabelFolder, read: Any, tmp_path: Path) -> None:
    summary = export_labels(hostile, "label-studio", ExportOptions(root=tmp_path))
    value = read(summary.folder, tmp_path)
    assert value["problems"] == []
    rows = {Path(row["path"]).name: row for row in value["rows"]}
    assert len(rows) == len(HOSTILE_NAMES)
    corrected = rows[HOSTILE_NAMES[0]]
    ((ground_truth, result),) = corrected["annotations"]
    assert (ground_truth, result[0]["value"]["choices"]) == (True, ["con"])
    ((score, result),) = corrected["predictions"]
    assert (score, result[0]["value"]["choices"]) == (0.75, [HOSTILE_CLASSES[0].name])
    # images that stayed where they are come through the local files of the server
    size = (tmp_path / "photos" / HOSTILE_NAMES[0]).stat().st_size
    assert [rows[name]["image"] for name in (*HOSTILE_NAMES[:4], "a.b.c.jpg")] == [size] * 5
