"""Folders of splits that are named after their data set, and lists that come with competitions."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from miniatures import write_image

from abs_classify.datasets import Dataset, open_dataset
from abs_core.errors import DatasetError


def put(root: Path, *names: str) -> Path:
    for name in names:
        write_image(root / name)
    return root


def refusal(spec: str) -> DatasetError:
    with pytest.raises(DatasetError) as caught:
        open_dataset(spec)
    return caught.value


def follow(error: DatasetError) -> Dataset:
    command = error.remedy[error.remedy.index("abs datasets show") :].partition(";")[0]
    return open_dataset(shlex.split(command)[3])


def labels(data: Dataset) -> set[str]:
    return {sample.label for sample in data.samples}


@pytest.mark.parametrize(
    ("train", "test"),
    [("cars_train", "cars_test"), ("asl_alphabet_train", "asl_alphabet_test"), ("GTSRB-Training", "GTSRB-Testing")],
)
def test_splits_named_after_their_data_set_are_no_classes(tmp_path: Path, train: str, test: str) -> None:
    put(tmp_path, f"{train}/cat/a.png", f"{train}/dog/b.png", f"{test}/cat/c.png", f"{test}/dog/d.png")
    error = refusal(f"imagefolder:{tmp_path}")
    assert "are splits and not classes" in error.message
    assert labels(follow(error)) == {"cat", "dog"}
    assert labels(open_dataset(f"imagefolder:{tmp_path}?split=train")) == {"cat", "dog"}
    assert labels(open_dataset(f"imagefolder:{tmp_path}?split=none")) == {train, test}


def test_a_split_without_class_folders_is_not_proposed(tmp_path: Path) -> None:
    put(tmp_path, "a_train/a_train/cat/a.png", "a_train/a_train/dog/b.png", "a_test/a_test/1.png")
    assert labels(follow(refusal(f"imagefolder:{tmp_path}"))) == {"cat", "dog"}


@pytest.mark.parametrize(
    "names", [("toy_train", "toy_car"), ("train_station", "bus_station"), ("toy_train", "test_tube")]
)
def test_classes_with_words_of_splits_stay_classes(tmp_path: Path, names: tuple[str, str]) -> None:
    put(tmp_path, *(f"{name}/a.png" for name in names))
    assert labels(open_dataset(f"imagefolder:{tmp_path}")) == set(names)


def test_the_example_of_a_submission_is_not_proposed_as_a_list(tmp_path: Path) -> None:
    put(tmp_path, "1.png", "2.png")
    (tmp_path / "sample_submission.csv").write_text("id,label\n1,0\n2,0\n")
    assert "submission" not in refusal(f"imagefolder:{tmp_path}").remedy
    (tmp_path / "photos.csv").write_text("path,label\n1.png,cat\n2.png,dog\n")
    assert labels(follow(refusal(f"imagefolder:{tmp_path}"))) == {"cat", "dog"}
