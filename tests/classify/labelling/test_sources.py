"""What the user names, to images: folders, files, lists, specs of data sets, and what is wrong with them."""

from __future__ import annotations

import io
import os
import pickle
import socket
import tarfile
import zipfile
from pathlib import Path

import pytest
from image_files import encode, picture

from abs_classify.encoding.digest_cache import DigestCache
from abs_classify.encoding.samples import IdentifiedSample, identify
from abs_classify.labelling.locations import ImageLocation, ListedImage
from abs_classify.labelling.sources import ImageSources
from abs_core.canonical import sha256_bytes
from abs_core.errors import AbsError, DatasetError, UsageError

PHOTO = encode(picture(8, 6), "JPEG")
HEIC = b"\0\0\0\x18ftypheic" + bytes(64)


def fill(folder: Path, *names: str, data: bytes = PHOTO) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def listed(*places: str | Path, **options: object) -> tuple[list[ListedImage], dict[str, int]]:
    sources = ImageSources(places, **options)  # type: ignore[arg-type]
    images = list(sources)
    assert all(image.path.encode() for image in images)  # valid Unicode
    return images, dict(sources.remarks.counts)


class _Pipe(io.BytesIO):
    """Gives a few bytes at a time, as a pipe without a buffer does."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(3 if size else size)


def paths(images: list[ListedImage]) -> list[str]:
    return [image.path for image in images]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_gives_its_images_in_the_order_of_their_names(here: Path) -> None:
    fill(here / "photos", "b.JPG", "a/z.jpg", "a.png", "a-b.tiff")
    sources = ImageSources(["photos/"])
    images = list(sources)
    assert paths(images) == ["photos/a/z.jpg", "photos/a-b.tiff", "photos/a.png", "photos/b.JPG"]
    assert [image.location.sample().read() for image in images] == [PHOTO] * 4
    assert sources.count_estimate() == 4
    assert list(sources) == images


def test_the_key_is_the_same_however_the_source_is_spelt(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(here / "photos", "in/a.jpg")
    (here / "link").symlink_to(here / "photos")
    expected = os.fsencode(here / "photos" / "in" / "a.jpg")
    for place in ("photos", "./photos//", str(here / "photos"), "photos/in/..", "link/in/../../photos", "."):
        (image, *_), _ = listed(place)
        assert image.key == expected, place
        assert image.location.sample().read() == PHOTO
    monkeypatch.chdir(here / "photos")
    assert [image.key for image in listed("in/a.jpg")[0]] == [expected]
    assert listed("in/a.jpg")[0][0].stamp == listed("../photos")[0][0].stamp


def test_copies_and_links_to_files_have_rows_and_each_folder_is_listed_once(here: Path) -> None:
    fill(here / "photos", "real/a.jpg", "z/b.jpg")
    fill(here / "elsewhere", "c.jpg")
    os.link(here / "photos/real/a.jpg", here / "photos/hard.jpg")
    (here / "photos/soft.jpg").symlink_to("real/a.jpg")
    (here / "photos/loop").symlink_to(".")
    (here / "photos/aaa").symlink_to("real")
    (here / "photos/out").symlink_to(here / "elsewhere")
    (here / "elsewhere/back").symlink_to(here / "photos")
    images, counts = listed("photos", "photos/z")
    assert paths(images) == [
        f"photos/{name}" for name in ("hard.jpg", "real/a.jpg", "soft.jpg", "z/b.jpg", "out/c.jpg")
    ]
    assert counts == {"left out: a link to a folder that is listed already": 4}


def test_what_is_neither_image_nor_folder_is_counted_by_reason_and_never_waits(here: Path) -> None:
    photos = fill(
        here / "photos", "a.jpg", "b.noending", ".hidden.jpg", "._a.jpg", ".DS_Store", "@eaDir/t.jpg", ".git/x.jpg"
    )
    fill(photos, "Thumbs.db", "notes.txt", data=b"text")
    fill(photos, "report.pdf", data=b"%PDF-1.7")
    fill(photos, "broken.jpg", data=b"no image at all")
    fill(photos, "phone.heic", data=HEIC)
    fill(photos, "more.zip", data=b"PK\3\4")
    os.mkfifo(photos / "pipe.jpg")
    os.mkfifo(photos / "pipe")
    (photos / "gone.jpg").symlink_to("nowhere.jpg")
    (photos / "self.jpg").symlink_to("self.jpg")
    (photos / "null.jpg").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("photos/s.jpg")
        images, counts = listed("photos")
    assert paths(images) == [f"photos/{name}" for name in ("a.jpg", "b.noending", "broken.jpg", "phone.heic")]
    assert [image.problem for image in images[:3]] == ["", "", ""]
    assert images[3].problem == "a HEIF image (HEIC), which is not read; convert it to JPEG or PNG"
    assert counts == {
        "left out: a hidden file": 1,
        "left out: a hidden folder": 1,
        "left out: an AppleDouble file": 1,
        "left out: a file of an operating system": 2,
        "left out: a folder of an operating system or program": 1,
        "left out: a named pipe": 2,
        "left out: a socket": 1,
        "left out: a device": 1,
        "left out: a broken link": 1,
        "left out: a link to itself": 1,
        "left out: not an image": 1,
        "left out: not an image but a PDF file": 1,
        "left out: not an image but a zip archive": 1,
        "recognized as an image by its content, not by its name": 1,
    }
    named, _ = listed("photos/pipe.jpg", "photos/gone.jpg", "photos/notes.txt", "photos/.hidden.jpg")
    assert [image.problem for image in named] == [
        "is a named pipe",
        "cannot be read: no such file or directory",
        "",
        "",
    ]


def test_folders_that_cannot_be_read_and_those_that_are_excluded_are_counted(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(here / "photos", "a.jpg", "out/b.jpg", "shut/c.jpg")
    scan = os.scandir

    def refuse(path: bytes) -> object:
        if path.endswith(b"shut"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr("abs_classify.labelling.folder_walk.os.scandir", refuse)  # root may read all
    images, counts = listed("photos", exclude=[here / "photos/out", here / "absent"])
    assert paths(images) == ["photos/a.jpg"]
    assert counts == {
        "left out: the folder of the results": 1,
        "left out: a folder that cannot be read (permission denied)": 1,
    }
    assert listed("photos/out", exclude=[Path("photos/out")])[0] == []


def test_names_that_are_no_text_are_shown_and_found(here: Path) -> None:
    (here / "photos").mkdir()
    names = [b"line\nbreak.jpg", b"\xff\xfe.jpg", b"esc\x1b[2J.jpg", "ü.jpg".encode(), b"=cmd().jpg"]
    for name in names:
        Path(os.fsdecode(b"photos/" + name)).write_bytes(PHOTO)
    images, _ = listed("photos")
    assert [image.key.rpartition(b"/")[2] for image in images] == sorted(names)
    for image in images:
        assert ImageLocation.from_json(image.location.as_json()) == image.location
        assert image.location.sample().read() == PHOTO
    assert "photos/\\udcff\\udcfe.jpg" in paths(images)


def test_many_names_are_sorted_in_runs_as_in_one(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(here / "photos", *(f"{number * 7 % 101}.jpg" for number in range(101)), "50/a.jpg", "50.d/b.jpg")
    whole = listed("photos")[0]
    monkeypatch.setattr("abs_classify.labelling.folder_walk._RUN", 10)
    monkeypatch.setattr("abs_classify.labelling.folder_walk._BLOCK", 3)
    assert listed("photos")[0] == whole
    assert len(whole) == 103
    assert [image.key for image in whole] == sorted(
        (image.key for image in whole), key=lambda key: key.replace(b"/", b"\0")
    )


def test_folders_may_be_nested_deeper_than_calls(here: Path) -> None:
    folders = [here / "/".join("d" * depth) for depth in range(1, 1101)]
    for folder in folders:
        folder.mkdir()
    fill(folders[-1], "a.jpg")
    assert len(listed("d")[0]) == 1
    # removing what is nested so deep takes more calls than Python allows
    (folders[-1] / "a.jpg").unlink()
    for folder in reversed(folders):
        folder.rmdir()


@pytest.mark.parametrize("separator", [b"\n", b"\r\n", b"\0"])
def test_names_come_from_a_list_and_from_the_standard_input(here: Path, separator: bytes) -> None:
    fill(here / "lists/photos", "a.jpg", "b.jpg", "c.bin")
    names = [b"photos/b.jpg", b"photos/missing.jpg", b"photos/c.bin", b"photos"]
    data = separator.join(names) + separator
    (here / "lists/names.txt").write_bytes(data)
    sources = ImageSources(["@lists/names.txt"])
    images = list(sources)
    folder = ["lists/photos/a.jpg", "lists/photos/b.jpg", "lists/photos/c.bin"]
    assert paths(images) == ["lists/photos/b.jpg", "lists/photos/missing.jpg", "lists/photos/c.bin", *folder]
    assert [bool(image.problem) for image in images] == [False, True, False, False, False, False]
    assert sources.count_estimate() == 4
    os.chdir("lists")
    sources = ImageSources(["-"], stdin=io.BytesIO(data))
    assert sources.count_estimate() is None
    assert [image.key for image in sources] == [image.key for image in images]


def test_a_list_may_hold_anything(here: Path) -> None:
    names = b"\xef\xbb\xbfa.jpg\n\n" + b"x" * 200_000 + b"\nno/../way\0.jpg\n\xff.jpg"
    images, _ = listed("-", stdin=io.BytesIO(fill(here, "a.jpg") and names.replace(b"\0", b"%")))
    assert [bool(image.problem) for image in images] == [False, True, True, True]
    assert max(map(len, paths(images))) < 140_000
    with pytest.raises(UsageError, match="must be UTF-8, got UTF-16"):
        listed("-", stdin=io.BytesIO("a.jpg".encode("utf-16")))


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([], "no source"),
        (["nothing"], "'nothing' does not exist"),
        (["@nothing"], "cannot read the list 'nothing'"),
        (["@."], "cannot read the list '.': is a directory"),
        (["-", "-"], "can be given once"),
        (["a.tar.gz"], "is a compressed tar file"),
        (["imagefolder:nothing"], "does not exist"),
        (["csv:nothing.csv"], "cannot read the table"),
        (["{0..3}.tar"], "does not exist"),
        (["bad\0name"], "does not exist"),
    ],
)
def test_a_source_that_cannot_be_one_is_refused_before_anything_starts(
    here: Path, places: list[str], expected: str
) -> None:
    fill(here, "a.tar.gz", data=b"\x1f\x8b")
    with pytest.raises((UsageError, DatasetError), match=expected) as caught:
        ImageSources(places)
    assert caught.value.remedy


def test_a_source_that_may_be_missing_is_an_image_with_a_problem(here: Path) -> None:
    fill(here, "a.jpg")
    images, _ = listed("gone.jpg", "a.jpg", missing_ok=True)
    assert [(image.path, image.problem) for image in images] == [
        ("gone.jpg", "cannot be read: no such file or directory"),
        ("a.jpg", ""),
    ]


def test_a_sample_has_the_name_that_is_shown(here: Path) -> None:
    fill(here / "photos", "a.jpg")
    with zipfile.ZipFile("more.zip", "w") as archive:
        archive.writestr("b.jpg", PHOTO)
    strange = os.fsencode(here) + b"/photos/\xff.jpg"
    with open(strange, "wb") as stream:  # noqa: PTH123
        stream.write(PHOTO)
    samples = [image.sample() for image in ImageSources(["photos", "more.zip"])]
    assert [sample.name for sample in samples] == ["photos/a.jpg", os.fsdecode(strange), "more.zip::b.jpg"]
    assert [sample.read() for sample in samples] == [PHOTO] * 3


def test_a_data_set_is_a_source(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(here / "val", "cat/a.jpg", "dog/b.jpg")
    images, _ = listed("imagefolder:val")
    assert paths(images) == ["val/cat/a.jpg", "val/dog/b.jpg"]
    assert [image.key for image in images] == [image.key for image in listed("val")[0]]
    with tarfile.open("0.tar", "w") as shard:
        for name, data in (("s.jpg", PHOTO), ("s.cls", b"0")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            shard.addfile(info, io.BytesIO(data))
    Path("classnames.txt").write_text("cat")
    spec = "wds:0.tar?orientation=stored"
    (image,), _ = listed(spec)
    assert image.location.dataset == f"wds:{here}/0.tar?orientation=stored"
    monkeypatch.chdir("/")
    assert ImageLocation.from_json(image.location.as_json()).sample().read() == PHOTO
    (here / "0.tar").unlink()
    with pytest.raises(AbsError):
        image.location.sample().read()


def test_samples_are_identified_hashed_and_pickled(here: Path) -> None:
    fill(here, "a.jpg")
    with tarfile.open("a.tar", "w") as archive:
        archive.add("a.jpg", "in.jpg")
    samples = [image.location.sample() for image in listed("a.jpg", "a.tar")[0]]
    assert pickle.loads(pickle.dumps(samples)) == samples
    assert len(set(samples)) == 2
    found = identify(samples, DigestCache(here / "cache"))
    assert [entry.id for entry in found if isinstance(entry, IdentifiedSample)] == [sha256_bytes(PHOTO)] * 2


def test_a_list_that_comes_in_pieces(here: Path) -> None:
    fill(here, "long name.jpg", "b.jpg")
    images, _ = listed("-", stdin=_Pipe(b"long name.jpg\0b.jpg\0"))
    assert paths(images) == ["long name.jpg", "b.jpg"]
