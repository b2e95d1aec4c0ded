"""Folders by class, read back by torchvision."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from exported_runs import HOSTILE_CLASSES, HOSTILE_NAMES, make_run, row, save_photos

from abs_classify.labelling.exporters.exports import ExportOptions, export_labels
from abs_classify.labelling.locations import ImageLocation


@pytest.mark.parametrize("links", [None, "hard", "symbolic"])
def test_hostile_classes_and_names_become_folders_and_files(tmp_path: Path, links: str | None) -> None:
    from torchvision.datasets import ImageFolder

    photos = save_photos(tmp_path / "photos", HOSTILE_NAMES)
    rows = [row(photo, number % 7, classes=7) for number, photo in enumerate(photos)]
    folder = make_run(tmp_path / "out", rows, HOSTILE_CLASSES)
    summary = export_labels(folder, "imagefolder", ExportOptions(links=links))  # type: ignore[arg-type]
    classes = json.loads((summary.folder / "classes.json").read_bytes())
    folders = [entry["folder"] for entry in classes]
    assert folders[:6] == ["_CON", "_._", "a_b_c", "__&'_]]_", "=1+1", "_con (2)"]
    assert len(folders[6].encode()) <= 120
    dataset = ImageFolder(str(summary.folder))
    assert dataset.classes == sorted(folders)
    counts = [dataset.targets.count(dataset.class_to_idx[name]) for name in folders]
    assert counts == [2, 2, 2, 1, 1, 1, 1]
    assert len(dataset) == len(HOSTILE_NAMES)
    assert all(image.size == (60, 40) for image, _ in dataset)
    # nothing got out of the export
    assert {entry.name for entry in tmp_path.iterdir()} == {"photos", "out"}
    assert len(save_photos(tmp_path / "photos", HOSTILE_NAMES)) == len(list((tmp_path / "photos").iterdir()))


def test_files_of_one_name_do_not_replace_each_other(tmp_path: Path) -> None:
    photos = save_photos(tmp_path / "photos", ["a/x.jpg", "b/x.jpg", "c/X.JPG", "d/x-2.jpg"])
    summary = export_labels(make_run(tmp_path / "out", [row(photo) for photo in photos]), "imagefolder")
    # names that differ in case alone are one on many systems
    assert sorted(path.name for path in (summary.folder / "Katze").iterdir()) == [
        "X-3.JPG",
        "x-2-4.jpg",
        "x-2.jpg",
        "x.jpg",
    ]


def test_boxes_are_files_of_their_own(tmp_path: Path) -> None:
    (photo,) = save_photos(tmp_path / "photos", ["x.jpg"])
    rows = [row(photo, 0, box=(0, 0, 10, 20)), row(photo, 0, box=(5.5, 0, 10, 20))]
    summary = export_labels(make_run(tmp_path / "out", rows), "imagefolder")
    names = sorted(path.stem for path in (summary.folder / "Katze").iterdir())
    assert names == ["x_0_0_10_20", "x_5.5_0_10_20"]


def test_images_of_an_archive_are_written_as_files(tmp_path: Path) -> None:
    (photo,) = save_photos(tmp_path / "photos", ["x.jpg"])
    archive = tmp_path / "photos.tar"
    with tarfile.open(archive, "w") as file:
        file.add(photo, "../../etc/x")
    with tarfile.open(archive) as file:
        extent = (file.getmembers()[0].offset_data, photo.stat().st_size)
    entry = row(archive, 0, member="../../etc/x")
    folder = make_run(tmp_path / "out", [replace(entry, location=ImageLocation(archive, "../../etc/x", None, extent))])
    for export_format, place in (("imagefolder", "Katze/x.jpg"), ("coco", "images/photos.tar/_/_/etc/x.jpg")):
        summary = export_labels(folder, export_format)
        assert (summary.folder / place).is_file()
