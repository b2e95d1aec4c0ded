"""Label files: encodings, tables of other programs, and files that are something else."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abs_core.errors import LabelError
from abs_core.labels import LabelSet, read_labels

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12\n"


def read(folder: Path, name: str, content: str | bytes) -> LabelSet:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_labels(folder / name)


def pairs(labels: LabelSet) -> list[tuple[str, str]]:
    return [(label.id, label.name) for label in labels.classes]


def said(labels: LabelSet) -> list[str]:
    return [str(remark) for remark in labels.remarks]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
def test_encodings_that_leave_no_doubt_are_read(tmp_path: Path, encoding: str) -> None:
    labels = read(tmp_path, "a.txt", "cat\r\nred panda\r\n".encode(encoding))
    assert pairs(labels) == [("cat", "cat"), ("red_panda", "red panda")]
    assert bool(said(labels)) == (encoding != "utf-8-sig")


def test_an_encoding_that_can_only_be_guessed_is_refused_with_the_guess(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="line 2 is not valid UTF-8") as caught:
        read(tmp_path, "a.txt", b"cat\ncaf\xe9\n")
    assert "iconv -f CP1252" in caught.value.remedy
    assert "'café'" in caught.value.remedy
    with pytest.raises(LabelError, match="not valid UTF-16"):
        read(tmp_path, "a.txt", b"\xff\xfec\0\0\xd8x")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (POINTER.encode(), "is a Git LFS pointer"),
        (b"\n<!DOCTYPE html><html><body>cat", "is a web page"),
        (b"<?xml version='1.0'?><a/>", "is XML"),
        (gzip.compress(b"cat\n", mtime=0), "is a compressed file"),
        (b"PK\x03\x04rest", "is a zip archive or an office document"),
        (b"\x89PNG\r\n", "is no text"),
        (b"%PDF-1.7", "is no text"),
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.json", "a.yaml", "a"])
def test_what_is_no_label_file_is_called_what_it_is(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    with pytest.raises(LabelError, match=words) as caught:
        read(tmp_path, name, content)
    assert caught.value.remedy


TABLES: dict[str, tuple[str, list[tuple[str, str]], list[str]]] = {
    "capitals": ("Name,ID\ncat,1\n", [("1", "cat")], []),
    "a class column": ("class\ncat\n", [("cat", "cat")], ["1 read as the column of names (class)"]),
    "other columns": (
        "id,name,count\n1,cat,7\n",
        [("1", "cat")],
        ["1 not read: a column (count)"],
    ),
    "Excel's separator": ("sep=;\r\nname;id\r\ncat;1\r\n", [("1", "cat")], []),
    "bars": ("id|name\n1|cat\n", [("1", "cat")], []),
    "numbers under label": (
        "label,class\n0,cat\n1,dog\n",
        [("0", "cat"), ("1", "dog")],
        ["1 read as the column of names (class)"],
    ),
    "names under label": (
        "label,class\ncat,0\ndog,1\n",
        [("0", "cat"), ("1", "dog")],
        ["1 read as the column of names (label)"],
    ),
    "a list of images": (
        "filepath,label\na.png,cat\nb.png,cat\nc.png,dog\n",
        [("cat", "cat"), ("dog", "dog")],
        [
            "1 not read: a column (filepath)",
            "1 read as the column of names (label)",
            "1 read once: a row of a class that has several (cat)",
        ],
    ),
    "no header, one column": ("cat\ndog\n", [("cat", "cat"), ("dog", "dog")], ["1 read without a header (FILE)"]),
    "no header, ids": ("0,cat\n1,dog\n", [("0", "cat"), ("1", "dog")], ["1 read without a header (FILE)"]),
    "no header, Freebase ids": (
        "/m/011k07,Tortoise\n",
        [("/m/011k07", "Tortoise")],
        ["1 read without a header (FILE)"],
    ),
    "no header, ids behind": ("cat;n02121808\n", [("n02121808", "cat")], ["1 read without a header (FILE)"]),
}


@pytest.mark.parametrize("form", TABLES)
def test_tables_of_other_programs_are_read_and_it_is_said_how(tmp_path: Path, form: str) -> None:
    content, expected, remarks = TABLES[form]
    labels = read(tmp_path, "a.csv", content)
    assert pairs(labels) == expected
    assert said(labels) == [text.replace("FILE", str(tmp_path / "a.csv")) for text in remarks]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_table_under_another_ending_is_known_by_its_header(tmp_path: Path, encoding: str) -> None:
    labels = read(tmp_path, "a.txt", "ID\tName\r\n7\tcat\r\n8\tdog\r\n".encode(encoding))
    assert pairs(labels) == [("7", "cat"), ("8", "dog")]
    labels = read(tmp_path, "b.txt", "name\ncat\n")
    assert pairs(labels) == [("name", "name"), ("cat", "cat")]
    assert said(labels) == ["1 used as written: like the header of a table (name)"]


def test_many_equal_keys_are_found_in_time_that_grows_with_their_number(tmp_path: Path) -> None:
    keys = ",".join(f'"{number}": "x"' for number in (*range(100_000), 99_999))
    with pytest.raises(LabelError, match="the key '99999' appears twice"):
        read(tmp_path, "a.json", f"{{{keys}}}")


def test_json_under_another_ending_is_read(tmp_path: Path) -> None:
    labels = read(tmp_path, "a.txt", '["cat", "dog"]')
    assert pairs(labels) == [("cat", "cat"), ("dog", "dog")]
    assert said(labels) == ["1 read as a list or an object of JSON or Python (a.txt)"]
    content = "{0: 'tench',\n 1: \"colt's foot\"}"
    assert pairs(read(tmp_path, "c.txt", content)) == [("0", "tench"), ("1", "colt's foot")]
    assert pairs(read(tmp_path, "b.txt", "[cat\ndog\n")) == [("cat", "[cat"), ("dog", "dog")]


@pytest.mark.parametrize("name", ["a", "a.names", "a.labels", "a.classes", "a.lst", "a.TXT"])
def test_endings_of_other_tools_are_text(tmp_path: Path, name: str) -> None:
    assert pairs(read(tmp_path, name, "cat\ndog\n")) == [("cat", "cat"), ("dog", "dog")]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("- cat\n- no\n- 1.0\n", [("cat", "cat"), ("no", "no"), ("1_0", "1.0")]),
        ("names:\n  0: cat\n  1: dog\nnc: 2\n", [("0", "cat"), ("1", "dog")]),
        ("names: [cat, dog]\npath: ../x\n", [("cat", "cat"), ("dog", "dog")]),
        ("n02121808: cat\n", [("n02121808", "cat")]),
    ],
)
def test_yaml_lists_and_names_are_read_as_text(tmp_path: Path, content: str, expected: list[tuple[str, str]]) -> None:
    assert pairs(read(tmp_path, "a.yaml", content)) == expected


@pytest.mark.parametrize("content", ["a: &x [1]\nb: *x\n", "!!bool foo", "[" * 5000, "a: [", "\x00"])
def test_hostile_yaml_is_one_error(tmp_path: Path, content: str) -> None:
    with pytest.raises(LabelError) as caught:
        read(tmp_path, "a.yaml", content)
    assert "\n" not in str(caught.value)


@pytest.mark.fuzz
@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.json", "a.yaml"])
@given(data=st.one_of(st.binary(max_size=200), st.text(alphabet='a0,;"\n\t:[]{}- n', max_size=60).map(str.encode)))
def test_any_bytes_are_a_label_set_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: bytes
) -> None:
    try:
        labels = read(tmp_path_factory.getbasetemp(), name, data)
    except LabelError as error:
        refusal = error
    else:
        assert len(set(labels.ids)) == len(labels.classes) > 0
        return
    assert refusal.remedy
    assert "\n" not in str(refusal)


def test_what_is_no_regular_file_or_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(LabelError, match="is not a regular file"):
        read_labels(tmp_path / "pipe.txt")
    with (tmp_path / "large.txt").open("wb") as stream:
        stream.truncate(65 * 1024 * 1024)
    with pytest.raises(LabelError, match="may have up to 64 MB"):
        read_labels(tmp_path / "large.txt")
