"""COCO exports, read back by pycocotools."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from exported_runs import CLASSES, HOSTILE_CLASSES, HOSTILE_NAMES, decide, make_run, row, save_photos

from abs_classify.labelling.exporters.exports import ExportOptions, export_labels

pycocotools = pytest.importorskip("pycocotools.coco")
from pycocotools.cocoeval import COCOeval  # noqa: E402


def test_whole_images_are_boxes_around_all_of_them(tmp_path: Path) -> None:
    photos = save_photos(tmp_path / "photos" / "sub", ["1.jpg", "2.jpg", "3.jpg"])
    folder = make_run(tmp_path / "out", [row(photo, number) for number, photo in enumerate(photos)])
    decide(folder, "ann", _1="owl")
    summary = export_labels(folder, "coco", ExportOptions(root=tmp_path / "photos"))
    coco = pycocotools.COCO(str(summary.folder / "annotations" / "instances_default.json"))
    assert [entry["name"] for entry in coco.loadCats(coco.getCatIds())] == [label.name for label in CLASSES]
    assert [image["file_name"] for image in coco.loadImgs(coco.getImgIds())] == [f"sub/{n}.jpg" for n in (1, 2, 3)]
    annotations = coco.loadAnns(coco.getAnnIds())
    assert [(entry["category_id"], entry["source"], entry["bbox"]) for entry in annotations] == [
        (3, "reviewer", [0, 0, 60, 40]),
        (2, "model", [0, 0, 60, 40]),
        (3, "model", [0, 0, 60, 40]),
    ]
    predicted = coco.loadRes(str(summary.folder / "predictions.json"))
    assert [entry["category_id"] for entry in predicted.loadAnns(predicted.getAnnIds())] == [1, 2, 3]
    evaluation = COCOeval(coco, predicted, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    # of dog the only label is right, of owl one of two is predicted; of cat there is none
    precision = evaluation.eval["precision"][0, :, :, 0, -1].mean(axis=0)
    assert precision[0] == -1
    assert precision[1] == pytest.approx(1)
    assert 0.4 < precision[2] < 0.6


def test_boxes_are_instances_of_their_image(tmp_path: Path) -> None:
    first, second = save_photos(tmp_path / "photos", ["a.jpg", "b.jpg"])
    rows = [
        row(first, 0, box=(10, 5, 20, 10)),
        row(second, 1, box=(0, 0, 5, 5)),
        row(first, 2, box=(50, 30, 20, 20)),  # over the edge
    ]
    summary = export_labels(make_run(tmp_path / "out", rows), "coco")
    coco = pycocotools.COCO(str(summary.folder / "annotations" / "instances_default.json"))
    assert len(coco.getImgIds()) == 2
    annotations = coco.loadAnns(coco.getAnnIds(imgIds=[1]))
    assert [(entry["bbox"], entry["area"]) for entry in annotations] == [
        ([10, 5, 20, 10], 200),
        ([50, 30, 10, 10], 100),
    ]


def test_hostile_names_are_read(tmp_path: Path) -> None:
    photos = save_photos(tmp_path / "photos", HOSTILE_NAMES)
    rows = [row(photo, number % 7, classes=7) for number, photo in enumerate(photos)]
    summary = export_labels(make_run(tmp_path / "out", rows, HOSTILE_CLASSES), "coco")
    coco = pycocotools.COCO(str(summary.folder / "annotations" / "instances_default.json"))
    root = Path(json.loads((summary.folder / "export.json").read_bytes())["root"])
    assert all((root / image["file_name"]).is_file() for image in coco.loadImgs(coco.getImgIds()))
    assert len(coco.getImgIds()) == len(HOSTILE_NAMES)
    assert [entry["name"] for entry in coco.loadCats(coco.getCatIds())] == [label.name for label in HOSTILE_CLASSES]


def test_lying_images_are_measured_upright(tmp_path: Path) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "photos").mkdir()
    file = tmp_path / "photos" / "lying.jpg"
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(file, exif=exif)
    summary = export_labels(make_run(tmp_path / "out", [row(file)]), "coco")
    image = json.loads((summary.folder / "annotations" / "instances_default.json").read_bytes())["images"][0]
    assert (image["width"], image["height"]) == (40, 60)
