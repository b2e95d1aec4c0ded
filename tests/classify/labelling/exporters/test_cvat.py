"""CVAT exports; `make test-exports` opens them with what CVAT reads them with."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

from exported_runs import HOSTILE_CLASSES, HOSTILE_NAMES, decide, make_run, row, save_photos

from abs_classify.labelling.exporters.cvat import cvat_names
from abs_classify.labelling.exporters.exports import export_labels


def test_hostile_names_are_whole_in_xml(tmp_path: Path) -> None:
    photos = save_photos(tmp_path / "photos", HOSTILE_NAMES)
    rows = [row(photo, number % 7, classes=7) for number, photo in enumerate(photos)]
    folder = make_run(tmp_path / "out", rows, HOSTILE_CLASSES)
    decide(folder, "ann", _1="lower")
    summary = export_labels(folder, "cvat")
    root = ElementTree.parse(summary.folder / "annotations.xml").getroot()
    images = root.findall("image")
    assert images[0].attrib == {"id": "0", "name": "photos/" + HOSTILE_NAMES[0], "width": "60", "height": "40"}
    tags = [tag.attrib for tag in root.iter("tag")]
    assert [(tag["label"], tag["source"]) for tag in tags[:4]] == [
        ("con", "manual"),
        ("../..", "auto"),
        ("a/b\\c", "auto"),
        ("\"<&'>]]>", "auto"),
    ]
    labels = json.loads((summary.folder / "labels.json").read_bytes())
    assert [label["name"] for label in labels] == [label.findtext("name") for label in root.iter("label")]
    assert {tag["label"] for tag in tags} == {label["name"] for label in labels}
    assert [entry.text for entry in images[1].iter("attribute")] == ["0.750000", "labelled"]


def test_names_are_short_and_different() -> None:
    names = cvat_names(["x" * 70 + "1", "x" * 70 + "2", "bell\x07", " ", "a"])
    assert names == ["x" * 63 + "…", "x" * 55 + "… (2)", "bell\\x07", "_", "a"]
    assert max(map(len, names)) == 64
