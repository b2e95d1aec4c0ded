"""Splits, options and completeness of a published data set."""

from __future__ import annotations

from pathlib import Path

import pytest
from miniatures import dtd, miniature, write_files, write_texts

from abs_classify.datasets import open_dataset
from abs_classify.datasets.benchmarks.diagnosis import open_benchmark
from abs_core.errors import DatasetError, UnknownNameError, UsageError


def test_an_unknown_split_or_option_lists_the_valid_ones(tmp_path: Path) -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown dtd split 'val' .did you mean 'val1'..; valid: val1, val2, .* and \d+ more"
    ):
        open_dataset(f"dtd:{tmp_path}?split=val")
    with pytest.raises(UsageError, match=r"unknown option 'part' in .*; known: split, partial"):
        open_dataset(f"dtd:{tmp_path}?part=test1")
    with pytest.raises(UsageError, match="twice"):
        open_dataset(f"dtd:{tmp_path}?split=test1&split=test2")
    with pytest.raises(UsageError, match="takes no value, got 'half'"):
        open_dataset(f"dtd:{tmp_path}?partial=half")


def test_a_folder_whose_name_has_a_question_mark_is_a_folder(tmp_path: Path) -> None:
    root = write_files(tmp_path / "what?split=x", "labels/.keep", "images/banded/a.jpg")
    write_texts(root, {"labels/test1.txt": "banded/a.jpg\n"})
    assert len(open_benchmark(miniature("dtd", test1=1), str(root)).samples) == 1


def test_a_size_that_is_not_the_published_one_is_refused_and_partial_goes_on(tmp_path: Path) -> None:
    root = dtd(tmp_path / "dtd")
    with pytest.raises(DatasetError, match=r"found 2 images of dtd \(test1\), expected 1880") as caught:
        open_dataset(f"dtd:{root}")
    assert "45 classes have none" in caught.value.message
    assert f"dtd:{root}?partial" in caught.value.remedy
    data = open_dataset(f"dtd:{root}?partial")
    assert len(data.samples) == 2
    assert data.notes == (
        "incomplete: found 2 images of dtd (test1), expected 1880; 45 classes have none, such as 'blotchy'",
    )


def test_an_image_that_a_list_names_and_that_is_not_there_is_named(tmp_path: Path) -> None:
    root = dtd(tmp_path / "dtd")
    (root / "images/banded/banded_0001.jpg").unlink()
    small = miniature("dtd", test1=2)
    with pytest.raises(DatasetError, match=r"1 of 2 images of dtd \(test1\) are missing, the first is .*banded_0001"):
        open_benchmark(small, str(root))
    data = open_benchmark(small, f"{root}?split=test1&partial")
    assert [sample.label for sample in data.samples] == ["zigzagged"]


def test_partial_does_not_accept_nothing_at_all(tmp_path: Path) -> None:
    root = dtd(tmp_path / "dtd")
    for path in root.glob("images/*/*_0001.jpg"):
        path.unlink()
    with pytest.raises(DatasetError, match="2 of 2 images"):
        open_benchmark(miniature("dtd", test1=2), f"{root}?partial")


def test_an_image_that_is_listed_twice_is_refused(tmp_path: Path) -> None:
    root = dtd(tmp_path / "dtd")
    write_texts(root, {"labels/test1.txt": "banded/banded_0001.jpg\n" * 2})
    with pytest.raises(DatasetError, match="twice"):
        open_benchmark(miniature("dtd", test1=2), str(root))
