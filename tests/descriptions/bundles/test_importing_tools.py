"""Files of descriptions as spreadsheets and scripts write them, and files that are no descriptions."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from abs_core.errors import BundleError
from abs_descriptions import Repository
from abs_descriptions.bundles.importing import import_descriptions
from abs_descriptions.bundles.matching import read_mapping
from abs_descriptions.bundles.review_file import parse_review_file, serialize_review_file
from abs_descriptions.bundles.versions import find_bundle

TEXTS = [("cat", "A cat is small."), ("dog", "A dog is big.")]


def imported(folder: Path, name: str, content: str) -> list[tuple[str, str]]:
    (folder / name).write_text(content)
    store = Repository.local(folder / "home")
    import_descriptions(store, folder / name, name="t")
    return [(record.class_id, record.text) for record in find_bundle(store, "t").records()]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "sep=;\r\nclass;text\r\ncat;A cat is small.\r\ndog;A dog is big.\r\n"),
        ("a.csv", "class,text,,\r\ncat,A cat is small.,,\r\n,,,\r\ndog,A dog is big.,,\r\n,,,\r\n"),
        ("a.csv", "label,description\ncat,A cat is small.\ndog,A dog is big.\n"),
        ("a.csv", "id,class_name,prompt\n0,cat,A cat is small.\n1,dog,A dog is big.\n"),
        ("a.tsv", "class\ttext\ncat\tA cat is small.\ndog\tA dog is big.\n"),
        ("a.txt", "Label\tDescription\tid\r\ncat\tA cat is small.\t0\r\ndog\tA dog is big.\t1\r\n"),
        ("a.csv", "class,text\ncat,A cat is small.\ncat,#NAME?\ndog,A dog is big.\ndog,#REF!\n"),
    ],
)
def test_the_texts_of_usual_files(tmp_path: Path, name: str, content: str) -> None:
    assert imported(tmp_path, name, content) == TEXTS


def test_the_words_of_a_header_stay_classes_without_a_header(tmp_path: Path) -> None:
    assert imported(tmp_path, "a.txt", "label\tA label is a piece of paper.\ntext\tA text is black on white.\n") == [
        ("label", "A label is a piece of paper."),
        ("text", "A text is black on white."),
    ]


def test_what_a_spreadsheet_could_not_compute_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    imported(tmp_path, "a.csv", "class,text\ncat,A cat is small.\ndog,#NAME?\n")
    assert "left out as the text is an error of a spreadsheet" in caplog.text


@pytest.mark.parametrize("line", ["first;second\r\ncat;x\r\n", "class;text\r\ncat;x;y\r\n"])
def test_lines_are_counted_behind_the_delimiter_of_excel(tmp_path: Path, line: str) -> None:
    with pytest.raises(BundleError, match=r"a\.csv, line [13]"):
        imported(tmp_path, "a.csv", f"sep=;\r\n{line}")


@pytest.mark.parametrize(
    "value",
    [
        {"imagenet1k": ["a photo of {c}", "a bad photo of {c}"], "cifar10": ["a photo of {c}"]},
        {"cat": ["a photo of a {}."], "dog": ["a photo of a {}."]},
    ],
)
def test_templates_are_no_descriptions(tmp_path: Path, value: dict[str, list[str]]) -> None:
    with pytest.raises(BundleError, match="holds templates") as caught:
        imported(tmp_path, "a.json", json.dumps(value))
    assert "abs eval --templates" in caught.value.remedy


def test_labels_that_are_no_words_are_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    imported(tmp_path, "a.json", json.dumps({"0": ["It is small."], "1": ["It is big."]}))
    assert "2 class names are numbers" in caplog.text
    caplog.clear()
    imported(tmp_path, "b.json", json.dumps({"cat": ["It is small."], "dog": ["It is big."]}))
    assert not caplog.text


def test_the_line_of_excel_is_read_in_reviews_and_mappings(tmp_path: Path) -> None:
    imported(tmp_path, "a.csv", "class,text\ncat,A cat is small.\ndog,A dog is big.\n")
    bundle = find_bundle(Repository.local(tmp_path / "home"), "t")
    names = bundle.header.label_set.names
    written = b"".join(serialize_review_file(bundle.reference, names, bundle.records())).decode("utf-8-sig")
    rows = list(parse_review_file(f"sep=,\r\n{written}"))
    assert [(row.line, row.text) for row in rows] == [(3, "A cat is small."), (4, "A dog is big.")]
    (tmp_path / "map.csv").write_text("sep=;\nlabel;class\nKatze;cat\n;\n")
    assert read_mapping(tmp_path / "map.csv", bundle.header.label_set) == {"Katze": ("cat",)}
