"""Folders with one sub-folder for each class."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from miniatures import write_image

from abs_classify.datasets import Sample, open_dataset
from abs_core.errors import DatasetError


def test_an_image_folder_is_read_in_a_fixed_order(tmp_path: Path) -> None:
    paths = [
        write_image(tmp_path / "cat" / "b.png"),
        write_image(tmp_path / "cat" / "deep" / "er" / "c.JPG"),
        write_image(tmp_path / "golden_retriever" / 'it\'s a\n"dog" 😀.png'),
    ]
    write_image(tmp_path / "dog" / ".hidden.png")
    write_image(tmp_path / ".git" / "x.png")
    write_image(tmp_path / "loose.png")
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "empty").mkdir()
    dataset = open_dataset(f"imagefolder:{tmp_path}")
    assert dataset.samples == tuple(
        Sample(path, label) for path, label in zip(paths, ["cat", "cat", "golden_retriever"], strict=True)
    )
    assert dataset.names == {"cat": "cat", "golden_retriever": "golden retriever"}
    assert dataset.name == f"imagefolder:{tmp_path}"


def test_a_broken_image_is_found_when_it_is_opened_and_not_before(tmp_path: Path) -> None:
    write_image(tmp_path / "cat" / "a.png").write_bytes(b"broken")
    assert len(open_dataset(f"imagefolder:{tmp_path}").samples) == 1


def test_links_are_followed_and_a_loop_of_links_ends(tmp_path: Path) -> None:
    real = write_image(tmp_path / "elsewhere" / "a.png")
    root = tmp_path / "data"
    (root / "cat").mkdir(parents=True)
    (root / "cat" / "link.png").symlink_to(real)
    (root / "cat" / "again").symlink_to(root / "cat")
    (root / "dog").symlink_to(real.parent)
    samples = open_dataset(f"imagefolder:{root}").samples
    assert [(sample.path.name, sample.label) for sample in samples] == [("link.png", "cat"), ("a.png", "dog")]


def test_a_folder_name_in_decomposed_unicode_gives_the_composed_label(tmp_path: Path) -> None:
    write_image(tmp_path / "cafe\u0301" / "a.png")
    assert open_dataset(f"imagefolder:{tmp_path}").samples[0].label == "caf\u00e9"


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    spec = f"imagefolder:{tmp_path}"
    with pytest.raises(DatasetError, match="no images in its sub-folders") as caught:
        open_dataset(spec)
    assert str(tmp_path) in caught.value.message
    write_image(tmp_path / "a.png")
    with pytest.raises(DatasetError, match="has images, but none in a class sub-folder"):
        open_dataset(spec)
    with pytest.raises(DatasetError, match="does not exist"):
        open_dataset(f"imagefolder:{tmp_path / 'none'}")
    with pytest.raises(DatasetError, match="is not a folder"):
        open_dataset(f"imagefolder:{tmp_path / 'a.png'}")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems want UTF-8 names")
def test_a_class_folder_whose_name_is_no_unicode_is_refused_on_one_printable_line(tmp_path: Path) -> None:
    write_image(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9/a.png")))
    with pytest.raises(DatasetError, match="not valid UTF-8") as caught:
        open_dataset(f"imagefolder:{tmp_path}")
    str(caught.value).encode("utf-8")
