"""Images in tar and zip files: what is read, what is counted, and what is refused member by member."""

from __future__ import annotations

import io
import os
import random
import struct
import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from image_files import encode, picture

from abs_classify.labelling.locations import ImageLocation, ListedImage
from abs_classify.labelling.sources import ImageSources
from abs_core.errors import DatasetError, ImageError

PHOTO = encode(picture(8, 6), "JPEG")


def tar(path: Path, members: dict[str, bytes], *others: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in others:
            archive.addfile(info)
    return path


def packed(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def listed(place: Path) -> tuple[list[ListedImage], dict[str, int]]:
    sources = ImageSources([place])
    images = list(sources)
    return images, dict(sources.remarks.counts)


def read(image: ListedImage) -> bytes:
    return ImageLocation.from_json(image.location.as_json()).sample().read()


MEMBERS = {
    "b/x.JPG": PHOTO,
    "s1.jpg": PHOTO + b"1",
    "s1.cls": b"3",
    "s1.json": b"{}",
    "noending": PHOTO,
    "größe.png": PHOTO,
    "__MACOSX/._a.jpg": b"junk",
    ".hidden.jpg": PHOTO,
    "inner.zip": b"PK\3\4",
    "inner.tar": tarfile.TarInfo("a").tobuf(),
    "phone.heic": b"\0\0\0\x18ftypheic" + bytes(64),
    "empty.jpg": b"",
}
IMAGES = ["b/x.JPG", "s1.jpg", "noending", "größe.png", "phone.heic", "empty.jpg"]
COUNTS = {
    "left out: not an image": 2,
    "recognized as an image by its content, not by its name": 1,
    "left out: a hidden file in an archive": 2,
    "left out: not an image but a zip archive": 1,
    "left out: not an image but a tar archive": 1,
}


@pytest.mark.parametrize("kind", ["tar", "zip", "stored.zip", "tar without ending"])
def test_the_images_of_an_archive_are_listed_and_read_in_place(tmp_path: Path, kind: str) -> None:
    place = tmp_path / {"tar": "a.tar", "tar without ending": "a"}.get(kind, "a.zip")
    if kind.startswith("tar"):
        tar(place, MEMBERS)
    else:
        packed(place, MEMBERS, zipfile.ZIP_STORED if kind == "stored.zip" else zipfile.ZIP_DEFLATED)
    images, counts = listed(place)
    assert [image.path for image in images] == [f"{place}::{name}" for name in IMAGES]
    assert [image.key for image in images] == [os.fsencode(place) + b"\0" + name.encode() for name in IMAGES]
    assert [read(image) for image in images] == [MEMBERS[name] for name in IMAGES]
    assert [image.path.rpartition("::")[2] for image in images if image.problem] == ["phone.heic"]
    assert len({image.stamp for image in images}) == len(images)
    assert counts == COUNTS
    assert ImageSources([place]).count_estimate() == 6  # by names: hidden ones too, and none without an ending


def test_links_devices_and_paths_outside_of_a_tar_file_are_counted(tmp_path: Path) -> None:
    others = [
        special("link.jpg", tarfile.SYMTYPE, "/etc/passwd"),
        special("hard.jpg", tarfile.LNKTYPE, "a.jpg"),
        special("pipe.jpg", tarfile.FIFOTYPE),
        special("../out.jpg", tarfile.REGTYPE),
        special("folder.jpg", tarfile.DIRTYPE),
    ]
    images, counts = listed(tar(tmp_path / "a.tar", {"a.jpg": PHOTO}, *others))
    assert [image.path.rpartition("::")[2] for image in images] == ["a.jpg"]
    assert counts == {"left out: a link, device or path outside in a tar file": 4}


def test_a_damaged_archive_gives_what_is_before_the_damage_and_a_row(tmp_path: Path) -> None:
    whole = tar(tmp_path / "a.tar", {"a.jpg": PHOTO, "b.jpg": PHOTO * 9}).read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[:4000])
    images, _ = listed(tmp_path / "a.tar")
    assert [image.path.partition("::")[2] for image in images] == ["a.jpg", ""]
    assert "is truncated" in images[1].problem
    assert images[1].path == str(tmp_path / "a.tar")
    whole = packed(tmp_path / "a.zip", {"a.jpg": PHOTO, "b.jpg": PHOTO}).read_bytes()
    (tmp_path / "a.zip").write_bytes(whole[:-30])
    assert ["is no zip file" in image.problem for image in listed(tmp_path / "a.zip")[0]] == [True]
    second = whole.rfind(b"PK\1\2")
    (tmp_path / "a.zip").write_bytes(whole[:second] + b"XX" + whole[second + 2 :])
    images, _ = listed(tmp_path / "a.zip")
    assert [bool(image.problem) for image in images] == [False, True]
    (tmp_path / "a.zip").write_bytes(b"PK\3\4")
    assert len(listed(tmp_path / "a.zip")[0]) == 1


def test_the_number_of_images_in_a_long_tar_file_is_estimated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tar(tmp_path / "a.tar", {f"{number}.{end}": PHOTO for number in range(200) for end in ("jpg", "cls")})
    monkeypatch.setattr("abs_classify.labelling.archives._SAMPLE", 50)
    assert ImageSources([tmp_path / "a.tar"]).count_estimate() == pytest.approx(200, rel=0.05)


def test_members_that_are_refused_have_a_problem_and_the_others_are_read(tmp_path: Path) -> None:
    place = packed(tmp_path / "a.zip", {"a.jpg": PHOTO, "bomb.bmp": bytes(70_000_000), "black.bmp": bytes(2_000_000)})
    with zipfile.ZipFile(place, "a") as archive:
        archive.writestr("../up.jpg", PHOTO)
        archive.writestr("/root.jpg", PHOTO)
        archive.writestr("lzma.jpg", PHOTO, zipfile.ZIP_LZMA)
        link = zipfile.ZipInfo("link.jpg")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    data = bytearray(place.read_bytes())
    at = data.rfind(b"PK\1\2", 0, data.rfind(b"black.bmp"))
    data[at + 8] |= 1  # encrypted
    place.write_bytes(data)
    images, _ = listed(place)
    problems = {image.path.rpartition("::")[2]: image.problem for image in images}
    assert {name: problem.partition(":")[0] for name, problem in problems.items()} == {
        "a.jpg": "",
        "bomb.bmp": "is refused",
        "black.bmp": "is encrypted",
        "../up.jpg": "is refused",
        "/root.jpg": "is refused",
        "lzma.jpg": "is compressed by method 14, and only deflate is read",
        "link.jpg": "is a link",
    }
    assert "may be a decompression bomb" in problems["bomb.bmp"]
    assert "leads outside" in problems["../up.jpg"]
    assert read(images[0]) == PHOTO


def test_members_that_overlap_are_refused(tmp_path: Path) -> None:
    place = packed(tmp_path / "a.zip", {f"{number:03}.jpg": PHOTO for number in range(50)})
    data = bytearray(place.read_bytes())
    start, position = data.find(b"PK\1\2"), 0
    position = start
    while (position := data.find(b"PK\1\2", position)) >= 0:
        data[position + 42 : position + 46] = struct.pack("<I", 0)  # all are the first one
        position += 46
    central = bytes(data[start:])
    first = data[: data.find(b"PK\3\4", 4)]
    end = bytearray(central)
    at = end.rfind(b"PK\5\6")
    end[at + 16 : at + 20] = struct.pack("<I", len(first))
    place.write_bytes(first + end)
    problems = [image.problem for image in listed(place)[0]]
    assert problems[0] == ""
    assert all("overlap" in problem for problem in problems[1:])
    assert len(problems) == 50


def test_a_member_that_claims_another_size_or_checksum_is_damaged(tmp_path: Path) -> None:
    place = packed(tmp_path / "a.zip", {"a.jpg": PHOTO})
    data = place.read_bytes()
    entry = data.rfind(b"PK\1\2")
    for offset, value in ((16, 1), (24, len(PHOTO) - 1), (24, len(PHOTO) + 1), (42, 7), (20, 3)):
        place.write_bytes(data[: entry + offset] + struct.pack("<I", value) + data[entry + offset + 4 :])
        (image,), _ = listed(place)
        with pytest.raises(ImageError, match=r"damaged|cannot be read|changed"):
            read(image)


def test_a_zip_file_that_lost_its_place_or_is_behind_a_program_or_large(tmp_path: Path) -> None:
    place = tmp_path / "a.zip"
    with zipfile.ZipFile(place, "w") as archive, archive.open("large.jpg", "w", force_zip64=True) as member:
        member.write(PHOTO)
    place.write_bytes(b"#!/bin/sh\n" + place.read_bytes())
    (image,), _ = listed(place)
    assert read(image) == PHOTO
    place.unlink()
    with pytest.raises(ImageError, match="no such file"):
        read(image)


def test_names_of_members_in_other_encodings(tmp_path: Path) -> None:
    place = packed(tmp_path / "a.zip", {"????.jpg": PHOTO})
    data = place.read_bytes()
    for raw, shown in (("öä".encode(), "öä"), ("öäüß".encode("cp437"), "öäüß")):
        place.write_bytes(data.replace(b"????", raw[:4]))
        assert [image.path.rpartition("::")[2] for image in listed(place)[0]] == [f"{shown}.jpg"]


@pytest.mark.fuzz
def test_any_damage_to_a_zip_file_is_a_row_or_an_image(tmp_path: Path) -> None:
    place = packed(tmp_path / "a.zip", {"a.jpg": PHOTO, "b": PHOTO, "c/d.png": bytes(3000)})
    whole = place.read_bytes()
    generator = random.Random(5)
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(generator.randint(1, 4)):
            data[generator.randrange(len(data))] = generator.choice((0, 255, generator.randrange(256)))
        place.write_bytes(data[: generator.choice((len(data), generator.randrange(4, len(data))))])
        try:
            images, _ = listed(place)
        except DatasetError:
            continue
        assert len(images) <= 4
        for image in images:
            image.path.encode()
            with suppress(ImageError):
                assert len(read(image)) <= len(whole) * 1032
