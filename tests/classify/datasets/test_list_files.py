"""Lists as other tools write them."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from miniatures import write_image

from abs_classify.datasets import Dataset, open_dataset
from abs_core.errors import AbsError, DatasetError, UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png", "sub/c.png", "my cat.png"):
        write_image(tmp_path / name)
    return tmp_path


def opened(folder: Path, text: str | bytes, options: str = "", kind: str = "csv") -> Dataset:
    file = folder / f"list.{kind}"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return open_dataset(f"{kind}:{file}{options}")


def rows(data: Dataset) -> list[tuple[str, str]]:
    return [(sample.path.name, sample.label) for sample in data.samples]


def refusal(folder: Path, text: str | bytes, options: str = "", kind: str = "csv") -> DatasetError:
    with pytest.raises(DatasetError) as caught:
        opened(folder, text, options, kind)
    assert caught.value.remedy
    return caught.value


CATS = [("a.png", "cat"), ("b.png", "dog")]


@pytest.mark.parametrize(
    "text",
    [
        "path;label\na.png;cat\nb.png;dog\n",
        "label\tpath\ncat\ta.png\ndog\tb.png\n",
        "path|label\na.png|cat\nb.png|dog\n",
        "sep=;\r\npath;label\r\na.png;cat\r\nb.png;dog\r\n",
        "\n\npath, label\na.png, cat\nb.png, dog\n",
        'path, label\n"a.png", "cat"\n"b.png", "dog"\n',
        "Path,LABEL\na.png,cat\nb.png,dog\n",
        "path,label\n a.png ,cat\nb.png\t,dog\n",
        "path,label\r\n.\\a.png,cat\r\n.\\sub\\..\\b.png,dog\r\n",
    ],
)
def test_usual_delimiters_spaces_and_case_make_no_difference(folder: Path, text: str) -> None:
    data = opened(folder, text)
    assert rows(data) == CATS
    assert [remark.count for remark in data.remarks if "backslashes" not in remark.kind] == []


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("file_name,class\na.png,cat\nb.png,dog\n", "file_name, class"),
        (",Image Path,Category,width\n0,a.png,cat,4\n1,b.png,dog,4\n", "Image Path, Category"),
        ("id,breed\na,cat\nb,dog\n", "id, breed"),
        ("image_id,dx\na,cat\nb,dog\n", "image_id, dx"),
        ("name,label\na.png,cat\nb.png,dog\n", "name"),
    ],
)
def test_columns_with_the_names_of_other_tools_are_found_and_named(folder: Path, text: str, columns: str) -> None:
    data = opened(folder, text)
    assert rows(data) == CATS
    examples = [name for remark in data.remarks if "by its name" in remark.kind for name in remark.examples]
    assert ", ".join(examples) == columns
    assert any("extension" in remark.kind for remark in data.remarks) == ("a.png" not in text)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("Datei,Art\na.png,cat\nb.png,dog\n", "?path=Datei&label=Art"),
        ("file,image,label,class\nx,a.png,cat,1\ny,b.png,dog,2\n", "?path=image"),
        ("a.png, 0, cat\nb.png, 0, dog\n", "?header=none&path=1&label=3"),
        ("cat,a.png\ndog,b.png\n", "?header=none&path=2&label=1"),
        ("a.png#cat\nb.png#dog\n", "?header=none&delimiter=#"),
        ("path label\na.png cat\nb.png dog\n", "?delimiter=space"),
    ],
)
def test_columns_header_and_delimiter_can_be_given(folder: Path, text: str, options: str) -> None:
    data = opened(folder, text, options)
    assert rows(data) == CATS
    assert data.remarks == ()
    assert data.name.endswith(options)


@pytest.mark.parametrize("text", ["a.png,cat\nb.png,dog\n", "cat,a.png\ndog,b.png\n", "a.png cat\nb.png   dog\n"])
def test_two_columns_without_a_header_are_clear(folder: Path, text: str) -> None:
    data = opened(folder, text)
    assert rows(data) == CATS
    assert "read as a row" in str(data.remarks[0])


def test_a_list_that_may_be_cut_off_is_remarked_on(folder: Path) -> None:
    whole = "path,label\na.png,cat\nmy cat.png,dog\nb.png,dog\nsub/c.png,cat\n"
    assert opened(folder, whole).remarks == opened(folder, whole[:-1]).remarks == ()
    (remark,) = opened(folder, whole[:-2]).remarks
    assert "the list may be cut off (sub/c.png: ca)" in str(remark)


def test_columns_of_zeros_and_ones_are_classes(folder: Path) -> None:
    data = opened(folder, "filename, cat, dog\na.png, 1, 0\nb.png, 0, 1\nsub/c.png, 1, 1\nmy cat.png, 0, 0\n")
    assert rows(data) == CATS
    assert [str(remark) for remark in data.remarks[1:]] == [
        "1 skipped: a row with several classes (sub/c.png)",
        "1 skipped: a row with no class (my cat.png)",
    ]
    assert rows(opened(folder, "image,MEL,NV\na,1.0,0.0\nb,0.0,1.0\n")) == [("a.png", "MEL"), ("b.png", "NV")]


def test_rows_of_one_split_can_be_taken_and_mixed_ones_are_remarked_on(folder: Path) -> None:
    text = "path,label,split\na.png,cat,train\nb.png,dog,test\nsub/c.png,cat,valid\n"
    mixed = opened(folder, text)
    assert len(mixed.samples) == 3
    assert str(mixed.remarks[0]) == (
        f"3 splits are mixed; abs datasets show '{mixed.name}?split=test' takes one "
        "(train: 1 images, test: 1 images, valid: 1 images)"
    )
    assert rows(opened(folder, text, "?split=test")) == [("b.png", "dog")]
    assert rows(opened(folder, text, "?split=validation")) == [("c.png", "cat")]
    assert "no row of the split 'dev2x'; its splits" in refusal(folder, text, "?split=dev2x").message
    assert "has no column 'split'" in refusal(folder, "path,label\na.png,cat\n", "?split=test").message
    lines = '{"path": "a.png", "label": "cat", "split": "train"}\n{"path": "b.png", "label": "dog", "split": "test"}\n'
    assert rows(opened(folder, lines, "?split=test", "jsonl")) == [("b.png", "dog")]


def test_what_is_not_clear_is_refused_with_a_command_that_works(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from abs_cli.main import main

    for text in (
        "a.png, 0, 0\nb.png, 0, 1\n",
        "file,image,label\na.png,b.png,cat\n",
        "path,kind,sort\na.png,cat,x\n",
        "Bild,label\na.png,cat\n",
        "path,class,category\na.png,cat,x\n",
        "path,label\nc.png,cat\n",
    ):
        remedy = refusal(folder, text).remedy
        command = shlex.split(remedy[remedy.index("abs datasets show") :])
        with pytest.raises(SystemExit) as ended:
            main(command[1:])
        assert ended.value.code == 0, remedy
    assert "1 image" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\nhttps://example.org/a.png,cat\n", "line 2 of .* has the address 'https://example.org/a.png'"),
        ("path,label\ns3://bucket/a.png,cat\n", "has the address"),
        ("path,label\nfile:///data/a.png,cat\n", "has the address"),
        ("path,label\nsub,cat\n", "the file 'sub' on line 2 of .* is not a regular file"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"),
        ("path,label\n".encode("utf-16"), "not valid UTF-8 but UTF-16"),
        (b"PK\3\4\xff", "zip file or workbook"),
        (b"\x1f\x8b\x08\xff", "gzip file"),
        ("path,label\na.png,cat,\nb.png,hot dog, spicy\n", "line 3 of .* has 3 cells, but 2 columns have names"),
        ("x" * (1 << 20), "line 1 of .* is longer than 1 MB"),
        ("path,label\n" + "," * (1 << 20), "line 2 of .* is longer than 1 MB"),
    ],
)
def test_the_fault_is_named(folder: Path, text: str | bytes, message: str) -> None:
    assert __import__("re").search(message, refusal(folder, text).message)


def test_the_home_folder_is_found_in_paths_and_in_the_spec(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder / "sub"))
    data = opened(folder, "path,label\n~/c.png,cat\n")
    assert [sample.path for sample in data.samples] == [folder / "sub" / "c.png"]
    (folder / "sub" / "list.csv").write_text("path,label\nc.png,cat\n")
    assert len(open_dataset("csv:~/list.csv").samples) == 1
    assert len(opened(folder, "path,label\nc.png,cat\n", "?folder=~").samples) == 1


def test_labels_count_in_a_label_set_that_is_named(folder: Path) -> None:
    text = "path,label\na.png,3\nb.png,airplane\nsub/c.png,9.0\n"
    data = opened(folder, text, "?classes=cifar10")
    assert rows(data) == [("a.png", "cat"), ("b.png", "airplane"), ("c.png", "truck")]
    assert len(data.classes) == 10
    (folder / "names.txt").write_text("dog\ncat\n")
    assert rows(opened(folder, "path,label\na.png,1\n", f"?classes={folder / 'names.txt'}")) == [("a.png", "cat")]
    assert "line 2 of" in refusal(folder, "path,label\na.png,10\n", "?classes=cifar10").message
    assert "not in the label set 'cifar10'" in refusal(folder, "path,label\na.png,catt\n", "?classes=cifar10").message
    lines = '{"path": "a.png", "label": 3}\n'
    assert rows(opened(folder, lines, "?classes=cifar10", "jsonl")) == [("a.png", "cat")]
    numbers = opened(folder, lines, "", "jsonl")
    assert rows(numbers) == [("a.png", "3")]
    assert "class name is a number" in str(numbers.remarks[-1])


def test_lines_of_json_with_the_keys_of_other_tools(folder: Path) -> None:
    data = opened(
        folder, '{"file_name": "a.png", "category": "cat"}\n{"file_name": "b.png", "category": "dog"}', "", "jsonl"
    )
    assert rows(data) == CATS
    data = opened(folder, '{"f": "a.png", "c": "cat", "label": 1, "path": "x"}', "?path=f&label=c", "jsonl")
    assert rows(data) == CATS[:1]
    array = refusal(folder, '[{"path": "a.png", "label": "cat"}]', "", "jsonl")
    assert "jq -c '.[]'" in array.remedy
    assert "jq -c '.[]'" in refusal(folder, '[\n  {"path": "a.png"}\n]', "", "jsonl").remedy
    assert "its keys: 'path', 'sort'" in refusal(folder, '{"path": "a.png", "sort": "cat"}', "", "jsonl").message
    for label in ("null", "NaN", '["cat"]', "{}", "false"):
        assert "got" in refusal(folder, f'{{"path": "a.png", "label": {label}}}', "", "jsonl").message


@pytest.mark.parametrize("options", ["?delimiter=ab", "?delimiter=", "?header=yes", "?columns=2", "?path=a&path=b"])
def test_an_option_without_a_valid_value_is_refused(folder: Path, options: str) -> None:
    with pytest.raises(UsageError):
        opened(folder, "path,label\na.png,cat\n", options)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_list_that_is_no_file_is_refused_at_once(folder: Path) -> None:
    os.mkfifo(folder / "pipe.csv")
    (folder / "loop.csv").symlink_to(folder / "loop.csv")
    for name in ("pipe.csv", "loop.csv"):
        for kind in ("csv", "jsonl"):
            with pytest.raises(DatasetError, match=r"not a regular file|too many levels"):
                open_dataset(f"{kind}:{folder / name}")


def check_outcome(folder: Path, content: bytes, options: str, kind: str) -> None:
    """Whether a list is read with files and classes that are there, or refused on one line."""
    message = ""
    try:
        data = opened(folder, content, options, kind)
    except AbsError as error:
        message = str(error)
    else:
        assert all(sample.path.is_file() for sample in data.samples)
        assert set(data.labels) <= set(data.names)
    assert "\n" not in message
    message.encode("utf-8", "surrogateescape")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "imagefolder"])
@pytest.mark.parametrize(
    "place", ["https://example.org/list", "s3://bucket/x", "a" * 300, "b/" * 3000, "a\0b", "~nobody-here/x"]
)
def test_a_place_that_is_no_path_is_refused(kind: str, place: str) -> None:
    with pytest.raises(
        (UsageError, DatasetError),
        match=r"is an address|is not a valid path|is too long for a path|no such file|does not exist",
    ):
        open_dataset(f"{kind}:{place}")


CELLS = st.sampled_from(
    [
        "x" * 300,
        "y/" * 3000,
        "..",
        "\\",
        "path",
        "label",
        "a.png",
        "b.png",
        "cat",
        "0",
        "1",
        "",
        '"',
        "~",
        "~nobody/x",
        "file_name",
        "train",
        "split",
    ]
)
LINES = st.lists(st.lists(CELLS | st.text(max_size=8), max_size=5).map(",".join) | st.text(max_size=30), max_size=6)
OPTIONS = st.sampled_from(
    ["", "?header=none", "?header=none&path=2&label=1", "?path=x", "?delimiter=;", "?split=train", "?classes=cifar10"]
)


@pytest.mark.fuzz
@given(LINES.map("\n".join).map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=60), OPTIONS)
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_table_is_read_or_refused_on_one_line(folder: Path, content: bytes, options: str) -> None:
    check_outcome(folder, content, options, "csv")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("a.png"),
    st.lists,
    max_leaves=3,
)
OBJECTS = st.dictionaries(
    st.sampled_from(["path", "label", "file_name", "id", "split", "image"]) | st.text(max_size=4), VALUES, max_size=4
)


@pytest.mark.fuzz
@given(st.lists(OBJECTS.map(json.dumps) | st.text(max_size=20) | VALUES.map(json.dumps), max_size=4), st.booleans())
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_lines_of_json_are_read_or_refused_on_one_line(folder: Path, lines: list[str], split: bool) -> None:
    text = "\n".join(lines).encode("utf-8", "surrogatepass")
    check_outcome(folder, text, "?split=train" if split else "", "jsonl")
