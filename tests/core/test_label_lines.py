"""Lists of class names as other tools write them: what is read, what is left as it is written, what is refused."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abs_core.errors import LabelError
from abs_core.label_lines import Reading, entries_of_lines
from abs_core.labels import read_labels
from abs_core.remarks import RemarkCounter

CAT_DOG = [("cat", "cat"), ("dog", "dog")]

READ: dict[str, tuple[str, list[tuple[str, str]], str]] = {
    "name, tab, number": ("cat\t0\ndog\t1\n", [("0", "cat"), ("1", "dog")], "2 read as a name, a tab and an id"),
    "name, tab, WordNet id": ("dog\tn02084071\n", [("n02084071", "dog")], "1 read as a name, a tab and an id"),
    "number, tab, name": ("0\tcat\n1\tdog\n", [("0", "cat"), ("1", "dog")], ""),
    "tabs at the ends": ("cat\t\n\tdog\n", CAT_DOG, ""),
    "numbered from 1": ("1. cat\n2. dog\n", CAT_DOG, "2 read without the number before it (1. cat, 2. dog)"),
    "numbered from 0": ("0 cat\n1 dog\n", CAT_DOG, "2 read without the number before it"),
    "numbered with colons": ("0: cat\n1: dog\n", CAT_DOG, "2 read without the number before it"),
    "numbered in brackets": ("(1) cat\n(2) dog\n", CAT_DOG, "2 read without the number before it"),
    "numbered with commas": ("0,cat\n1,dog\n", CAT_DOG, "2 read without the number before it"),
    "padded numbers": ("001.Cat\n002.Dog\n", [("cat", "Cat"), ("dog", "Dog")], "2 read without the number before it"),
    "numbers behind": ("cat 0\ndog 1\n", CAT_DOG, "2 read without the number after it"),
    "commas and numbers behind": ("cat,0\ndog,1\n", CAT_DOG, "2 read without the number after it"),
    "bullets": ("- cat\n- dog\n", CAT_DOG, "2 read without the bullet before it"),
    "other bullets": ("• cat\n• dog\n", CAT_DOG, "2 read without the bullet before it"),
    "quotes": ('"cat"\n"dog"\n', CAT_DOG, "2 read without the quotes around it"),
    "quotes and commas": ('"cat",\n"dog"\n', CAT_DOG, "2 read without the comma after it"),
    "bullets and quotes": ("- 'cat'\n- 'dog'\n", CAT_DOG, "2 read without the bullet before it"),
    "one line": ("cat, dog\n", CAT_DOG, "2 read from one line with ',' between the names"),
    "one line with semicolons": ("cat;dog;\n", CAT_DOG, "2 read from one line with ';' between the names"),
    "WordNet id, space, name": (
        "n02084071 dog\nn02121808 cat\n",
        [("n02084071", "dog"), ("n02121808", "cat")],
        "2 read as a WordNet id and a name",
    ),
    "synsets": ("n01440764 tench, Tinca tinca\n", [("n01440764", "tench")], "1 read as a synset"),
    "WordNet ids alone": (
        "n02123045\nn02012849\n",
        [("n02123045", "tabby cat"), ("n02012849", "crane bird")],
        "2 read as the name that ImageNet has for the WordNet id (n02123045: tabby cat",
    ),
    "numbers twice": (
        "1 001.Laysan_Albatross\n2 002.Crow\n",
        [("laysan_albatross", "Laysan_Albatross"), ("crow", "Crow")],
        "4 read without the number before it",
    ),
    "categories below letters": (
        "/a/airfield 0\n/b/balcony/exterior 1\n",
        [("airfield", "airfield"), ("balcony/exterior", "balcony exterior")],
        "2 read without the number after it",
    ),
    "invisible ends": ("\u200bcat\ufeff\ndog\n", CAT_DOG, "1 read without the invisible characters around it"),
    "old Mac line ends": ("cat\rdog\r", CAT_DOG, ""),
}


@pytest.mark.parametrize("form", READ)
def test_a_form_that_all_lines_have_is_read_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, form: str
) -> None:
    content, expected, words = READ[form]
    (tmp_path / "a.txt").write_bytes(content.encode())
    with caplog.at_level(logging.INFO, "abs_core"):
        labels = read_labels(tmp_path / "a.txt")
    assert [(label.id, label.name) for label in labels.classes] == expected
    assert any(str(remark).startswith(words) for remark in labels.remarks) if words else not labels.remarks
    assert caplog.messages == [f"{tmp_path / 'a.txt'}: {remark}" for remark in labels.remarks]


KEPT: dict[str, tuple[list[str], str]] = {
    "amounts that count up": (["1 euro", "2 euro"], ""),
    "numbers that do not count up": (["Type 707", "Type 727"], ""),
    "years": (["Audi S4 Sedan 2007", "Audi S4 Sedan 2012"], ""),
    "one name that begins with a number": (["1. FC Köln", "Borussia"], "used as written: begins with a number"),
    "one bullet": (["- cat", "dog"], "used as written: begins with a bullet"),
    "one quoted name": (['"cat"', "dog"], "used as written: in quotes"),
    "a comma in a name": (["tench, Tinca tinca", "goldfish"], "used as written: with a comma"),
    "names of numbers": (["zero", "1"], "1 class name is a number"),
    "no value": (["None", "cat"], "1 class name is a missing value"),
    "markup": (["<b>cat</b>", "dog"], "used as written: markup"),
    "a file name": (["cat.jpg", "dog"], "1 class name is the name of a file"),
    "a selector": (["cat\ufe01", "dog"], "1 used as written: with invisible characters (cat\\ufe01)"),
    "a path": (["../../etc", "dog"], "used as written: markup, a placeholder or an address"),
}


@pytest.mark.parametrize("kind", KEPT)
def test_what_only_some_lines_have_stays_and_is_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    names, words = KEPT[kind]
    (tmp_path / "a.txt").write_text("\n".join(names), encoding="utf-8")
    labels = read_labels(tmp_path / "a.txt")
    assert [label.name for label in labels.classes] == names
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any(words in line for line in warnings) if words else "used as written" not in "".join(warnings)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a\tb\tc\n", "line 1 must be a name, or an id, a tab and a name, got 3 columns"),
        ("0\t1\n1\t2\n", "two columns of numbers"),
        ("cat\n7\t\n", "line 2 has an id and no label"),
        ("n00000001\n", "'n00000001' is a WordNet id that is not one of ImageNet's"),
    ],
)
def test_what_has_no_clear_name_is_refused(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "a.txt").write_text(content)
    with pytest.raises(LabelError, match=words) as caught:
        read_labels(tmp_path / "a.txt")
    assert caught.value.remedy


def test_folders_of_other_tools_give_names(tmp_path: Path) -> None:
    for name in ("n02123045", "n02085620-Chihuahua", "n00000001"):
        (tmp_path / "a" / name).mkdir(parents=True)
    labels = read_labels(tmp_path / "a")
    assert labels.names == {
        "n00000001": "n00000001",
        "n02085620_chihuahua": "Chihuahua",
        "n02123045": "tabby cat",
    }
    assert [remark.count for remark in labels.remarks] == [2, 1]
    for name in ("001.Black_footed_Albatross", "002.Laysan_Albatross"):
        (tmp_path / "b" / name).mkdir(parents=True)
    assert read_labels(tmp_path / "b").names == {
        "001_black_footed_albatross": "Black footed Albatross",
        "002_laysan_albatross": "Laysan Albatross",
    }


def test_names_with_commas_between_are_a_label_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [label.name for label in read_labels("cat, dog").classes] == ["cat", "dog"]
    with pytest.raises(LabelError, match=r"'cat,dog\.txt' does not exist|cat,dog.txt does not exist"):
        read_labels("cat,dog.txt")


def test_an_id_that_is_the_name_of_another_class_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,name\ndog,cat\n7,dog\n")
    remarks = read_labels(tmp_path / "a.csv").remarks
    assert [str(remark) for remark in remarks] == ["1 hidden by an id: the name of another class (dog)"]


_LINE = st.text(alphabet="ab01.,;:-*\t\"'n23 \u200b#[]()", max_size=14)


@pytest.mark.fuzz
@given(st.lists(_LINE, min_size=1, max_size=5))
def test_any_lines_are_one_class_each_or_an_error(lines: list[str]) -> None:
    reading = Reading(RemarkCounter(), RemarkCounter())
    try:
        entries = entries_of_lines("a.txt", enumerate(lines, 1), reading)
    except LabelError as error:
        refusal = error
    else:
        assert len(entries) == len(lines) or len(lines) == 1
        assert all(set(entry.name) <= set("".join(lines)) or reading.how.counts for entry in entries)
        return
    assert refusal.remedy
