"""JSON and YAML of other tools: lists, id2label, class indices, categories; and files of descriptions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abs_core.errors import LabelError
from abs_core.label_lines import Reading
from abs_core.label_values import read_value
from abs_core.labels import read_labels
from abs_core.remarks import RemarkCounter

VALUES: dict[str, tuple[Any, list[tuple[str, str]], list[str]]] = {
    "a list": (["cat", "dog"], [("cat", "cat"), ("dog", "dog")], []),
    "a list under classes": ({"classes": ["cat"]}, [("cat", "cat")], []),
    "id2label": ({"1": "dog", "0": "cat", "10": "eel"}, [("0", "cat"), ("1", "dog"), ("10", "eel")], []),
    "label2id": ({"dog": 1, "cat": 0}, [("0", "cat"), ("1", "dog")], []),
    "a model's configuration": (
        {"id2label": {"0": "cat"}, "label2id": {"cat": 0}, "model_type": "vit"},
        [("0", "cat")],
        ["2 not read: a key beside 'id2label' (label2id, model_type)"],
    ),
    "Keras": (
        {"0": ["n01440764", "tench"], "1": ["n01484850", "great_white_shark"]},
        [("n01440764", "tench"), ("n01484850", "great white shark")],
        [],
    ),
    "WordNet ids and words": (
        {"n01440764": "tench, Tinca tinca"},
        [("n01440764", "tench")],
        ["1 read as a synset: the first word is the name, the others are aliases (tench, Tinca tinca)"],
    ),
    "WordNet ids and lists": ({"n01440764": ["tench", "Tinca tinca"]}, [("n01440764", "tench")], []),
    "COCO": (
        {"info": {}, "categories": [{"id": 18, "name": "dog", "supercategory": "animal", "color": [1, 2]}]},
        [("18", "dog")],
        ["1 not read: a key beside 'categories' (info)", "1 not read: a key of a class (color)"],
    ),
    "WordNet ids in a list": (
        ["n01440764"],
        [("n01440764", "tench")],
        ["1 read as the name that ImageNet has for the WordNet id (n01440764: tench)"],
    ),
}


@pytest.mark.parametrize("form", VALUES)
def test_forms_of_other_tools_are_read_and_said(tmp_path: Path, form: str) -> None:
    value, expected, remarks = VALUES[form]
    (tmp_path / "a.json").write_text(json.dumps(value))
    labels = read_labels(tmp_path / "a.json")
    assert [(label.id, label.name) for label in labels.classes] == expected
    assert [str(remark) for remark in labels.remarks] == remarks


def test_a_class_states_aliases_with_or_without_their_source(tmp_path: Path) -> None:
    classes = [{"name": "newt", "aliases": ["eft", "newt"]}, {"name": "cat", "aliases": {"moggy": "wordnet"}}]
    (tmp_path / "a.json").write_text(json.dumps({"classes": classes, "alias_sources": {"wordnet": "x"}}))
    labels = read_labels(tmp_path / "a.json")
    assert [label.aliases for label in labels.classes] == [("eft",), ("moggy",)]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"cat": ["It purrs."], "dog": []}, "has a list of texts for each of 2 keys, as files of descriptions have"),
        ({"labels": ["It sticks."], "dog": ["It barks."]}, "as files of descriptions have"),
        ({"a": "cat", "b": "dog"}, "two texts for each class, and nothing says which is the name"),
        ({"a": {"b": 1}}, "none of the known forms of label files"),
        ({"classes": [{"name": "cat", "aliases": [1]}]}, "class 1: 'aliases' must be a list of strings"),
        ({"classes": ["cat"], "left_out": "x"}, "'left_out' must be a list of strings"),
        ({"classes": ["cat", 7]}, "class 1 must be an object, got a string"),
        ([["cat"]], "item 1 must be a class name or an object, got a list"),
        ([{"id": 3}], "item 1 has no name"),
        ({}, "has no classes"),
        ("cat", "must be an object or a list, got a string"),
        (True, "got a boolean"),
    ],
)
def test_what_is_not_clear_is_refused(tmp_path: Path, value: Any, words: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps(value))
    with pytest.raises(LabelError, match=words) as caught:
        read_labels(tmp_path / "a.json")
    assert caught.value.remedy


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"0": "cat", "0": "dog"}')
    with pytest.raises(LabelError, match="the key '0' appears twice"):
        read_labels(tmp_path / "a.json")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["0", "1", "cat", "n01440764", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["0", "1", "names", "classes", "name", "id", "cat"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.mark.fuzz
@given(_JSON)
def test_any_value_is_classes_or_one_error(value: Any) -> None:
    try:
        stated = read_value(value, "a.json", Reading(RemarkCounter(), RemarkCounter()))
    except LabelError as error:
        refusal = error
    else:
        assert all(isinstance(entry.name, str) for entry in stated.entries)
        return
    assert refusal.remedy


@pytest.mark.parametrize(
    "value",
    [
        {"classes": ["cat", "dog"], "class_to_idx": {"cat": 0, "dog": 1}},
        {"classes": ["cat", "dog"], "labels": {"1.jpg": 0, "2.jpg": 1}},
        {"thing_classes": ["cat", "dog"], "thing_colors": [[1, 2, 3], [4, 5, 6]]},
        {
            "info": {},
            "categories": {"label": {"labels": [{"name": "cat", "parent": ""}, {"name": "dog"}]}},
            "items": [],
        },
        {"default": {"features": {"image": {}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}},
        {
            "dataset_info": {
                "features": [{"name": "image"}, {"dtype": {"class_label": {"names": {"0": "cat", "1": "dog"}}}}]
            }
        },
        {"train": {"names": ["cat", "dog"]}, "test": {"names": ["cat", "dog"]}},
        {"name": {"0": "cat", "1": "dog"}},
        {"name": {"0": "cat", "1": "dog"}, "id": {"0": 7, "1": 8}},
        [[0, "cat"], [1, "dog"]],
        [["cat", 0], ["dog", 1]],
    ],
)
def test_classes_inside_files_of_other_tools(tmp_path: Path, value: Any) -> None:
    (tmp_path / "a.json").write_text(json.dumps(value))
    assert [label.name for label in read_labels(tmp_path / "a.json").classes] == ["cat", "dog"]


@pytest.mark.parametrize(
    "value",
    [
        {"train": {"names": ["cat"]}, "test": {"names": ["dog"]}},  # different ones: none is chosen
        {"cat": {"names": ["It purrs."]}, "dog": {"names": ["It barks."]}},
        [[0, 1], [2, 3]],
        [["cat", "dog"]],
    ],
)
def test_nothing_is_chosen_among_several_lists(tmp_path: Path, value: Any) -> None:
    (tmp_path / "a.json").write_text(json.dumps(value))
    with pytest.raises(LabelError):
        read_labels(tmp_path / "a.json")


def test_counts_of_images_are_not_taken_for_numbers_of_classes_in_silence(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"cat": 120, "dog": 33}')
    assert "do not count the classes" in str(read_labels(tmp_path / "a.json").remarks[0])
    (tmp_path / "a.json").write_text('{"cat": 1, "dog": 2}')
    assert not read_labels(tmp_path / "a.json").remarks
