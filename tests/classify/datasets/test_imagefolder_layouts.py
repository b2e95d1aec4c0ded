"""Folders of images as people have them: splits, lists of Hugging Face, files and folders that are no images."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import subprocess
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from miniatures import write_image

from abs_classify.datasets import Dataset, open_dataset
from abs_core.errors import AbsError, DatasetError, UsageError


def put(root: Path, *names: str) -> Path:
    for name in names:
        write_image(root / name)
    return root


def opened(root: Path, options: str = "") -> Dataset:
    return open_dataset(f"imagefolder:{root}{options}")


def rows(data: Dataset, root: Path) -> dict[str, str]:
    return {sample.path.relative_to(root).as_posix(): sample.label for sample in data.samples}


def remarks(data: Dataset) -> set[str]:
    return set(map(str, data.remarks))


def refusal(root: Path, options: str = "") -> DatasetError:
    with pytest.raises(DatasetError) as caught:
        opened(root, options)
    return caught.value


def follow(error: DatasetError) -> Dataset:
    """What the command of a remedy shows."""
    command = error.remedy[error.remedy.index("abs datasets show") :].partition(";")[0]
    return open_dataset(shlex.split(command)[3])


@contextmanager
def listening(path: Path) -> Iterator[None]:
    """A socket at a path; bound by a short name, since addresses of sockets are short."""
    here = Path.cwd()
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(path.parent)
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)
        yield


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_what_is_no_file_is_left_out_and_counted_by_reason(tmp_path: Path) -> None:
    put(tmp_path, "cat/a.png", "dog/b.png")
    os.mkfifo(tmp_path / "cat" / "pipe.png")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "cat" / "null.png").symlink_to("/dev/null")
    (tmp_path / "cat" / "gone.png").symlink_to("nowhere.png")
    (tmp_path / "cat" / "self.png").symlink_to("self.png")
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "dog" / "up").symlink_to(tmp_path)
    with listening(tmp_path / "cat" / "socket.png"):
        data = opened(tmp_path)
    assert rows(data, tmp_path) == {"cat/a.png": "cat", "dog/b.png": "dog", "dog/up/cat/a.png": "dog"}
    assert {remark.kind.removeprefix("left out: "): remark.count for remark in data.remarks} == {
        "a named pipe": 4,
        "a device": 2,
        "a broken link": 2,
        "a link to itself": 4,
        "a socket": 2,
        "a link to a folder that is listed already": 1,
    }
    assert "2 left out: a device (cat/null.png, dog/up/cat/null.png)" in remarks(data)


def test_folders_that_link_to_each_other_are_listed_once_a_class(tmp_path: Path) -> None:
    names = [f"f{number}" for number in range(12)]
    for name in names:
        put(tmp_path, f"cat/{name}/{name}.png")
    for name in names:
        for other in names:
            (tmp_path / "cat" / name / f"to_{other}").symlink_to(tmp_path / "cat" / other)
    data = opened(tmp_path)
    assert sorted(sample.path.name for sample in data.samples) == sorted(f"{name}.png" for name in names)
    assert any(remark.kind == "left out: a link to a folder that is listed already" for remark in data.remarks)


def test_folders_deeper_than_calls_may_be_nested_are_listed(tmp_path: Path) -> None:
    here = Path.cwd()
    os.chdir(put(tmp_path, "cat/a.png") / "cat")
    try:
        for _ in range(1020):
            Path("d").mkdir()
            os.chdir("d")
        Path("b.png").write_bytes(b"x")
    finally:
        os.chdir(here)
    found = len(opened(tmp_path).samples)
    long = put(tmp_path / "long", "cat/a.png") / "cat"
    os.chdir(long)
    try:
        for _ in range(20):
            Path("d" * 250).mkdir()
            os.chdir("d" * 250)
    finally:
        os.chdir(here)
    message = refusal(tmp_path / "long").message
    subprocess.run(["rm", "-rf", str(long)], check=True)
    assert "file name too long" in message
    subprocess.run(["rm", "-rf", str(tmp_path / "cat")], check=True)  # shutil.rmtree calls itself
    assert found == 2


def test_the_content_decides_where_the_name_does_not(tmp_path: Path) -> None:
    put(tmp_path, "cat/a.png", "dog/b.png")
    image = (tmp_path / "cat" / "a.png").read_bytes()
    for name in ("c.jpg_large", "d.png.download", "e", "f.PNG~"):
        (tmp_path / "cat" / name).write_bytes(image)
    for folder, name in (("owl", "g.HEIC"), ("dog", "h.heic")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (tmp_path / "cat" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "empty").mkdir()
    data = opened(tmp_path)
    assert len(data.samples) == 6
    assert set(data.names) == {"cat", "dog"}
    assert remarks(data) == {
        "4 recognized as an image by its content, not by its name "
        "(cat/c.jpg_large, cat/d.png.download, cat/e, cat/f.PNG~)",
        "1 left out: not an image but a Windows thumbnail or Office file (cat/Thumbs.db)",
        "1 left out: not an image (cat/notes.txt)",
        "2 left out: a HEIF image (HEIC), which is not read; convert it to JPEG or PNG (dog/h.heic, owl/g.HEIC)",
        "2 left out: a folder without images (empty, owl)",
    }
    for path in tmp_path.rglob("*.png*"):
        path.unlink()
    for name in ("c.jpg_large", "e", "f.PNG~"):
        (tmp_path / "cat" / name).unlink()
    assert "a HEIF image (HEIC), which is not read" in refusal(tmp_path).message


def test_folders_of_systems_and_hidden_ones_are_left_out_at_any_depth(tmp_path: Path) -> None:
    put(tmp_path, "cat/a.png", "dog/b.png", "@eaDir/a.png/thumb.png", "cat/@eaDir/a.png", "__MACOSX/cat/a.png")
    put(tmp_path, ".ipynb_checkpoints/a.png", "cat/.hidden.png", "cat/._a.png", "loose.png")
    (tmp_path / "lost+found").mkdir(mode=0)
    data = opened(tmp_path)
    assert rows(data, tmp_path) == {"cat/a.png": "cat", "dog/b.png": "dog"}
    assert remarks(data) == {
        "4 left out: a folder of an operating system or program (@eaDir, __MACOSX, lost+found, cat/@eaDir)",
        "1 left out: a hidden folder (.ipynb_checkpoints)",
        "1 left out: a hidden file (cat/.hidden.png)",
        "1 left out: an image outside of the class folders (loose.png)",
    }


@pytest.mark.parametrize(
    ("folders", "choice"),
    [
        (["train", "val", "test"], "test"),
        (["Training", "Testing"], "Testing"),
        (["train", "valid"], "valid"),
        (["training_set", "test_set", "cat"], "test_set"),
        (["train"], "train"),
        (["train", "annotations"], "train"),
    ],
)
def test_splits_are_refused_with_a_command_that_chooses_one(tmp_path: Path, folders: list[str], choice: str) -> None:
    for folder in folders:
        put(tmp_path, f"{folder}/cat/a.png", f"{folder}/dog/b.png")
    error = refusal(tmp_path)
    assert "are splits and not classes" in error.message
    data = follow(error)
    assert rows(data, tmp_path) == {f"{choice}/cat/a.png": "cat", f"{choice}/dog/b.png": "dog"}
    assert data.name == f"imagefolder:{tmp_path}?split={choice}"
    assert data.remarks == ()
    assert len(opened(tmp_path, "?split=none").classes) == len(folders)


def test_splits_are_found_by_other_names_and_one_level_below(tmp_path: Path) -> None:
    root = put(
        tmp_path / "a", "seg_test/seg_test/sea/a.png", "seg_test/seg_test/ice/b.png", "seg_train/seg_train/sea/c.png"
    )
    assert rows(opened(root, "?split=test"), root / "seg_test" / "seg_test") == {"ice/b.png": "ice", "sea/a.png": "sea"}
    root = put(tmp_path / "b", "data/train/cat/a.png", "data/val/cat/b.png", "data/val/dog/b.png")
    assert rows(follow(refusal(root)), root) == {"data/val/cat/b.png": "cat", "data/val/dog/b.png": "dog"}
    assert len(opened(root, "?split=validation").samples) == 2
    assert "has no split 'test'; its folders: data" in refusal(root, "?split=test").message
    root = put(tmp_path / "c", "train/cat/a.png", "val/cat/b.png")
    assert "has no split 'test'; its splits: train, val" in refusal(root, "?split=test").message
    assert len(follow(refusal(root, "?split=test")).samples) == 1


@pytest.mark.parametrize(
    "names", [["train", "bus", "car"], ["train station", "bus stop"], ["test", "control", "blank"]]
)
def test_classes_with_the_name_of_a_split_stay_classes(tmp_path: Path, names: list[str]) -> None:
    put(tmp_path, *(f"{name}/a.png" for name in names))
    assert set(opened(tmp_path).names) == set(names)


def test_the_layout_of_hugging_face(tmp_path: Path) -> None:
    put(tmp_path, "train/1.png", "train/deep/2.png", "train/3.png", "test/4.png")
    (tmp_path / "train" / "metadata.csv").write_text("file_name,label,image\n1.png,cat,x\ndeep/2.png,dog,x\n")
    (tmp_path / "test" / "metadata.jsonl").write_text(json.dumps({"file_name": "4.png", "species": "owl"}))
    data = follow(refusal(tmp_path))
    assert rows(data, tmp_path) == {"test/4.png": "owl"}
    assert "1 column taken for the label by its name (species)" in remarks(data)
    data = opened(tmp_path, "?split=train")
    assert rows(data, tmp_path) == {"train/1.png": "cat", "train/deep/2.png": "dog"}
    assert remarks(data) == {"1 left out: an image that metadata.csv does not list (train/3.png)"}


def test_one_list_for_several_splits(tmp_path: Path) -> None:
    put(tmp_path, "train/1.png", "test/2.png")
    (tmp_path / "metadata.csv").write_text("file_name,label\ntrain/1.png,cat\ntest/2.png,dog\n")
    error = refusal(tmp_path)
    assert "lists images of the splits train, test" in error.message
    assert rows(follow(error), tmp_path) == {"test/2.png": "dog"}
    (tmp_path / "metadata.csv").write_text("file_name,label\ntrain/1.png,cat\n../x.png,dog\n")
    assert "must lie inside" in refusal(tmp_path).message


def test_a_list_without_labels_leaves_the_class_folders(tmp_path: Path) -> None:
    put(tmp_path, "cat/1.png", "dog/2.png")
    (tmp_path / "metadata.csv").write_text("file_name,text\ncat/1.png,a cat on a mat\n")
    data = opened(tmp_path)
    assert rows(data, tmp_path) == {"cat/1.png": "cat", "dog/2.png": "dog"}
    assert any("list of images not used: line 1" in text and "no column 'label'" in text for text in remarks(data))
    assert rows(opened(tmp_path, "?label=text"), tmp_path) == {"cat/1.png": "a cat on a mat"}


def test_the_table_of_roboflow_and_a_list_under_another_name(tmp_path: Path) -> None:
    put(tmp_path, "valid/1.png", "valid/2.png")
    (tmp_path / "valid" / "_classes.csv").write_text("filename, cat, dog\n1.png, 1, 0\n2.png, 0, 1\n")
    assert rows(opened(tmp_path, "?split=valid"), tmp_path / "valid") == {"1.png": "cat", "2.png": "dog"}
    (tmp_path / "valid" / "_classes.csv").rename(tmp_path / "valid" / "labels.csv")
    error = refusal(tmp_path, "?split=valid")
    assert "images, but none in a class sub-folder" in error.message
    assert error.remedy.endswith(f"abs datasets show csv:{tmp_path}/valid/labels.csv")
    (tmp_path / "valid" / "labels.csv").rename(tmp_path / "valid" / "metadata.parquet")
    assert "python -c 'import pandas" in refusal(tmp_path, "?split=valid").remedy


def test_folders_inside_classes_are_hinted_at_and_can_be_the_classes(tmp_path: Path) -> None:
    put(
        tmp_path,
        "Fruit/Apple/Fuji/a.png",
        "Fruit/Apple/Gala/b.png",
        "Fruit/Lemon/c.png",
        "Box/Milk/d.png",
        "Box/Lemon/e.png",
    )
    data = opened(tmp_path)
    command = f"abs datasets show 'imagefolder:{tmp_path}?leaf'"
    assert remarks(data) == {
        f"2 class folders hold their images in sub-folders; {command} reads all 5 folders as classes (Box, Fruit)"
    }
    leaves = opened(tmp_path, "?leaf")
    assert set(leaves.names) == {"Fuji", "Gala", "Fruit/Lemon", "Milk", "Box/Lemon"}
    assert leaves.remarks == ()


def test_one_class_only_is_hinted_at(tmp_path: Path) -> None:
    put(tmp_path, "Data/cat/a.png", "Data/dog/b.png")
    (hint,) = [text for text in remarks(opened(tmp_path)) if text.startswith("1 class only")]
    assert f"abs datasets show imagefolder:{tmp_path}/Data reads its sub-folders as classes" in hint
    assert len(open_dataset(f"imagefolder:{tmp_path}/Data").classes) == 2


def test_splits_inside_classes_are_hinted_at(tmp_path: Path) -> None:
    put(tmp_path, "bottle/train/a.png", "bottle/test/b.png", "cable/train/a.png", "cable/test/b.png")
    assert "2 class folders hold splits, which are read together (bottle, cable)" in remarks(opened(tmp_path))


def test_folders_of_which_none_is_a_class_are_refused(tmp_path: Path) -> None:
    put(tmp_path, "images/cat/a.png", "images/dog/b.png", "annotations/trimaps/a.png")
    error = refusal(tmp_path)
    assert "do not look like classes: annotations, images" in error.message
    assert set(follow(error).names) == {"cat", "dog"}
    assert set(opened(tmp_path, "?split=none").names) == {"annotations", "images"}
    put(tmp_path / "tiny", "val/images/v.png")
    (tmp_path / "tiny" / "val" / "val_annotations.txt").write_text("v.png\tn01443537\t0\t32\n")
    with pytest.raises(DatasetError, match="column names but 4 cells"):
        follow(refusal(tmp_path / "tiny", "?split=val"))
    shutil.rmtree(tmp_path / "tiny")
    put(tmp_path, "cat/a.png")
    assert any(
        "not a class but goes with" in text or "go with a data set" in text for text in remarks(opened(tmp_path))
    )


def test_numbers_of_folders_count_in_a_label_set_that_is_named(tmp_path: Path) -> None:
    put(tmp_path, "0/a.png", "9/b.png", "10/c.png")
    assert "3 class names are numbers; a model knows words only (0, 10, 9)" in remarks(opened(tmp_path))
    assert "must be a class number from 0 to 9, got 10" in refusal(tmp_path, "?classes=cifar10").message
    (tmp_path / "10").rename(tmp_path / "Cat")
    data = opened(tmp_path, "?classes=cifar10")
    assert rows(data, tmp_path) == {"0/a.png": "airplane", "9/b.png": "truck", "Cat/c.png": "cat"}
    assert (len(data.classes), data.remarks) == (10, ())


def test_two_folders_of_one_class_are_said(tmp_path: Path) -> None:
    put(tmp_path, "café/a.png", "dog/b.png")
    other = unicodedata.normalize("NFD", "café")
    put(tmp_path, f"{other}/c.png")
    data = opened(tmp_path)
    assert set(data.names) == {"café", "dog"}
    assert any(remark.kind == "folder read as one class with another" for remark in data.remarks)


@pytest.mark.parametrize("name", ["photos.zip", "photos.tar.gz", "photos.tgz"])
def test_an_archive_in_place_of_a_folder_comes_with_the_command_that_extracts_it(tmp_path: Path, name: str) -> None:
    put(tmp_path / "photos", "cat/a.png", "dog/b.png")
    kind, root = ("zip", tmp_path) if name.endswith(".zip") else ("gztar", tmp_path)
    made = Path(shutil.make_archive(str(tmp_path / "made"), kind, tmp_path / "photos"))
    shutil.rmtree(root / "photos")
    remedy = refusal(made.rename(tmp_path / name)).remedy
    subprocess.run(remedy.removeprefix("Extract it: "), shell=True, check=True, capture_output=True)
    assert len(opened(tmp_path / "photos").samples) == 2


def test_a_split_with_classes_is_proposed_and_files_of_other_kinds_are_named(tmp_path: Path) -> None:
    root = put(tmp_path / "a", "train/cat/1.png", "train/dog/2.png", "test/3.png")
    assert len(follow(refusal(root)).samples) == 2
    for name, kind in (("data/test-0.parquet", "hf"), ("test/0.tar", "wds")):
        path = tmp_path / kind / name
        path.parent.mkdir(parents=True)
        path.touch()
        assert f"abs datasets show {kind}:{tmp_path / kind}" in refusal(tmp_path / kind, "?split=none").remedy


def test_flat_images_of_a_split_and_a_list_beside_it(tmp_path: Path) -> None:
    put(tmp_path, "train/1.png", "train/2.png", "test/3.png")
    (tmp_path / "train.csv").write_text("id,breed\n1,beagle\n2,collie\n")
    error = refusal(tmp_path, "?split=train")
    with pytest.raises(DatasetError) as caught:
        follow(error)
    assert rows(follow(caught.value), tmp_path / "train") == {"1.png": "beagle", "2.png": "collie"}


def test_an_unknown_option_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown option 'slpit'"):
        opened(tmp_path, "?slpit=test")


NAMES = st.sampled_from(
    ["train", "test", "val", "cat", "images", "data", "1.png", "metadata.csv", "..", "n02123045", "label"]
)
TREES = st.lists(st.lists(NAMES, min_size=1, max_size=4).map("/".join), max_size=5)
TABLE = st.text(alphabet='file_nmlbt/.,\n"{}:12', max_size=60) | st.sampled_from(
    ["file_name,label\n1.png,cat\n", "file_name,label\ntrain/1.png,cat\n", '{"file_name": "cat/1.png", "label": 3}']
)
OPTIONS = st.sampled_from(
    ["", "?leaf", "?split=test", "?split=none", "?label=label", "?classes=cifar10", "?split=none&leaf"]
)


@pytest.mark.fuzz
@given(TREES, TABLE, st.sampled_from(["metadata.csv", "metadata.jsonl", "train/metadata.csv"]), OPTIONS)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_folder_is_read_or_refused_on_one_line(
    tmp_path_factory: pytest.TempPathFactory, tree: list[str], table: str, file: str, options: str
) -> None:
    root = tmp_path_factory.mktemp("any") / "root"
    root.mkdir()
    for path in (*tree, file):
        try:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(table if path == file else "x", encoding="utf-8")
        except OSError:
            continue
    message = ""
    try:
        data = opened(root, options)
    except AbsError as error:
        message = str(error)
    else:
        assert all(root in sample.path.parents for sample in data.samples)
        assert data.samples
        assert set(data.labels) <= set(data.names)
    assert "\n" not in message
