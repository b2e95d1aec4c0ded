"""Images of every kind that is to work, and of every kind that is to be refused."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import sys
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from abs_classify.images import FORMATS, LoadedImage, load_image, upright_rgb
from abs_core.errors import ImageError


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def noise(width: int = 80, height: int = 60) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds a few bytes."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0" * 99))]
    chunks.append((b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def pixel(loaded: LoadedImage, x: int = 0, y: int = 0) -> tuple[int, ...]:
    assert loaded.pixels.mode == "RGB"
    value = loaded.pixels.getpixel((x, y))
    assert isinstance(value, tuple)
    return value


@pytest.mark.parametrize("kind", [*FORMATS, "MPO"])
def test_every_format_of_the_list_is_read(kind: str) -> None:
    data = encode(noise(), kind)
    loaded = load_image(data)
    assert loaded.pixels.size == (80, 60)
    assert loaded.pixels.mode == "RGB"
    assert loaded.id == "sha256:" + hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("kind", ["ICO", "PDF", "TGA", "SGI", "DDS", "PCX"])
def test_a_format_outside_the_list_is_refused(kind: str) -> None:
    with pytest.raises(ImageError, match=r"^'photo.x' is .*not an image in one of the formats JPEG, PNG") as caught:
        load_image(encode(noise(), kind), "photo.x")
    assert caught.value.remedy


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_a_truncated_file_is_refused(kind: str, share: float) -> None:
    data = encode(noise(), kind)
    with pytest.raises(ImageError, match=r"'half\.img'.* damaged"):
        load_image(data[: int(len(data) * share)], "half.img")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", r"'x' is empty \(0 bytes\)"),
        (b"hello, I am no image at all", "'x' is not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "'x' is an SVG drawing, not an image"),
        (b"\xff\xd8\xff", "'x' is a JPEG image with a damaged header"),
        (png_header(0, 5), "'x' "),
    ],
)
def test_what_is_no_image_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        load_image(data, "x")


@pytest.mark.parametrize(("width", "height"), [(9_500, 9_500), (10_001, 10_000), (60_000, 60_000)])
def test_a_decompression_bomb_is_refused_without_a_warning_beside_it(width: int, height: int) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        with pytest.raises(ImageError, match=r"'bomb.png' is larger than \d+ megapixels .* decompression bomb"):
            load_image(png_header(width, height), "bomb.png")
    assert not seen


def test_our_own_limit_holds_where_pillow_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(ImageError, match="larger than 100 megapixels"):
        load_image(png_header(10_001, 10_000), "bomb.png")


def test_a_file_that_is_missing_or_a_folder_or_a_pipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"cannot read the image '.*none\.png': no such file"):
        load_image(tmp_path / "none.png")
    with pytest.raises(ImageError, match="is a folder"):
        load_image(tmp_path)
    with pytest.raises(ImageError, match="null"):
        load_image(Path("a\0b.png"))
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    with pytest.raises(ImageError, match="is not a regular file"):
        load_image(pipe)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(encode(noise(), "PNG"))
    path.chmod(0)
    with pytest.raises(ImageError, match=r"'.*secret\.png': permission denied"):
        load_image(path)


@pytest.mark.parametrize(
    "name", ["with space.png", 'it\'s "quoted".png', "snow ☃ 😀.png", "two\nlines.png", "-rf.png", "a%20b;$(x).png"]
)
def test_file_names_of_every_kind_work_and_stay_on_one_line_in_errors(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(encode(noise(), "PNG"))
    assert load_image(path).pixels.size == (80, 60)
    path.write_bytes(b"no image")
    with pytest.raises(ImageError) as caught:
        load_image(path)
    assert "\n" not in str(caught.value)
    assert repr(str(path)) in caught.value.message


@pytest.mark.skipif(sys.platform != "linux", reason="other systems want UTF-8 names")
def test_a_file_name_that_is_no_unicode_works(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    path.write_bytes(encode(noise(), "PNG"))
    assert load_image(path).pixels.size == (80, 60)
    path.write_bytes(b"no image")
    with pytest.raises(ImageError) as caught:
        load_image(path)
    str(caught.value).encode("utf-8")


def test_a_cmyk_image_keeps_its_colours() -> None:
    ink = Image.new("CMYK", (20, 20), (0, 255, 255, 0))
    red, green, blue = pixel(load_image(encode(ink, "JPEG", quality=95)))
    assert red > 200
    assert green < 60
    assert blue < 60


def test_a_palette_image_shows_white_where_it_is_transparent() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 200, 30, 250, 0, 0])
    image.putpixel((1, 0), 1)
    for transparency in (0, b"\x00\xff"):
        loaded = load_image(encode(image, "PNG", transparency=transparency))
        assert pixel(loaded, 0) == (255, 255, 255)
        assert pixel(loaded, 1) == (250, 0, 0)


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGBA", (0, 0, 0, 0), (255, 255, 255)),
        ("RGBA", (200, 0, 0, 255), (200, 0, 0)),
        ("RGBA", (0, 0, 0, 128), (127, 127, 127)),
        ("LA", (0, 0), (255, 255, 255)),
        ("LA", (40, 255), (40, 40, 40)),
        ("L", 40, (40, 40, 40)),
        ("1", 1, (255, 255, 255)),
    ],
)
def test_other_modes_become_rgb_over_white(mode: str, colour: int | tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert pixel(load_image(encode(Image.new(mode, (3, 2), colour), "PNG"))) == expected


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_is_scaled_and_not_clipped(kind: str) -> None:
    ramp = np.linspace(0, 65535, 256, dtype=np.uint16)[None]
    loaded = load_image(encode(Image.fromarray(ramp), kind))
    grey = np.asarray(loaded.pixels)
    assert (grey[0, :, 0] == np.arange(256)).all()
    assert (grey[..., 0] == grey[..., 2]).all()


def test_float_and_wide_integer_grey_use_their_whole_range() -> None:
    unit = load_image(encode(Image.fromarray(np.array([[0, 0.5, 1]], dtype=np.float32)), "TIFF"))
    assert [pixel(unit, x)[0] for x in range(3)] == [0, 128, 255]
    wide = load_image(encode(Image.fromarray(np.array([[-1_000_000, 0, 1_000_000]], dtype=np.int32)), "TIFF"))
    assert [pixel(wide, x)[0] for x in range(3)] == [0, 128, 255]
    with pytest.raises(ImageError, match="NaN"):
        load_image(encode(Image.fromarray(np.array([[0, np.nan]], dtype=np.float32)), "TIFF"), "x")


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animated_image_the_first_frame_counts(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert Image.open(io.BytesIO(data)).n_frames == 3  # type: ignore[attr-defined]
    assert pixel(load_image(data)) == (255, 0, 0)


@pytest.mark.parametrize("size", [(1, 1), (20_000, 30), (30, 20_000)])
def test_images_of_odd_sizes_work(size: tuple[int, int]) -> None:
    assert load_image(encode(Image.new("RGB", size, "navy"), "PNG")).pixels.size == size


def test_the_exif_orientation_is_applied() -> None:
    upright = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    stored: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: np.transpose,
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).T,
        8: lambda a: np.rot90(a, -1),
    }
    for orientation, turn in stored.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encode(Image.fromarray(np.ascontiguousarray(turn(upright))), "PNG", exif=exif)
        assert (np.asarray(load_image(data).pixels)[..., 0] == upright).all(), orientation


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.mark.parametrize(
    "data",
    [
        encode(noise(), "JPEG", exif=turned()),
        encode(noise(), "PNG", exif=turned()),
        encode(noise(), "TIFF", exif=turned()),
        encode(noise().convert("P"), "GIF", transparency=3),
        encode(Image.new("RGBA", (3, 2), (0, 0, 0, 128)), "PNG"),
        encode(Image.fromarray(np.linspace(0, 65535, 256, dtype=np.uint16)[None]), "PNG"),
        encode(Image.new("CMYK", (20, 20), (0, 255, 255, 0)), "JPEG"),
    ],
)
def test_an_opened_image_gives_the_pixels_of_its_file_and_stays_as_it_is(data: bytes) -> None:
    opened = Image.open(io.BytesIO(data))
    opened.load()
    before = opened.copy()
    pixels = upright_rgb(opened, "'x'")
    assert pixels == load_image(data).pixels
    assert opened.copy() == before
    assert upright_rgb(pixels, "'x'") == pixels, "upright already"
    lazily = upright_rgb(Image.open(io.BytesIO(data)), "'x'")
    assert lazily == pixels


def test_an_opened_image_is_refused_as_its_file_is(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(noise(), "JPEG")
    with pytest.raises(ImageError, match="the image 'x' is cut off or damaged"):
        upright_rgb(Image.open(io.BytesIO(data[: len(data) // 2])), "'x'")
    with pytest.raises(ImageError, match=r"the image 'x' has no pixels \(0 x 5\)"):
        upright_rgb(Image.new("RGB", (0, 5)), "'x'")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2_000_000)
    with pytest.raises(ImageError, match="the image 'x' is larger than 2 megapixels"):
        upright_rgb(Image.new("1", (2_001, 1_000)), "'x'")


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]
)
def test_broken_metadata_does_not_matter(exif: bytes) -> None:
    data = encode(noise(), "JPEG", exif=exif)
    assert load_image(data).pixels.size == (80, 60)


def test_random_damage_gives_an_image_or_our_error() -> None:
    draw = np.random.default_rng(1)
    outcomes = set()
    for kind in FORMATS:
        whole = np.frombuffer(encode(noise(30, 20), kind), dtype=np.uint8)
        for _ in range(60):
            broken = whole.copy()
            broken[draw.integers(0, len(broken), 8)] = draw.integers(0, 256, 8)
            try:
                outcomes.add(load_image(broken.tobytes(), "x").pixels.mode)
            except ImageError:
                outcomes.add("refused")
    assert outcomes == {"RGB", "refused"}


def test_threads_may_load_at_once_and_warning_filters_stay() -> None:
    good, bomb = encode(noise(), "JPEG"), png_header(60_000, 60_000)
    before = list(warnings.filters)

    def attempt(number: int) -> bool:
        try:
            return load_image(bomb if number % 3 == 0 else good, "x").pixels.size == (80, 60)
        except ImageError:
            return False

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(attempt, range(120)))
    assert results == [number % 3 != 0 for number in range(120)]
    assert warnings.filters == before


def test_a_whole_file_of_an_uncommon_kind_is_not_called_damaged() -> None:
    jpeg = bytearray(encode(noise(), "JPEG"))
    jpeg[jpeg.find(b"\xff\xc0") + 4] = 12
    double = encode(noise().convert("F"), "TIFF")
    # bits per sample: a short of 32
    double = double.replace(b"\x02\x01\x03\x00\x01\x00\x00\x00\x20", b"\x02\x01\x03\x00\x01\x00\x00\x00\x40")
    for data, kind in ((bytes(jpeg), "of more than 8 bits"), (double, "with pixels of an uncommon kind")):
        with pytest.raises(ImageError, match=f"{kind}, which is not read. Convert"):
            load_image(data)


@pytest.mark.parametrize(("side", "size"), [(None, (800, 600)), (801, (800, 600)), (400, (400, 300)), (90, (100, 75))])
def test_a_jpeg_is_decoded_at_the_size_that_is_enough(side: int | None, size: tuple[int, int]) -> None:
    image = load_image(encode(noise().resize((800, 600)), "JPEG"), side=side)
    assert (image.pixels.size, image.remarks) == (size, ())
    whole = np.asarray(load_image(encode(noise().resize((800, 600)), "JPEG")).pixels.resize(size), np.int16)
    assert np.abs(np.asarray(image.pixels, np.int16) - whole).mean() < 8


def test_a_png_is_decoded_whole_whatever_is_enough() -> None:
    assert load_image(encode(noise(), "PNG"), side=10).pixels.size == (80, 60)
