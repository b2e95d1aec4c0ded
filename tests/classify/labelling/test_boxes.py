"""Boxes of COCO and YOLO files: each is an image, in pixels of the upright photo."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import encode, picture
from PIL import Image

from abs_classify.images import load_image
from abs_classify.labelling.locations import ImageLocation, ListedImage
from abs_classify.labelling.sources import ImageSources
from abs_core.errors import AbsError, DatasetError, UsageError

PHOTO = encode(picture(40, 30), "PNG")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("data/images/a.png", "data/images/in/b.png", "data/images/c.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(PHOTO)
    return tmp_path


def coco(images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> Path:
    content = {"info": {}, "images": images, "annotations": annotations, "categories": [{"id": 1, "name": "x"}]}
    Path("boxes.json").write_text(json.dumps(content))
    return Path("boxes.json")


def listed(boxes: Path, *places: str) -> tuple[list[ListedImage], dict[str, int]]:
    sources = ImageSources(places or ["data/images"], boxes=boxes)
    images = list(sources)
    return images, dict(sources.remarks.counts)


def found(images: list[ListedImage]) -> dict[str, str]:
    return {image.path: image.problem for image in images}


OUTSIDE = "the box is empty, or lies outside of the image"


def test_each_box_of_a_coco_file_is_an_image(here: Path) -> None:
    images = [
        {"id": 1, "file_name": "a.png", "width": 40, "height": 30},
        {"id": "b", "file_name": "train/b.png"},
        {"id": 3, "file_name": "c.png", "width": 40, "height": 30},
        {"id": 4, "file_name": "gone.png"},
    ]
    annotations = [
        {"image_id": 1, "bbox": [5, 6, 10, 12.5], "segmentation": [[1, 2]], "category_id": 1},
        {"image_id": 1, "bbox": [30, 20, 90, 90]},
        {"image_id": 1, "bbox": [30, 20, 90, 90]},
        {"image_id": 1, "bbox": [50, 0, 5, 5]},
        {"image_id": 1, "bbox": [5, 5, 0, 5]},
        {"image_id": 1, "bbox": "none"},
        {"image_id": "b", "bbox": [-5, 0, 10, 5]},
        {"image_id": 4, "bbox": [0, 0, 1, 1]},
        {"image_id": 99, "bbox": [0, 0, 1, 1]},
    ]
    boxes = coco(images, annotations)
    entries, counts = listed(boxes)
    assert found(entries) == {
        "data/images/a.png#xywh=5,6,10,12.5": "",
        "data/images/a.png#xywh=30,20,10,10": "",
        "data/images/a.png#xywh=50,0,5,5": OUTSIDE,
        "data/images/a.png#xywh=5,5,0,5": OUTSIDE,
        "data/images/a.png#xywh=nan,nan,nan,nan": OUTSIDE,
        "data/images/in/b.png#xywh=0,0,5,5": "",
    }
    assert counts == {
        "left out: a box that an image has twice": 1,
        "left out: an image without boxes": 1,
        "left out: an image with boxes that no source has": 1,
        "left out: a box of an image that the file does not have": 1,
    }
    first = entries[0]
    assert first.key == os.fsencode(here / "data/images/a.png") + b"\0\0xywh=5,6,10,12.5"
    assert first.location.box == (5, 6, 10, 12.5)
    sample = ImageLocation.from_json(first.location.as_json()).sample()
    expected = np.asarray(picture(40, 30))[6:19, 5:15]
    assert np.array_equal(np.asarray(load_image(sample.read()).pixels), expected)
    assert ImageSources(["data/images"], boxes=boxes).count_estimate() == len(annotations)


def test_boxes_of_photos_as_they_are_stored_are_turned_with_them(here: Path) -> None:
    marked = picture(40, 30)
    marked.paste((255, 0, 255), (4, 6, 14, 12))  # x, y, width, height: 4, 6, 10, 6
    images, annotations = [], []
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Path(f"data/images/{orientation}.png").write_bytes(encode(marked, "PNG", exif=exif.tobytes()))
        images.append({"id": orientation, "file_name": f"{orientation}.png", "width": 40, "height": 30})
        annotations.append({"image_id": orientation, "bbox": [4, 6, 10, 6]})
    entries, _ = listed(coco(images, annotations))
    # where width and height do not change, nothing says that a box is not of the upright photo
    turned = [entry for entry in entries if int(entry.path.partition(".png")[0][-1]) in (1, 5, 6, 7, 8)]
    assert len(turned) == 5
    for entry in turned:
        part = np.asarray(load_image(entry.location.sample().read()).pixels)
        assert part.size == 10 * 6 * 3
        assert (part == (255, 0, 255)).all(), entry.path
    for image in images:
        image["width"], image["height"] = 30, 40
    upright = [entry for entry in listed(coco(images, annotations))[0] if "/6.png" in entry.path]
    assert upright[0].location.box == (4, 6, 10, 6)


def test_boxes_of_another_image_are_not_used(here: Path) -> None:
    boxes = coco([{"id": 1, "file_name": "a.png", "width": 80, "height": 60}], [{"image_id": 1, "bbox": [0, 0, 9, 9]}])
    entries, _ = listed(boxes)
    problem = "its boxes are of an image of 80 x 60 pixels, this one has 40 x 30"
    assert found(entries) == {"data/images/a.png": problem}
    Path("data/images/a.png").write_bytes(b"broken")
    assert "not an image" in listed(boxes)[0][0].problem


def test_an_image_is_found_by_the_end_of_its_path(here: Path) -> None:
    Path("data/images/in/a.png").write_bytes(PHOTO)
    images = [{"id": 1, "file_name": "C:\\x\\images\\a.png"}, {"id": 2, "file_name": "/cloud/in/a.png"}]
    images += [
        {"id": 3, "file_name": "./x/../c.png"},
        {"id": 4, "file_name": "p/b.png"},
        {"id": 5, "file_name": "q/b.png"},
    ]
    annotations = [{"image_id": number, "bbox": [number, 0, 1, 1]} for number in range(1, 6)]
    entries, counts = listed(coco(images, annotations))
    # a.png and b.png are names of two images in the file, so the name alone does not tell
    assert found(entries) == {"data/images/c.png#xywh=3,0,1,1": ""}
    images[1]["file_name"] = "in/a.png"
    entries, _ = listed(coco(images, annotations))
    assert "data/images/in/a.png#xywh=2,0,1,1" in found(entries)
    entries, counts = listed(coco([{"id": 1, "file_name": "a.png"}], annotations[:1]))
    assert len(entries) == 2
    assert counts["boxes of a name that several images have, used for each"] == 1
    with zipfile.ZipFile("photos.zip", "w") as archive:
        archive.writestr("in/a.png", PHOTO)
    (entry,), _ = listed(coco([{"id": 1, "file_name": "a.png"}], annotations[:1]), "photos.zip")
    assert entry.path == "photos.zip::in/a.png#xywh=1,0,1,1"
    assert entry.key == os.fsencode(here / "photos.zip") + b"\0in/a.png\0xywh=1,0,1,1"
    location = ImageLocation.from_json(entry.location.as_json())
    assert load_image(location.sample().read()).pixels.size == (1, 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", "has no images with boxes"),
        ("[]", "is no COCO file"),
        ('{"images": [{"id": 1}]}', "is no COCO file"),
        ('{"images": [{"id": [], "file_name": "a"}]}', "is no COCO file"),
        ('{"images": [{"id": 1, "file_name": 2}]}', "is no COCO file"),
        ('{"images": [], "annotations": [7]}', "is no COCO file"),
        ('{"images": [], "annotations": [{"image_id": 1, "bbox": [1, 2, 3, 1' + "0" * 400 + "]}]}", "is no COCO file"),
        ('{"images": [' + "[" * 200_000, "is no COCO file"),
    ],
)
def test_what_is_no_coco_file_is_refused_before_anything_starts(here: Path, text: str, expected: str) -> None:
    Path("boxes.json").write_text(text)
    with pytest.raises(DatasetError, match=expected) as caught:
        listed(Path("boxes.json"))
    assert len(str(caught.value)) < 300


def test_a_file_may_not_have_more_boxes_than_any(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = coco([{"id": 1, "file_name": "a.png"}], [{"image_id": 1, "bbox": [0, 0, 1, 1]}] * 4)
    monkeypatch.setattr("abs_classify.labelling.boxes._MAX_BOXES", 3)
    with pytest.raises(DatasetError, match="more than 3 boxes"):
        listed(boxes)


YOLO = b"0 0.5 0.5 0.5 0.5\n\n1 0.1 0.1 0.4 0.4 0.87\r\n2 0.2 0.2 0.6 0.2 0.6 0.8\n3 x y\n4 2 2 .1 .1\n"
YOLO_BOXES = ["10,7.5,20,15", "0,0,12,9", "8,6,16,18", "nan,nan,nan,nan", "78,58.5,4,3"]


@pytest.mark.parametrize(
    ("labels", "boxes"),
    [
        ("data/labels/a.txt", "data/data.yaml"),
        ("data/labels/a.txt", "data"),
        ("data/labels/a.txt", "data/labels"),
        ("data/images/a.txt", "data/images"),
        ("data/images/a.txt", "data"),
        ("elsewhere/a.txt", "elsewhere"),
        ("elsewhere/images/a.txt", "elsewhere"),
    ],
)
def test_each_line_of_a_yolo_file_is_an_image(here: Path, labels: str, boxes: str) -> None:
    Path(labels).parent.mkdir(parents=True, exist_ok=True)
    Path(labels).write_bytes(YOLO)
    Path("data/data.yaml").write_text("path: /of/another/computer\ntrain: images\nnames: {0: no, 1: yes}\n")
    entries, counts = listed(Path(boxes))
    assert [entry.path for entry in entries] == [f"data/images/a.png#xywh={box}" for box in YOLO_BOXES]
    assert [bool(entry.problem) for entry in entries] == [False, False, False, True, True]
    assert counts["left out: an image without boxes"] == 2
    assert ImageSources(["data"], boxes=Path(boxes)).count_estimate() is None


def test_yolo_boxes_are_of_the_upright_photo(here: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Path("data/images/a.png").write_bytes(encode(picture(40, 30), "PNG", exif=exif.tobytes()))
    Path("data/images/a.txt").write_text("0 0.5 0.5 1 0.5")
    assert [entry.path for entry in listed(Path("data"))[0]] == ["data/images/a.png#xywh=0,10,30,20"]


def test_a_label_file_that_is_hostile_is_a_row(here: Path) -> None:
    os.mkfifo("data/images/a.txt")
    Path("data/images/c.txt").write_bytes(b"0 .5 .5 .5 .5\n" * 400_000)
    Path("data/images/in/b.txt").write_text("")
    entries, counts = listed(Path("data"))
    assert [entry.path for entry in entries] == ["data/images/c.png"]
    assert "has more than 4 MB" in entries[0].problem
    assert counts["left out: an image without boxes"] == 2


@pytest.mark.parametrize(
    ("name", "text"),
    [("data.yaml", "a: 1"), ("data.yaml", "- x"), ("data.yaml", "{"), ("boxes.txt", ""), ("no.json", None)],
)
def test_what_has_no_boxes_is_refused(here: Path, name: str, text: str | None) -> None:
    if text is not None:
        Path(name).write_text(text)
    with pytest.raises((UsageError, DatasetError)) as caught:
        listed(Path(name))
    assert isinstance(caught.value, AbsError)
    assert caught.value.remedy
