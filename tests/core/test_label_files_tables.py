"""Tables as spreadsheets, databases and other tools write them, and the marks around names in lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from abs_core.errors import LabelError
from abs_core.labels import read_labels

CAT_DOG = [("0", "cat"), ("1", "dog")]


@pytest.mark.parametrize(
    "content",
    [
        "id,name,,\r\n0,cat,,\r\n1,dog,,\r\n,,,\r\n",  # Excel, with cells that were used once
        "id;name;\r\n0;cat;\r\n;;\r\n1;dog;\r\n",
        "Class ID,Class Name\n0,cat\n1,dog\n",
        "ClassId,ClassName\n0,cat\n1,dog\n",
        "Klasse;Nummer\ncat;0\ndog;1\n",  # headers in any language: above a column of ids stands no id
        ",0\n0,cat\n1,dog\n",  # pandas: a series with its index
        "id,breed\n0,cat\n1,dog\n",
        "| id | name |\n|----|:----|\n| 0 | cat |\n| 1 | dog |\n",
        "+----+------+\n| id | name |\n+----+------+\n|  0 | cat  |\n|  1 | dog  |\n+----+------+\n",
    ],
)
def test_tables_of_programs(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    assert [(label.id, label.name) for label in read_labels(tmp_path / "a.csv").classes] == CAT_DOG


def test_a_column_of_ids_is_never_the_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("LabelName,DisplayName\n/m/0100nhbf,Sprenger's tulip\n/m/0104x9kv,Vinegret\n")
    assert [(label.id, label.name) for label in read_labels(tmp_path / "a.csv").classes] == [
        ("/m/0100nhbf", "Sprenger's tulip"),
        ("/m/0104x9kv", "Vinegret"),
    ]


@pytest.mark.parametrize("content", ["id,genus,epithet\n0,Felis,catus\n1,Canis,lupus\n", "a,b\ncat,dog\nowl,newt\n"])
def test_two_columns_of_words_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(LabelError, match="the columns must be name"):
        read_labels(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("**cat**\n**red panda**\n", ["cat", "red panda"]),
        ("1. **cat**\n2. **dog**\n", ["cat", "dog"]),
        ("- *cat*\n- *dog*\n", ["cat", "dog"]),
        ("# label:color_rgb:parts:actions\ncat:102,255,102::\ndog:51,221,255::\n", ["cat", "dog"]),
        ("n02119789 1 kit_fox\nn02100735 2 English_setter\n", ["kit fox", "English setter"]),
        ('{"id": 0, "name": "cat"}\n{"id": 1, "name": "dog"}\n', ["cat", "dog"]),
        ("classes = ['cat', 'dog']\n", ["cat", "dog"]),
        ("['cat' 'dog']", ["cat", "dog"]),
        ("[cat, red panda]\n", ["cat", "red panda"]),
        ("{cat; dog}", ["cat", "dog"]),
    ],
)
def test_marks_around_names_are_left_out_and_that_is_said(tmp_path: Path, content: str, names: list[str]) -> None:
    (tmp_path / "a.txt").write_text(content)
    labels = read_labels(tmp_path / "a.txt")
    assert [label.name for label in labels.classes] == names
    assert labels.remarks


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("cat: a small feline\ndog: a canine\n", "with a colon in it"),
        ("Here are the classes:\ncat\n", "with a colon in it"),
        ("[classes]\n0=cat\n1=dog\n", "in brackets"),
        ("[classes]\n0=cat\n1=dog\n", "begins with a number"),
        ("**cat**\ndog\n", "marks of emphasis"),
        ("aeroplane -1\nbicycle 1\n", "ends with a number as all do"),
    ],
)
def test_what_looks_like_more_than_a_name_is_warned_about(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "a.txt").write_text(content)
    assert any(words in str(remark) for remark in read_labels(tmp_path / "a.txt").remarks)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"owl\n<<<<<<< HEAD\ncat\n=======\ndog\n>>>>>>> main\n", "unresolved conflicts of Git"),
        (b"404: Not Found", "the answer of a web server"),
        (rb"{\rtf1\ansi cat\par}", "a document of a word processor"),
        (b"item {\n  id: 1\n  name: 'cat'\n}\n", "a label map of TensorFlow"),
        (b'<View>\n  <Image name="a"/>\n</View>', "XML"),
        (b"\x93NUMPY\x01\0v\0{'descr': '<U5'}", "no text"),
    ],
)
def test_files_of_another_kind_are_named(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(LabelError, match=words):
        read_labels(tmp_path / "a.txt")
