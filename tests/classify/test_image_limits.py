"""What decoding may cost: scans, memory of all threads, metadata."""

from __future__ import annotations

import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from image_files import encode, jpeg_of_scans, picture, png, png_chunk
from PIL import Image

from abs_classify import images
from abs_classify.image_limits import MemoryLimit, decoding_bytes, png_without_metadata, scanned_pixels
from abs_classify.images import load_image
from abs_core.errors import ImageError

METADATA = "read without its metadata, which is damaged or too large"


def test_scans_of_the_first_image_of_a_file_are_counted() -> None:
    assert scanned_pixels(encode(picture(), "JPEG"), 10) == 10
    assert 50 < scanned_pixels(encode(picture(), "JPEG", progressive=True), 10) < 150
    assert scanned_pixels(jpeg_of_scans(80, 80, 300), 1) == 301
    # a thumbnail of many scans in the metadata, and more images behind the first
    exif = b"Exif\0\0" + jpeg_of_scans(8, 8, 300)
    assert scanned_pixels(encode(picture(), "JPEG", exif=exif) + jpeg_of_scans(8, 8, 300), 10) == 10


@pytest.mark.parametrize(
    "garbage", [b"", b"\xff\xda", b"\xff\xda" * 50, b"\xff" * 99, b"\xff\xd8" + b"\xff\xda\0\0" * 40]
)
def test_counting_ends_whatever_the_bytes(garbage: bytes) -> None:
    assert scanned_pixels(garbage, 1) <= 50


def test_a_file_of_very_many_scans_is_refused_at_once() -> None:
    data = jpeg_of_scans(1500, 1500, 20_000)
    start = time.process_time()
    with pytest.raises(ImageError, match="'x' has too many scans"):
        load_image(data, "x")
    assert time.process_time() - start < 2
    assert load_image(jpeg_of_scans(64, 64, 500), "x").pixels.size == (64, 64)


def test_threads_share_the_memory() -> None:
    limit, taken, most = MemoryLimit(100), 0, 0
    lock = threading.Lock()

    def work(size: int) -> None:
        nonlocal taken, most
        with limit.taking(size):
            with lock:
                taken += size
                most = max(most, taken)
            time.sleep(0.002)
            with lock:
                taken -= size

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [60, 30, 50, 10, 40, 70, 20, 100] * 4))
    assert 40 < most <= 100
    assert taken == 0


def test_who_needs_more_than_the_limit_is_alone() -> None:
    limit, done = MemoryLimit(10), []

    def work() -> None:
        with limit.taking(1):
            done.append("small")

    other = threading.Thread(target=work)
    with limit.taking(50):
        other.start()
        other.join(0.05)
        done.append("large")
    other.join()
    assert done == ["large", "small"]


def test_formats_cost_what_was_measured() -> None:
    opened = Image.new("RGB", (1000, 1000))
    costs = {}
    for kind in ("PNG", "JPEG", "WEBP", "AVIF", "JPEG2000"):
        opened.format = kind
        costs[kind] = decoding_bytes(opened, 1000, 1000)
    assert costs["PNG"] == costs["JPEG"] < costs["AVIF"] < costs["WEBP"] < costs["JPEG2000"]
    opened.info["progressive"] = 1
    opened.format = "JPEG"
    assert decoding_bytes(opened, 500, 500) > costs["JPEG"] // 4


@pytest.mark.parametrize("kind", ["JPEG", "MPO", "JPEG2000"])
def test_an_image_that_is_too_large_is_decoded_smaller_where_its_format_can(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encode(picture(400, 300), kind)
    assert load_image(data).remarks == ()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 70_000)
    loaded = load_image(data)
    assert loaded.pixels.size == (200, 150)
    assert loaded.remarks == ("decoded at 1/2 of width and height: too large",)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    monkeypatch.setattr(images, "MAX_DECODING_BYTES", 300_000)
    assert load_image(data).pixels.width in (50, 100)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF", "TIFF"])
def test_an_image_that_needs_too_much_memory_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(picture(400, 300), kind)
    monkeypatch.setattr(images, "MAX_DECODING_BYTES", 300_000)
    with pytest.raises(ImageError, match=r"'x' \(400 x 300\) needs \d\.\d GB of memory to be decoded, more than"):
        load_image(data, "x")


PROFILE = zlib.compress(bytes(3 << 20))


@pytest.mark.parametrize(
    "chunk",
    [
        (b"zTXt", b"Comment\0\0" + PROFILE),
        (b"iTXt", b"Comment\0\1\0\0\0" + PROFILE),
        (b"iCCP", b"profile\0\0" + PROFILE),
        (b"iCCP", b"profile\0\1broken"),
        (b"zTXt", b"Comment\0\7broken"),
    ],
)
@pytest.mark.parametrize("behind", [False, True])
def test_metadata_that_pillow_refuses_does_not_cost_the_image(chunk: tuple[bytes, bytes], behind: bool) -> None:
    rows = b"".join(b"\0" + bytes([40 * row] * 9) for row in range(3))
    plain = png(3, 3, 2, rows)
    data = plain[:-12] + png_chunk(*chunk) + plain[-12:] if behind else png(3, 3, 2, rows, chunk)
    loaded = load_image(data)
    assert loaded.pixels == load_image(plain).pixels
    assert loaded.remarks == (METADATA,)
    assert load_image(png(3, 3, 2, rows, (b"tEXt", b"Comment\0short"))).remarks == ()


def test_what_decides_pixels_stays_when_metadata_goes() -> None:
    xmp = b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="6"/>'
    kept = [(b"tRNS", b"\0\1\0\2\0\3"), (b"iTXt", xmp), (b"sBIT", b"\5\5\5")]
    rows = b"".join(b"\0" + bytes([40 * row] * 12) for row in range(3))
    whole = png(4, 3, 2, rows, *kept, (b"iCCP", b"profile\0\0" + PROFILE), (b"tEXt", b"Comment\0x"))
    assert png_without_metadata(whole) == png(4, 3, 2, rows, *kept)
    assert load_image(whole).pixels.size == (3, 4), "turned upright"
    assert png_without_metadata(png(4, 3, 2, rows, *kept)) is None
    assert png_without_metadata(b"no image") is None
