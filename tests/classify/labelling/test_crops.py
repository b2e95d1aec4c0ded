"""Parts of images as images of their own."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from image_files import encode, picture
from PIL import Image

from abs_classify import images
from abs_classify.datasets.base import Sample
from abs_classify.labelling import crops
from abs_classify.labelling.crops import ImageCrop, box_text
from abs_classify.labelling.locations import ImageLocation
from abs_core.errors import ImageError


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    path.write_bytes(encode(picture(120, 90), "JPEG", exif=exif.tobytes()))
    return path


def pixels(data: bytes) -> np.ndarray:
    assert data.startswith(b"P6\n")
    return np.asarray(images.load_image(data).pixels)


def test_a_crop_is_the_pixels_that_the_box_touches_of_the_upright_image(photo: Path) -> None:
    whole = np.asarray(images.load_image(photo).pixels)
    assert whole.shape == (120, 90, 3)
    for box, rows, columns in (
        ((10, 20, 30, 40), slice(20, 60), slice(10, 40)),
        ((10.5, 20.2, 29, 39), slice(20, 60), slice(10, 40)),
        ((0, 0, 900, 900), slice(0, 120), slice(0, 90)),
        ((89.5, 119.5, 0.1, 0.1), slice(119, 120), slice(89, 90)),
    ):
        sample = ImageLocation(photo, box=box).sample()
        assert np.array_equal(pixels(sample.read()), whole[rows, columns])
        assert sample.name == f"{photo}::{box_text(box)}"
    for box in ((90.0, 0.0, 5.0, 5.0), (-5.0, 0.0, 5.0, 5.0)):
        with pytest.raises(ImageError, match="has no pixel of the image"):
            ImageCrop(Sample(photo, ""), box).read()


def test_boxes_of_an_image_that_is_decoded_at_a_part_of_its_size_are_scaled(
    photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("abs_classify.images.largest_image", lambda: 5000)
    part = pixels(ImageCrop(Sample(photo, ""), (10, 20, 30, 40)).read())
    assert part.shape == (20, 15, 3)


def test_an_image_is_decoded_once_for_its_boxes_and_again_when_it_changed(
    photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[int] = []

    def load(data: bytes, name: str) -> images.LoadedImage:
        loads.append(len(data))
        return original(data, name)

    original = images.load_image
    monkeypatch.setattr("abs_classify.images.load_image", load)
    samples = [ImageCrop(Sample(photo, ""), (number, 0, 5, 5)) for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        first = list(pool.map(ImageCrop.read, samples))
    assert len(loads) == 1
    photo.write_bytes(encode(picture(120, 90).transpose(Image.Transpose.ROTATE_90), "PNG"))
    os.utime(photo, ns=(1, 1))
    assert samples[0].read() != first[0]
    assert len(loads) == 2


def test_few_images_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = crops._DecodedImages()
    monkeypatch.setattr(crops, "_DECODED", kept)
    for number in range(10):
        path = tmp_path / f"{number}.png"
        path.write_bytes(encode(picture(20 + number, 10), "PNG"))
        ImageCrop(Sample(path, ""), (0, 0, 5, 5)).read()
    assert len(kept._images) == 4
    monkeypatch.setattr(crops, "_KEPT_PIXELS", 100)
    ImageCrop(Sample(tmp_path / "0.png", ""), (0, 0, 5, 5)).read()
    assert len(kept._images) == 1


def test_an_image_that_cannot_be_read_is_an_error_each_time(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no image")
    for _ in range(2):
        with pytest.raises(ImageError, match="not an image"):
            ImageCrop(Sample(tmp_path / "a.jpg", ""), (0, 0, 5, 5)).read()
    with pytest.raises(ImageError, match="no such file"):
        ImageCrop(Sample(tmp_path / "b.jpg", ""), (0, 0, 5, 5)).read()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8, 9])
def test_the_size_of_an_image_is_that_of_its_upright_pixels(tmp_path: Path, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(picture(40, 30), kind, exif=exif.tobytes())
    size = images.image_size(data, "a")
    assert size.upright == images.load_image(data).pixels.size
    assert (size.width, size.height) == (40, 30)
    (tmp_path / "a").write_bytes(data)
    assert images.image_size(tmp_path / "a", "a") == size


def test_a_size_that_cannot_be_read_is_one_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    for source in (
        tmp_path / "pipe.jpg",
        tmp_path,
        tmp_path / "none",
        b"",
        b"text",
        b"\x89PNG\r\n\x1a\n",
    ):
        with pytest.raises(ImageError):
            images.image_size(source, "a")
