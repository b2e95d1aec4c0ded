"""Class names that are no words: translated, or counted with what they are."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abs_core.class_names import (
    is_not_a_class,
    is_split,
    is_system_folder,
    name_remarks,
    split_key,
    split_keys,
    translated_names,
)
from abs_core.labels import ClassLabel, shipped_label_set, shipped_label_sets


def classes(*ids: str) -> list[ClassLabel]:
    return [ClassLabel(text, text.replace("_", " ")) for text in ids]


def names(*ids: str) -> list[str]:
    result, _ = translated_names(classes(*ids))
    assert [label.id for label in result] == list(ids)
    return [label.name for label in result]


def remarks(*ids: str) -> list[str]:
    return list(map(str, translated_names(classes(*ids))[1]))


def test_wordnet_ids_are_read_as_the_names_of_imagenet_and_unknown_ones_are_counted() -> None:
    ids = ("n02123045", "N01440764", "n02085620-Chihuahua", "n00007846")
    assert names(*ids) == ["tabby cat", "tench", "Chihuahua", "n00007846"]
    assert remarks(*ids) == [
        "3 WordNet ids are read as names (n02123045: tabby cat, N01440764: tench, n02085620-Chihuahua: Chihuahua)",
        "1 class name is a WordNet id that ImageNet lacks; a model knows words only (n00007846)",
    ]
    # two classes of ImageNet have one name; their notes tell them apart
    assert len(remarks("n03773504", "n04008634")) == 1


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (("001.Black_footed_Albatross", "014.Indigo_Bunting"), ["Black footed Albatross", "Indigo Bunting"]),
        (("00_cat", "01_dog"), ["cat", "dog"]),
        (("1. cat", "2. dog", "3. owl"), ["cat", "dog", "owl"]),
        (("0-cat", "1-dog", "2-owl"), ["cat", "dog", "owl"]),
    ],
)
def test_running_numbers_before_names_are_left_out(ids: tuple[str, ...], expected: list[str]) -> None:
    assert names(*ids) == expected
    assert f"{len(ids)} class names are used without running numbers" in remarks(*ids)[0]


@pytest.mark.parametrize(
    "ids",
    [
        ("1_euro", "2_euro"),
        ("2-propanol", "3-butanol"),
        ("01_cat", "02_cat"),
        ("001.cat", "002.dog", "owl"),
        ("001.cat",),
        ("4x4", "3d"),
    ],
)
def test_numbers_that_belong_to_names_stay(ids: tuple[str, ...]) -> None:
    assert names(*ids) == [text.replace("_", " ") for text in ids]


@pytest.mark.parametrize(
    ("kind", "examples"),
    [
        ("numbers", ["0", "7.0", "-1", "1e3", "00042"]),
        ("missing values", ["nan", "None", "N/A", "null"]),
        ("hold several labels", ["cat|animal", "cat;dog"]),
        ("system folders", ["@eaDir", "__MACOSX", "Thumbs.db", "lost+found", "$RECYCLE.BIN"]),
        ("names of files", ["cat.jpg", "notes.txt"]),
        ("names of splits", ["train", "val2017", "test_set"]),
        ("not classes but go with a data set", ["annotations", "trimaps", "Labels"]),
        ("stand for the rest", ["other", "Unknown", "BACKGROUND_Google"]),
        ("answers", ["yes", "False"]),
        ("codes", ["class_3", "m.01g317", "Q146", "3f2a9c1b7d", "label 12"]),
        ("codes", ["c0", "C12", "ab 3"]),
        ("one letter", ["A", "b"]),
        ("copied or new folders", ["cat - Copy", "dog (2)", "New folder"]),
        ("escaped or garbled", ["hot%20dog", "caf&eacute;", "cafÃ©", "<unk>", "'owl'"]),
        ("hidden characters", ["ca\u200bt", "\u202edog"]),
        ("mix Latin and Cyrillic letters", ["\u0441at", "d\u043eg"]),
        ("begin with numbers", ["0_cat", "1_dog"]),
        ("other characters for spaces", ["hot.dog", "ice+cream"]),
        ("no letter", ["???", "-", "3/4"]),
        ("run words together", ["ApplyLipstick", "BabyCrawling"]),
    ],
)
def test_names_that_are_no_words_are_counted_by_what_they_are(kind: str, examples: list[str]) -> None:
    (remark,) = name_remarks(classes(*examples))
    assert kind in str(remark)
    assert (remark.count, len(remark.examples)) == (len(examples), len(examples))


def test_classes_of_nearly_one_name_are_counted_in_pairs() -> None:
    ids = ["Cat", "cat", "hot_dog", "hot dog", "café", "cafe", "sea-lion", "sea lions", "glass", "bus"]
    (remark,) = name_remarks(classes(*ids))
    assert str(remark) == (
        "4 pairs of classes have nearly the same name "
        "('Cat' and 'cat', 'hot dog' and 'hot dog', 'café' and 'cafe', 'sea-lion' and 'sea lions')"
    )
    assert not name_remarks([ClassLabel("a", "crane", note="bird"), ClassLabel("b", "crane", note="machine")])


@pytest.mark.parametrize(
    "ids",
    [
        ("cat", "dog"),
        ("猫", "東京タワー", "صقر", "собака"),
        ("C++", "C#", "Go"),
        ("train", "bus", "car"),
        ("F-16", "747 jet", "Cessna 172", "iPhone", "McLaren"),
        ("St. Bernard", "C++", "Dr. Fish", "2 door car"),
        ("T-shirt", "mask", "station", "n/a line"),
    ],
)
def test_words_are_left_in_peace(ids: tuple[str, ...]) -> None:
    assert translated_names(classes(*ids)) == (tuple(classes(*ids)), ())


def test_of_the_shipped_sets_only_numbers_of_aircraft_are_no_words() -> None:
    found = {name: name_remarks(shipped_label_set(name).classes) for name in shipped_label_sets()}
    assert [name for name, said in found.items() if said] == ["fgvc-aircraft"]


def test_folders_of_splits_of_systems_and_of_annotations_are_told_apart() -> None:
    splits = ["train", "Training_set", "val2017", "seg_test", "dev", "test-images", "station", "train station", ""]
    assert [split_key(name) for name in splits] == ["train", "train", "validation", "test", "validation", "test"] + [
        ""
    ] * 3
    assert is_split("VALID")
    assert is_system_folder(".Trash-1000")
    assert is_not_a_class("Annotations")
    assert not any(check("cat") for check in (is_split, is_system_folder, is_not_a_class))


@pytest.mark.fuzz
@given(st.lists(st.text(max_size=30) | st.from_regex(r"n\d{8}.?[a-z]*|\d{1,3}[._ ]\w+", fullmatch=True), max_size=6))
@settings(max_examples=300, deadline=20_000)
def test_any_names_are_judged_without_an_error_and_keep_their_ids(texts: list[str]) -> None:
    given_classes = [ClassLabel(str(number), text) for number, text in enumerate(texts)]
    result, said = translated_names(given_classes)
    assert [label.id for label in result] == [label.id for label in given_classes]
    assert all(label.name for label, given_class in zip(result, given_classes, strict=True) if given_class.name)
    assert all(0 < remark.count <= len(texts) and len(remark.examples) <= remark.count for remark in said)


def test_hostile_names_take_no_time() -> None:
    for text in (
        "0" * 50_000 + "x",
        "a" * 50_000,
        "_" * 50_000,
        "(" * 50_000,
        "n12345678" + "-" * 50_000,
        "&" * 50_000,
    ):
        name_remarks(classes(text[:500], text))


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (("cars_train", "cars_test"), {"cars_train": "train", "cars_test": "test"}),
        (("train", "test"), {"train": "train", "test": "test"}),
        (("train", "cars_test"), {"train": "train"}),
        (("toy_train", "toy_car"), {}),
        (("toy_train",), {}),
        (("a_train", "b_train"), {}),
    ],
)
def test_splits_side_by_side_may_be_named_after_the_data_set(folders: tuple[str, ...], splits: dict[str, str]) -> None:
    assert split_keys(folders) == splits


def test_folders_of_cameras_are_no_names() -> None:
    assert remarks("100MEDIA", "101CANON", "102_PANA") == [
        "3 class names are those of a camera's folders; a model knows words only (100MEDIA, 101CANON, 102 PANA)"
    ]
