"""Photos as they are stored: the pixels that CLIP's loader and torchvision's see."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from abs_classify.datasets.base import Dataset, Sample, classes_of
from abs_classify.datasets.orientation import all_as_stored, without_orientation
from abs_classify.images import load_image
from abs_core.errors import ImageError


def photo(orientation: int, order: str = "<", kind: str = "JPEG") -> bytes:
    image = Image.new("RGB", (8, 4), "red")
    image.paste("blue", (0, 0, 4, 2))
    exif = Image.Exif()
    exif.endian = order
    exif[0x0110] = "a camera"
    exif[0x0112] = orientation
    stream = io.BytesIO()
    image.save(stream, kind, exif=exif, quality=95, lossless=True)
    return stream.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("order", "kind"), [("<", "JPEG"), (">", "JPEG"), ("<", "PNG"), (">", "WEBP")])
def test_a_photo_that_is_stored_on_its_side_stays_so(orientation: int, order: str, kind: str) -> None:
    data = photo(orientation, order, kind)
    stored = load_image(without_orientation(data)).pixels
    assert stored.size == (8, 4)
    assert stored.tobytes() == load_image(photo(1, order, kind)).pixels.tobytes()
    turned = load_image(data).pixels
    assert (turned.tobytes() == stored.tobytes()) == (orientation == 1)


def test_what_has_no_orientation_is_given_back_as_it_is(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (3, 2)).save(stream, "JPEG")
    for data in (stream.getvalue(), b"", b"\xff\xd8", b"\xff\xd8\xff\xe1\x00\x08Exif\0\0", b"GIF89a"):
        assert without_orientation(data) == data


def test_a_sample_has_an_id_and_a_name_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(photo(6))
    data = all_as_stored(Dataset("csv:a.csv", classes_of(["cat"]), (Sample(path, "cat"),)))
    assert data.notes == ("photos are read as they are stored, not turned by their EXIF orientation",)
    (sample,) = data.samples
    assert sample.name == f"{path}::a.jpg, as stored"
    assert sample.read() != path.read_bytes()
    assert load_image(sample.read()).id != load_image(path.read_bytes()).id
    assert pickle.loads(pickle.dumps(sample)) == sample
    path.unlink()
    with pytest.raises(ImageError, match="no such file"):
        sample.read()


@pytest.mark.fuzz
@settings(max_examples=300, deadline=20_000)
@given(
    edits=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=5),
    cut=st.integers(0, 900),
    kind=st.sampled_from(["JPEG", "PNG", "WEBP"]),
)
def test_any_bytes_are_given_back_with_at_most_a_field_changed(
    edits: list[tuple[int, int]], cut: int, kind: str
) -> None:
    data = bytearray(photo(6, kind=kind))
    for position, value in edits:
        data[position % len(data)] = value
    before = bytes(data[:cut])
    after = without_orientation(before)
    assert len(after) == len(before)
    assert sum(left != right for left, right in zip(before, after, strict=True)) <= 6
