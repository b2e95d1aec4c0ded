"""Webdataset shards: read without extracting, fetched only where a folder is named, hostile ones refused."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest
from PIL import Image
from web import serve_on_loopback

from abs_classify.datasets import open_dataset
from abs_classify.images import load_image
from abs_classify.methods.class_texts import read_template_set
from abs_core.errors import DatasetError, ImageError, UsageError
from abs_core.http import validate_url

Members = list[tuple[str, bytes]]


def picture(color: str, kind: str = "WEBP") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 3), color).save(stream, kind, lossless=True)
    return stream.getvalue()


def shard(path: Path, members: Members) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def published(root: Path, names: list[str] | None = None) -> Path:
    """A data set as CLIP_benchmark publishes it: three samples in two shards."""
    shard(root / "test" / "0.tar", [("s0000000.cls", b"1"), ("s0000000.webp", picture("red")),
                                    ("s0000001.cls", b"0"), ("s0000001.webp", picture("blue"))])  # fmt: skip
    shard(root / "test" / "1.tar", [("s0000002.cls", b"1"), ("s0000002.webp", picture("lime"))])
    (root / "test" / "nshards.txt").write_text("2\n")
    (root / "classnames.txt").write_text("\n".join(names or ["blue thing", "colourful thing"]) + "\n")
    (root / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\n")
    return root


def test_a_published_set_is_read_in_the_order_of_its_shards(tmp_path: Path) -> None:
    data = open_dataset(f"wds:{published(tmp_path)}")
    assert [sample.label for sample in data.samples] == ["colourful thing", "blue thing", "colourful thing"]
    pixels = [load_image(sample.read(), sample.name).pixels for sample in data.samples]
    assert [image.getpixel((0, 0)) for image in pixels] == [(255, 0, 0), (0, 0, 255), (0, 255, 0)]
    assert data.samples[0].name == f"{tmp_path}/test/0.tar::s0000000.webp"
    assert data.samples[0].path == tmp_path / "test" / "0.tar"
    # an sample may be sent to another process
    assert pickle.loads(pickle.dumps(data.samples[1])) == data.samples[1]


def test_ten_shards_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in range(11):
        shard(tmp_path / f"{number}.tar", [(f"k{number}.png", picture("red", "PNG")), (f"k{number}.txt", b"cat")])
    data = open_dataset(f"wds:{tmp_path}")
    assert [sample.path.name for sample in data.samples] == [f"{number}.tar" for number in range(11)]
    data = open_dataset(f"wds:{tmp_path}/{{8..10}}.tar")
    assert [sample.path.name for sample in data.samples] == ["8.tar", "9.tar", "10.tar"]
    with pytest.raises(DatasetError, match=r"the shard .*11\.tar' does not exist"):
        open_dataset(f"wds:{tmp_path}/{{9..11}}.tar")


def test_names_of_a_shipped_label_set_give_its_stable_ids(tmp_path: Path) -> None:
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    data = open_dataset(f"wds:{published(tmp_path, names)}?classes=cifar10")
    assert [sample.label for sample in data.samples] == ["automobile", "airplane", "automobile"]
    assert data.samples == open_dataset(f"wds:{tmp_path}?split=test").samples


def test_names_of_a_shipped_label_set_in_another_order_count_in_theirs(tmp_path: Path) -> None:
    names = ["truck", "ship", "horse", "frog", "dog", "deer", "cat", "bird", "automobile", "airplane"]
    data = open_dataset(f"wds:{published(tmp_path, names)}?classes=cifar10")
    assert [sample.label for sample in data.samples] == ["ship", "truck", "ship"]
    published(tmp_path, ["truck", "boat", "colt", *names[3:]])
    with pytest.raises(DatasetError, match="classes in another order than the label set 'cifar10': the class 0 is"):
        open_dataset(f"wds:{tmp_path}?classes=cifar10")
    with pytest.raises(DatasetError, match="has 10 classes, but the label set 'cifar100' has 100"):
        open_dataset(f"wds:{tmp_path}?classes=cifar100")


def test_an_empty_line_among_class_names_does_not_shift_the_numbers(tmp_path: Path) -> None:
    root = published(tmp_path, ["blue thing", "", "colourful thing"])
    with pytest.raises(DatasetError, match=r"line 2 of .*classnames.txt' is blank"):
        open_dataset(f"wds:{root}")
    (root / "classnames.txt").write_text("blue thing\r\ncolourful thing\r\n\n")
    assert [sample.label for sample in open_dataset(f"wds:{root}").samples][:2] == ["colourful thing", "blue thing"]


def test_two_classes_of_one_name_keep_apart(tmp_path: Path) -> None:
    data = open_dataset(f"wds:{published(tmp_path, ['sunglasses', 'sunglasses'])}")
    assert [sample.label for sample in data.samples] == ["sunglasses (1)", "sunglasses (0)", "sunglasses (1)"]
    assert [label.name for label in data.classes] == ["sunglasses", "sunglasses"]


def test_labels_may_be_texts_or_json(tmp_path: Path) -> None:
    shard(tmp_path / "a.tar", [
        ("x/1.jpg", picture("red")), ("x/1.json", json.dumps({"label": "cat", "url": "..."}).encode()),
        ("x/2.jpg", picture("red")), ("x/2.txt", "katze ü".encode()), ("x/2.pyd", b"not read"),
    ])  # fmt: skip
    assert [sample.label for sample in open_dataset(f"wds:{tmp_path / 'a.tar'}").samples] == ["cat", "katze ü"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.jpg", b"x"), ("a.cls", b"7")], "must be a class number from 0 to 1, got 7"),
        ([("a.jpg", b"x"), ("a.cls", b"-1")], "must be a class number from 0 to 1, got -1"),
        ([("a.jpg", b"x")], "the sample 'a' of .* has no label"),
        ([("a.cls", b"1")], "must have one image, got 0"),
        ([("a.jpg", b"x"), ("a.png", b"x"), ("a.cls", b"1")], "must have one image, got 2"),
        ([("a.jpg", b"x"), ("a.json", b"[1]")], "has a .json that cannot be read"),
        ([("a.jpg", b"x"), ("a.json", b"{}")], "has a .json that cannot be read"),
        ([("a.jpg", b"x"), ("a.json", b'{"label": 1.5}')], "must be a number or a string, got 1.5"),
        ([("a.jpg", b"x"), ("a.json", b'{"label": 9%s}' % (b"9" * 100))], "must be a number or a string, got 999"),
        ([("a.jpg", b"x"), ("a.cls", b"\xff")], "has a .cls that cannot be read"),
        ([("a.jpg", b"x"), ("a.cls", b"--1")], "has the label '--1', which is not a class"),
        ([("a.jpg", b"x"), ("a.txt", b" ")], "empty label"),
        ([("a.jpg", b"x"), ("a.txt", b"horse")], "has the label 'horse', which is not a class"),
        ([("a.jpg", b"x"), ("a.txt", b"1" * 70_000)], "the .txt may have up to 65536 bytes, got 70000"),
        ([], "contain no samples"),
        ([("readme.md", b"x")], "contain no samples"),
    ],
)
def test_a_sample_that_cannot_be_used_is_named(tmp_path: Path, members: Members, message: str) -> None:
    shard(tmp_path / "0.tar", members)
    (tmp_path / "classnames.txt").write_text("cat\ndog\n")
    with pytest.raises(DatasetError, match=message):
        open_dataset(f"wds:{tmp_path}")


def test_a_key_that_comes_again_in_a_shard_is_refused_rather_than_lost(tmp_path: Path) -> None:
    image, label = picture("red", "PNG"), b"cat"
    twice = [("a.png", image), ("a.txt", label), ("a.png", image), ("a.txt", label)]
    with pytest.raises(DatasetError, match=r"has the member 'a\.png' twice"):
        open_dataset(f"wds:{shard(tmp_path / '0.tar', twice)}")
    apart = [("a.png", image), ("a.txt", label), ("b.png", image), ("b.txt", label), ("a.PNG", image)]
    with pytest.raises(DatasetError, match=r"the sample 'a' of .* appears twice, with others in between"):
        open_dataset(f"wds:{shard(tmp_path / '0.tar', apart)}")


def test_a_shard_with_fewer_samples_than_its_count_is_refused(tmp_path: Path) -> None:
    shard(tmp_path / "0.tar", [("a.png", picture("red", "PNG")), ("a.txt", b"cat")])
    (tmp_path / "sizes.json").write_text('{"0.tar": 2}')
    with pytest.raises(DatasetError, match=r"0\.tar' has 1 samples, but sizes\.json says 2"):
        open_dataset(f"wds:{tmp_path}")
    (tmp_path / "sizes.json").write_text('{"0.tar": 1}')
    assert len(open_dataset(f"wds:{tmp_path}").samples) == 1


def test_one_key_in_two_shards_is_refused(tmp_path: Path) -> None:
    for number in (0, 1):
        shard(tmp_path / f"{number}.tar", [("same.png", picture("red", "PNG")), ("same.txt", b"cat")])
    with pytest.raises(DatasetError, match="the sample 'same' appears twice, in"):
        open_dataset(f"wds:{tmp_path}")


def test_numbers_without_class_names_are_refused_unless_the_user_names_them(tmp_path: Path) -> None:
    shard(tmp_path / "0.tar", [("a.jpg", picture("red")), ("a.cls", b"1")])
    with pytest.raises(DatasetError, match="the classes that they stand for are not given"):
        open_dataset(f"wds:{tmp_path}")
    assert open_dataset(f"wds:{tmp_path}?classes=cifar10").samples[0].label == "automobile"


def test_missing_shards_are_counted(tmp_path: Path) -> None:
    published(tmp_path)
    (tmp_path / "test" / "1.tar").unlink()
    with pytest.raises(DatasetError, match=r"1 of 2 shards are missing in .*, the first is '1.tar'"):
        open_dataset(f"wds:{tmp_path}")
    with pytest.raises(DatasetError, match="no shards"):
        open_dataset(f"wds:{tmp_path / 'test' / '..'}?split=train")


def link(info: tarfile.TarInfo) -> None:
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"


def hard_link(info: tarfile.TarInfo) -> None:
    info.type, info.linkname = tarfile.LNKTYPE, "a.jpg"


def device(info: tarfile.TarInfo) -> None:
    info.type = tarfile.CHRTYPE


def climbs(info: tarfile.TarInfo) -> None:
    info.name = "../../a.jpg"


def absolute(info: tarfile.TarInfo) -> None:
    info.name = "/tmp/a.jpg"


@pytest.mark.parametrize("change", [link, hard_link, device, climbs, absolute])
def test_a_hostile_member_is_refused(tmp_path: Path, change: Callable[[tarfile.TarInfo], None]) -> None:
    info = tarfile.TarInfo("evil.jpg")
    change(info)
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        archive.addfile(info)
    with pytest.raises(DatasetError, match="may contain regular files only, got"):
        open_dataset(f"wds:{tmp_path}")


def test_a_header_that_claims_gigabytes_is_refused_without_reading_them(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a.jpg")
    info.type, info.size = tarfile.XHDTYPE, 1 << 33
    path = tmp_path / "0.tar"
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT))
    with path.open("r+b") as stream:
        stream.truncate(1 << 33)
    with pytest.raises(DatasetError, match="a header is too large"):
        open_dataset(f"wds:{tmp_path}")


def test_a_compressed_a_cut_off_and_a_foreign_file_are_refused(tmp_path: Path) -> None:
    members = [("a.png", picture("red", "PNG")), ("a.txt", b"cat"), ("b.bin", bytes(100_000))]
    path = shard(tmp_path / "0.tar", members)
    whole = path.read_bytes()
    path.write_bytes(whole[:50_000])
    with pytest.raises(DatasetError, match="is truncated"):
        open_dataset(f"wds:{tmp_path}")
    path.write_bytes(b"\x1f\x8b" + whole)
    with pytest.raises(DatasetError, match="is not an uncompressed tar file"):
        open_dataset(f"wds:{tmp_path}")


def test_a_shard_that_changes_under_a_run_is_an_error_of_the_image(tmp_path: Path) -> None:
    sample = open_dataset(f"wds:{published(tmp_path)}").samples[0]
    (tmp_path / "test" / "0.tar").write_bytes(b"short")
    with pytest.raises(ImageError, match=r"0\.tar::s0000000\.webp' is truncated"):
        sample.read()
    (tmp_path / "test" / "0.tar").unlink()
    with pytest.raises(ImageError, match="no such file"):
        sample.read()


# from the web


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """An address on this machine, the folder that it serves, and the paths that were asked for."""
    folder = published(tmp_path / "served")
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            asked.append(self.path)

    with serve_on_loopback(partial(Handler, directory=str(folder))) as address:
        yield address, folder, asked


def test_shards_are_fetched_once_into_the_folder_that_is_named(
    server: tuple[str, Path, list[str]], tmp_path: Path
) -> None:
    address, _, asked = server
    with pytest.raises(UsageError, match="must be downloaded before") as caught:
        open_dataset(f"wds:{address}")
    assert f"wds:{address}?to=DIR" in caught.value.remedy
    assert asked == []
    here = tmp_path / "here"
    data = open_dataset(f"wds:{address}/?to={here}")
    assert len(data.samples) == 3
    assert all(sample.path.is_relative_to(here) for sample in data.samples)
    # what the set's publisher pairs with it, for --templates
    assert read_template_set(here / "zeroshot_classification_templates.txt").templates == ("a photo of a {}.",)
    count = len(asked)
    assert open_dataset(f"wds:{address}/?to={here}").samples == data.samples
    assert len(asked) == count
    assert len(open_dataset(f"wds:{here}").samples) == 3


def test_a_fetch_that_broke_off_goes_on(server: tuple[str, Path, list[str]], tmp_path: Path) -> None:
    address, folder, asked = server
    (folder / "test" / "1.tar").rename(folder / "later.tar")
    with pytest.raises(DatasetError, match=r"cannot fetch .*/test/1.tar: the server answered 404"):
        open_dataset(f"wds:{address}?to={tmp_path / 'here'}")
    (folder / "later.tar").rename(folder / "test" / "1.tar")
    asked.clear()
    assert len(open_dataset(f"wds:{address}?to={tmp_path / 'here'}").samples) == 3
    assert asked == ["/test/1.tar"]


def test_two_sources_never_mix_in_one_folder(server: tuple[str, Path, list[str]], tmp_path: Path) -> None:
    address = server[0]
    here = tmp_path / "here"
    open_dataset(f"wds:{address}?to={here}")
    with pytest.raises(UsageError, match=f"is a copy of {address}"):
        open_dataset(f"wds:{address}/test?to={here}")
    with pytest.raises(UsageError, match="must be new or empty"):
        open_dataset(f"wds:{address}?to={server[1]}")
    with pytest.raises(UsageError, match="to= is for https addresses"):
        open_dataset(f"wds:{server[1]}?to={here}")


@pytest.mark.parametrize(
    "address",
    [
        "http://example.org/set",
        "ftp://example.org/set",
        "file:///etc",
        "s3://bucket/set",
        "https://user:secret@example.org/set",
        "https://example.org/set::https://other.org",
        "https://example.org/set?token=secret",
        "https:///set",
        "pipe:// cat",
    ],
)
def test_an_address_that_may_not_be_fetched_is_refused_without_repeating_a_secret(address: str) -> None:
    with pytest.raises(UsageError) as caught:
        validate_url(address)
    assert "secret" not in str(caught.value)


@pytest.mark.slow
def test_no_server_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"cannot fetch http://127\.0\.0\.1:9/classnames.txt"):
        open_dataset(f"wds:http://127.0.0.1:9?to={tmp_path / 'here'}")


def test_photos_as_they_are_stored_are_an_option(tmp_path: Path) -> None:
    data = open_dataset(f"wds:{published(tmp_path)}?orientation=stored")
    assert data.samples[0].name.endswith("0.tar::s0000000.webp, as stored")
    assert data.samples[0].read() == open_dataset(f"wds:{tmp_path}").samples[0].read()


def test_what_macos_puts_beside_the_files_in_a_shard_is_left_out_and_counted(tmp_path: Path) -> None:
    hidden = [("._a.png", b"\0\5\x16\7"), (".DS_Store", b"x"), ("__MACOSX/a.png", b"x")]
    shard(tmp_path / "test" / "0.tar", [hidden[0], ("a.png", picture("red", "PNG")), ("a.cls", b"red"), *hidden[1:]])
    dataset = open_dataset(f"wds:{tmp_path}")
    assert [sample.label for sample in dataset.samples] == ["red"]
    (remark,) = dataset.remarks
    assert (remark.kind, remark.count) == ("left out: hidden member of a shard", 3)
