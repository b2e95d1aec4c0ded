"""Label sets: the four sources, the ids, and every kind of bad input."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abs_core.errors import LabelError, UnknownNameError, UsageError
from abs_core.files import data_folder
from abs_core.labels import (
    ClassLabel,
    LabelSet,
    compact,
    fold,
    from_folder,
    from_names,
    read_labels,
    shipped_label_set,
    shipped_label_sets,
    slug,
    wordnet_class,
)

# as released: they stand in the headers of bundles and in result files
IMAGENET = "sha256:465d255ab9983fb1bbfcdb754a646668c9f2741fa229c6717f81507ef2973577"
PETS = "sha256:381a8346be91274f7df01cc6fae4118a18c3111c9a349fc0aafd5c54484cc9ac"
LISTED = "sha256:eb2a733c0b87330363812b41491067fe7fdaa4fc1cbde39580c62df18e0ba556"


def write(folder: Path, content: str | bytes, name: str = "labels.txt") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def names_of(labels: LabelSet) -> list[str]:
    return [label.name for label in labels.classes]


def test_a_text_file_has_one_name_a_line_comments_and_ids(tmp_path: Path) -> None:
    path = write(tmp_path, "\ufeff# pets\ncat\r\n\n  Brick_Wall \nn01\tgreat white  shark\n東京タワー\nقطة\n")
    labels = read_labels(path)
    assert labels.classes == (
        ClassLabel("cat", "cat"),
        ClassLabel("brick_wall", "Brick_Wall"),
        ClassLabel("n01", "great white shark"),
        ClassLabel("東京タワー", "東京タワー"),
        ClassLabel("قطة", "قطة"),
    )
    assert labels.name == "labels"
    assert read_labels(str(path), "pets").name == "pets"


def test_a_file_without_a_last_line_end_loses_nothing(tmp_path: Path) -> None:
    assert names_of(read_labels(write(tmp_path, "cat\ndog"))) == ["cat", "dog"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_csv_file_has_named_columns_in_any_order(tmp_path: Path, delimiter: str) -> None:
    rows = [["Name", "id", "note", "group"], ['"crane, common"', "", "a bird", "birds"], ["dog", "7", "", ""]]
    labels = read_labels(write(tmp_path, "\n".join(delimiter.join(row) for row in rows), "a.csv"))
    assert labels.classes == (
        ClassLabel("crane_common", "crane, common", "birds", "a bird"),
        ClassLabel("7", "dog"),
    )


def test_a_json_file_states_name_version_and_source(tmp_path: Path) -> None:
    value = {"name": "zoo", "version": "2", "source": "us", "classes": [{"id": "x", "name": "ape"}, {"name": "Asp"}]}
    labels = read_labels(write(tmp_path, json.dumps(value), "a.json"))
    assert (labels.name, labels.version, labels.source) == ("zoo", "2", "us")
    assert labels.classes == (ClassLabel("x", "ape"), ClassLabel("asp", "Asp"))


def test_a_folder_gives_its_sub_folders(tmp_path: Path) -> None:
    for name in ("brick_wall", "cat", ".hidden"):
        (tmp_path / name).mkdir()
    write(tmp_path, "no class", "readme.txt")
    assert from_folder(tmp_path) == read_labels(tmp_path)
    assert from_folder(tmp_path).classes == (ClassLabel("brick_wall", "brick wall"), ClassLabel("cat", "cat"))


def test_every_shipped_set_can_be_read() -> None:
    names = shipped_label_sets()
    assert {"imagenet", "dtd", "pets", "demo"} <= set(names)
    for name in names:
        checked = read_labels(data_folder() / "labels" / f"{name}.json")
        assert shipped_label_set(name) == read_labels(name) == checked
        assert checked.name == name
        assert len({compact(identifier) for identifier in checked.ids}) == len(checked.classes)
    assert len(read_labels("imagenet").classes) == 1000
    with pytest.raises(UnknownNameError, match="imagenet"):
        shipped_label_set("imagenet-22k")


def test_a_shipped_set_comes_before_a_folder_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "demo" / "lamp").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert len(read_labels("demo").classes) == 17
    assert [label.name for label in read_labels("./demo").classes] == ["lamp"]
    assert [label.name for label in read_labels(Path("demo")).classes] == ["lamp"]


BAD: dict[str, tuple[str, str | bytes, str]] = {
    "empty": ("a.txt", "", "empty"),
    "only line ends": ("a.txt", "\n\r\n\n", "empty"),
    "only comments": ("a.txt", "# nothing\n", "no labels"),
    "only spaces": ("a.txt", "cat\n   \ndog\n", "line 2: the label is blank"),
    "only a tab": ("a.txt", "cat\n\t\n", "line 2: the label is blank"),
    "no-break spaces": ("a.txt", "cat\n\u00a0\u3000\n", "line 2: the label is blank"),
    "twice": ("a.txt", "cat\ndog\ncat\n", "line 3: the label 'cat' appears twice, first in .*line 1"),
    "twice but for case": ("a.txt", "Brick Wall\nbrick_wall\n", "line 2: the label 'brick_wall' appears twice"),
    "twice but for form": ("a.txt", "caf\u00e9\ncafe\u0301\n", "line 2: .* appears twice"),
    "twice in two widths": ("a.txt", "cat\nｃａｔ\n", "line 2: .* appears twice"),
    "equal ids": ("a.txt", "1\tcat\n1\tdog\n", "line 2: the id '1' of 'dog' appears twice, first in .*line 1"),
    "equal slugs": ("a.txt", "t-shirt\nt.shirt\n", "line 2: the id 't_shirt'"),
    "no UTF-8": ("a.txt", b"cat\nz\xfcrich\n", "line 2 is not valid UTF-8"),
    "control character": ("a.txt", "cat\nd\x1b[31mog\n", r"line 2: the label 'd\\x1b\[31mog' contains .* U\+001B"),
    "NUL": ("a.txt", "c\0at\n", "line 1: .* U\\+0000"),
    "hidden character": ("a.txt", "cat\nc\u200bat\n", "line 2: .* U\\+200B"),
    "reordering": ("a.txt", "\u202etac\n", "line 1: .* U\\+202E"),
    "line separator": ("a.txt", "cat\u2028dog\n", "line 1: .* U\\+2028"),
    "too long": ("a.txt", "cat\n" + "x" * 501 + "\n", "line 2: the label may have up to 500 characters, got 501"),
    "long id": ("a.txt", "x" * 201 + "\tcat\n", "line 1: the id of 'cat' must have 1 to 200 characters, got 201"),
    "long note": (
        "a.csv",
        "name,note\ncrane," + "x" * 501 + "\n",
        "line 2: the note may have up to 500 characters, got 501",
    ),
    "long group": (
        "a.csv",
        "name,group\ncrane," + "x" * 201 + "\n",
        "line 2: the group may have up to 200 characters, got 201",
    ),
    "id without a name": ("a.txt", "7\t \n", "line 1 has an id and no label"),
    "csv with a column twice": ("a.csv", "name,name\ncat,dog\n", "line 1: the columns must differ"),
    "csv without a column of names": ("a.csv", "a,b\ncat,dog\n", "line 1: the columns must be .*, got 'a, b'"),
    "csv with a short row": ("a.csv", "id,name\n1,cat\n2\n", "line 3 must have 2 cells as the header has, got 1"),
    "csv with an open quote": ("a.csv", 'id,name\n1,"cat\n', "line 2: "),
    "csv with only a header": ("a.csv", "id,name\n", "no labels"),
    "csv with a blank name": ("a.csv", "id,name\n1,  \n", "line 2: the label is blank"),
    "no JSON": ("a.json", '{"classes": [\n{"name": }]}', "line 2 is not valid JSON"),
    "JSON with an unknown key": (
        "a.json",
        '{"classes": [{"name": "cat", "wnid": "n1"}]}',
        "class 1: unknown key 'wnid'",
    ),
    "JSON without a name": ("a.json", '{"classes": [{"id": "cat"}]}', "class 1 has no name"),
    "JSON with an empty version": ("a.json", '{"classes": [], "version": ""}', "1 to 100 characters, got 0"),
    "JSON with a number": ("a.json", '{"classes": [{"name": 7}]}', "class 1: 'name' must be a string, got a number"),
    "JSON with a long number": (
        "a.json",
        '{"classes": [{"name": ' + "7" * 5000 + "}]}",
        "class 1: 'name' must be a string",
    ),
    "JSON with an unknown key above": ("a.json", '{"classes": [], "class": []}', "unknown key 'class'"),
    "another suffix": ("a.xlsx", "cat", "must end in one of .txt, .csv, .tsv, .json"),
    "JSON with no classes": ("a.json", '{"classes": []}', "no labels"),
    "JSON that nests deeply": ("a.json", "[" * 200_000, "line 1 is not valid JSON"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_error_with_file_and_line(tmp_path: Path, case: str) -> None:
    name, content, words = BAD[case]
    with pytest.raises(LabelError, match=words) as caught:
        read_labels(write(tmp_path, content, name))
    assert str(tmp_path / name) in caught.value.message
    assert caught.value.remedy
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="does not exist"):
        read_labels(tmp_path / "none.txt")
    with pytest.raises(UnknownNameError, match="imagenet"):
        read_labels("imagenet-22k")


@pytest.mark.parametrize("source", ["", " ", "\t\n"])
def test_a_source_without_a_name_is_not_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    (tmp_path / "lamp").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="the label set must be named"):
        read_labels(source)
    assert [label.name for label in read_labels(".").classes] == ["lamp"]


def test_a_folder_without_folders_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="no sub-folders"):
        read_labels(tmp_path)


@pytest.mark.parametrize("names", [[], ["cat", " "], ["cat", "Cat "], ["ca\tt", "ca\x07t"]])
def test_a_bad_list_is_refused(names: list[str]) -> None:
    with pytest.raises(LabelError) as caught:
        from_names(names)
    assert caught.value.remedy


def test_names_of_500_characters_and_all_scripts_are_labels() -> None:
    names = ["x" * 500, "שלום עולם", "猫", "👩\u200d🚀", "C++", "C#", "Größe", "می\u200cخواهم", "---"]
    labels = from_names(names)
    assert names_of(labels) == names
    assert all(0 < len(label.id) <= 200 for label in labels.classes)


def test_two_classes_share_a_name_only_with_notes_that_tell_them_apart(tmp_path: Path) -> None:
    head = "id,name,note\n"
    labels = read_labels(write(tmp_path, head + "1,crane,a bird\n2,crane,a machine\n", "a.csv"))
    assert [label.id for label in labels.classes] == ["1", "2"]
    with pytest.raises(LabelError, match="names several classes") as caught:
        labels.resolve("Crane")
    assert "'1', '2'" in caught.value.remedy
    for rows in ("1,crane,a bird\n2,crane,\n", "1,crane,a bird\n2,crane,a bird\n"):
        with pytest.raises(LabelError, match="line 3"):
            read_labels(write(tmp_path, head + rows, "a.csv"))


def test_labels_resolve_by_id_then_by_folded_name() -> None:
    labels = LabelSet("zoo", (ClassLabel("n1", "Brick wall"), ClassLabel("n2", "n1 too"), ClassLabel("brick", "Lime")))
    assert labels.resolve("n1").id == "n1"
    assert labels.resolve(" BRICK_wall ").id == "n1"
    assert labels.resolve("brick").id == "brick"
    with pytest.raises(LabelError, match="'brik wall' is not in the label set 'zoo'") as caught:
        labels.resolve("brik wall")
    assert "'Brick wall'" in caught.value.remedy


def test_ids_are_unique_and_a_set_is_never_empty() -> None:
    with pytest.raises(LabelError, match="twice"):
        LabelSet("zoo", (ClassLabel("a", "x"), ClassLabel("a", "y")))
    with pytest.raises(LabelError, match="no classes"):
        LabelSet("zoo", ())


def test_the_digest_knows_ids_and_names_and_no_order() -> None:
    a, b = ClassLabel("a", "ape"), ClassLabel("b", "bee")
    assert LabelSet("x", (a, b)).digest == LabelSet("y", (b, a), "9").digest
    assert LabelSet("x", (a, b)).digest != LabelSet("x", (a, ClassLabel("b", "Bee"))).digest


def test_the_digests_that_bundles_and_results_hold_stay(tmp_path: Path) -> None:
    assert shipped_label_set("imagenet").digest == IMAGENET
    assert shipped_label_set("pets").digest == PETS
    assert read_labels(write(tmp_path, "n1\tBrick_Wall\ncafé\n# x\nC++\n")).digest == LISTED


def test_ids_are_found_by_position_and_by_their_letters_alone() -> None:
    labels = LabelSet("zoo", (ClassLabel("apartment_building/outdoor", "x"), ClassLabel("HandstandPushups", "y")))
    assert labels.ids == ("apartment_building/outdoor", "HandstandPushups")
    assert labels.names == {"apartment_building/outdoor": "x", "HandstandPushups": "y"}
    assert labels.find_id("Apartment building-outdoor") == "apartment_building/outdoor"
    assert labels.find_id("Handstand_Pushups") == "HandstandPushups"
    assert labels.find_id("x") is None
    assert [labels.id_at(number) for number in (-1, 1, 2)] == [None, "HandstandPushups", None]


@pytest.mark.slow
def test_a_hundred_thousand_labels_are_read_in_time_that_grows_with_their_number(tmp_path: Path) -> None:
    spent = []
    for count in (20_000, 100_000):
        path = write(tmp_path, "".join(f"class {number}\n" for number in range(count)))
        started = time.process_time()
        labels = read_labels(path)
        spent.append(time.process_time() - started)
        assert len(labels.classes) == count
        assert labels.digest
    assert labels.resolve("CLASS_99999").id == "class_99999"
    assert spent[1] < 10 * spent[0] + 1


def test_every_shipped_note_can_follow_its_name() -> None:
    """A note is told to the language model in brackets: "crane (the bird)"."""
    notes = [label.note for name in shipped_label_sets() for label in read_labels(name).classes if label.note]
    assert len(notes) > 200
    for note in notes:
        assert len(note) < 60
        assert note[0].islower()
        assert not note.endswith(".")
        assert not re.search(r"official|synset|class of its own|spelt|[\"();]", note, re.IGNORECASE), note


@pytest.mark.fuzz
@given(st.text(max_size=300))
@pytest.mark.slow
def test_whatever_a_file_holds_it_is_a_label_set_or_an_error_of_ours(text: str) -> None:
    try:
        labels = from_names(text.split("\n"))
    except LabelError as error:
        shown = str(error)
    else:
        shown = ""
    assert "\n" not in shown
    if shown:
        return
    assert len({label.id for label in labels.classes}) == len(labels.classes)
    assert len({fold(label.name) for label in labels.classes}) == len(labels.classes)


@pytest.mark.fuzz
@given(st.text(min_size=1, max_size=500))
@pytest.mark.slow
def test_a_slug_depends_on_the_folded_name_alone_and_is_its_own_slug(name: str) -> None:
    assert slug(name) == slug(f" {name.replace(' ', '_')} ")
    assert 0 < len(slug(name)) <= 200


def test_an_alias_finds_its_class_and_enters_no_digest() -> None:
    plain = LabelSet("x", (ClassLabel("a", "newt"), ClassLabel("b", "missile")))
    known = LabelSet("x", (ClassLabel("a", "newt", aliases=("eft", "Common_newt")), ClassLabel("b", "missile")))
    assert known.resolve("EFT").id == known.resolve("common newt").id == "a"
    assert known.digest == plain.digest
    with pytest.raises(LabelError, match="'eft' is not in"):
        plain.resolve("eft")


def test_a_name_comes_before_an_alias_and_an_alias_of_two_classes_is_ambiguous() -> None:
    labels = LabelSet("x", (ClassLabel("a", "bank", aliases=("shore", "crane")), ClassLabel("b", "crane")))
    assert labels.resolve("crane").id == "b"
    both = LabelSet("x", (ClassLabel("a", "bank", aliases=("side",)), ClassLabel("b", "flank", aliases=("side",))))
    with pytest.raises(LabelError, match="several classes"):
        both.resolve("side")


def test_a_wordnet_id_is_an_imagenet_class_with_its_note() -> None:
    crane = wordnet_class(" N03126707 ")
    assert crane is not None
    assert (crane.id, crane.name) == ("n03126707", "construction crane")
    assert wordnet_class("n00000001") is None
    assert wordnet_class("tench") is None
