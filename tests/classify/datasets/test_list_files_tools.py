"""Lists of other tools that could be read wrongly in silence, and lists that came from another computer."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from miniatures import write_image

from abs_classify.datasets import Dataset, open_dataset
from abs_core.errors import DatasetError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png", "images/c.png"):
        write_image(tmp_path / name)
    return tmp_path


def opened(folder: Path, text: str) -> Dataset:
    (folder / "list.csv").write_text(text)
    return open_dataset(f"csv:{folder / 'list.csv'}")


def rows(data: Dataset) -> list[tuple[str, str]]:
    return [(sample.path.name, sample.label) for sample in data.samples]


def refusal(folder: Path, text: str) -> DatasetError:
    with pytest.raises(DatasetError) as caught:
        opened(folder, text)
    return caught.value


def said(data: Dataset) -> str:
    return "\n".join(map(str, data.remarks))


def test_labels_that_people_found_wrong_are_left_out(folder: Path) -> None:
    data = opened(folder, "ImageID,Source,LabelName,Confidence\na,v,cat,1\nb,v,cat,0\nimages/c,v,dog,1\n")
    assert rows(data) == [("a.png", "cat"), ("c.png", "dog")]
    assert "1 skipped: a row that says that its label is wrong" in said(data)
    # a model's confidence in a list of one's own is another thing
    assert len(rows(opened(folder, "path,label,Confidence\na.png,cat,0\nb.png,dog,1\n"))) == 2


def test_a_class_of_a_column_without_images_is_named(folder: Path) -> None:
    data = opened(folder, "image,cat,dog,owl\na.png,1,0,0\nb.png,0,1,0\n")
    assert [label.name for label in data.classes] == ["cat", "dog"]
    assert "1 skipped: a class without images (owl)" in said(data)


def test_a_list_of_one_class_is_remarked_on(folder: Path) -> None:
    assert "1 class only" in said(opened(folder, "path,label\na.png,cat\nb.png,cat\n"))
    assert "class only" not in said(opened(folder, "path,label\na.png,cat\nb.png,dog\n"))


def test_a_file_that_is_listed_twice_is_counted(folder: Path) -> None:
    data = opened(folder, "path,label\na.png,cat\n./a.png,cat\nb.png,dog\n")
    assert rows(data) == [("a.png", "cat"), ("b.png", "dog")]
    assert "1 read once: a file that is listed again" in said(data)


def test_rows_of_delimiters_alone_are_blank(folder: Path) -> None:
    assert rows(opened(folder, "path,label,\na.png,cat,\n,,\nb.png,dog,\n,,\n")) == [("a.png", "cat"), ("b.png", "dog")]


def test_labels_that_list_other_classes_are_remarked_on(folder: Path) -> None:
    data = opened(folder, 'path,labels\na.png,cat\nb.png,"cat, dog"\nimages/c.png,"owl, barn"\n')
    assert "1 class name holds several labels; a model knows words only (cat, dog)" in said(data)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("0\t1.000000\ta.png\n1\t0.000000\tb.png\n", "1.000000"),  # MXNet: a number, the label, the path
        ("a.png,3,17\nb.png,4,18\n", "3"),
        ("TRAIN,a.png,cat\nTEST,b.png,dog\n", "cat"),
        ("7,cat,a.png\n8,dog,b.png\n", "cat"),
    ],
)
def test_the_command_for_a_list_without_header_names_the_label(folder: Path, text: str, label: str) -> None:
    remedy = refusal(folder, text).remedy
    data = open_dataset(shlex.split(remedy[remedy.index("abs datasets show") :])[3])
    assert rows(data)[0] == ("a.png", label)


def test_lines_of_json_are_no_table(folder: Path) -> None:
    remedy = refusal(folder, '{"path": "a.png", "label": "cat"}\n{"path": "b.png", "label": "dog"}\n').remedy
    data = open_dataset(shlex.split(remedy[remedy.index("abs datasets show") :])[3])
    assert rows(data) == [("a.png", "cat"), ("b.png", "dog")]


def test_one_cell_a_line_is_no_list(folder: Path) -> None:
    assert "must have a path and a label, got one cell" in refusal(folder, "a.png\nb.png\n").message


@pytest.mark.parametrize("start", ["/content/drive/MyDrive/", "/kaggle/input/set/", "C:\\Users\\me\\", "D:/data/"])
def test_paths_of_another_computer_are_answered_with_what_is_here(folder: Path, start: str) -> None:
    error = refusal(folder, f"path,label\n{start}images{start[-1]}c.png,cat\n")
    assert error.remedy.endswith("from the paths: 'images/c.png' is there")


def test_paths_of_another_computer_whose_images_are_not_here(folder: Path) -> None:
    assert "is there" not in refusal(folder, "path,label\n/content/images/none.png,cat\n").remedy
