"""Content ids of images that are given as files, bytes and PIL images."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from image_files import encode, picture
from PIL import Image

from abs_classify.encoding.digest_cache import DigestCache
from abs_classify.encoding.samples import IdentifiedSample, ImageInput, as_sample, identify
from abs_core.canonical import sha256_bytes


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "photo.jpg"
    path.write_bytes(encode(picture(), "JPEG", exif=exif))
    return path


def id_of(image: ImageInput) -> str:
    (entry,) = identify([as_sample(image)], DigestCache(None))
    assert isinstance(entry, IdentifiedSample)
    assert entry.load().id == entry.id
    return entry.id


def test_a_photo_has_one_id_however_it_is_given(photo: Path) -> None:
    data = photo.read_bytes()
    expected = sha256_bytes(data)
    with Image.open(photo) as opened:
        assert id_of(opened) == expected
        opened.load()
        assert id_of(opened) == expected
    for image in (photo, str(photo), data, Image.open(io.BytesIO(data))):
        assert id_of(image) == id_of(image) == expected


def test_changed_pixels_have_an_id_of_their_own(photo: Path) -> None:
    changed, part, smaller = (Image.open(io.BytesIO(photo.read_bytes())) for _ in range(3))
    changed.putpixel((0, 0), (1, 2, 3))
    smaller.draft(None, (60, 45))
    ids = {id_of(image) for image in (photo, changed, smaller, part.crop((0, 0, 50, 50)), picture())}
    assert len(ids) == 5


def test_a_file_that_changed_or_went_after_it_was_opened_counts_for_nothing(photo: Path) -> None:
    opened = Image.open(photo)
    opened.load()
    of_file, of_pixels = id_of(opened), id_of(opened.copy())
    assert of_file != of_pixels
    photo.write_bytes(encode(picture(40, 40), "PNG"))
    assert id_of(opened) == of_pixels
    photo.unlink()
    assert id_of(opened) == of_pixels
    os.mkfifo(photo)
    assert id_of(opened) == of_pixels


def test_another_frame_of_a_file_is_another_image() -> None:
    data = encode(picture(), "GIF", save_all=True, append_images=[picture().rotate(180)])
    later = Image.open(io.BytesIO(data))
    later.seek(1)
    assert id_of(later) != id_of(data)
    assert id_of(Image.open(io.BytesIO(data))) == id_of(data)
