"""Labels of published files and the classes of the shipped label sets: all match, and what is not obvious is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abs_core.errors import BundleError, LabelError
from abs_core.labels import ClassLabel, LabelSet, from_names, shipped_label_set
from abs_descriptions.bundles.matching import match_labels, read_mapping

IMAGENET = {"n01631663": "eft", "n03710637": "maillot", "n04008634": "projectile", "n04355933": "sunglass"}


def _names(label: ClassLabel) -> str:
    return label.name


def _bracketed(label: ClassLabel) -> str:
    first, *rest = label.id.split("/")
    return first.replace("_", " ") + "".join(f" ({part.replace('_', ' ')})" for part in rest)


def _of_clip_d(label: ClassLabel) -> str:
    return {"arcade": "arcade (passageway)", "lock_chamber": "lock_chamber (canal)"}.get(
        label.id, label.id.replace("/", "-")
    )


#: label set, keys of a published file as they are made of its classes, number of different keys
PUBLISHED: dict[str, tuple[str, Callable[[ClassLabel], str], int]] = {
    "CuPL for ImageNet: two pairs of classes share a name": ("imagenet", _names, 998),
    "CLIP-D and WCA for ImageNet": ("imagenet", lambda label: IMAGENET.get(label.id, label.name), 1000),
    "Keras and torchvision for ImageNet, by WordNet id": ("imagenet", lambda label: label.id, 1000),
    "CLIP-D for Places365": ("places365", _of_clip_d, 365),
    "WCA for Places365": ("places365", lambda label: label.id.split("/")[0].replace("_", " "), 344),
    "paths of Places365": ("places365", lambda label: label.id, 365),
    "names with the place in brackets for SUN397": ("sun397", _bracketed, 397),
    "CoOp for SUN397": ("sun397", lambda label: " ".join(label.id.split("/")[::-1]), 397),
    "CuPL for Cars": ("stanford-cars", lambda label: label.name.replace("/", ""), 196),
    "CoOp for Cars": ("stanford-cars", lambda label: " ".join([label.name[-4:], label.name[:-5]]), 196),
    "folders of Caltech-101": ("caltech101", lambda label: label.id, 101),
    "CoOp for EuroSAT": ("eurosat", lambda label: label.id, 10),
    "CLIP-D for Pets": ("pets", lambda label: label.name.lower(), 37),
    "WCA for CUB": ("cub-200-2011", lambda label: label.name.replace(" ", "-", 1), 200),
    "folders of CUB": ("cub-200-2011", lambda label: label.id, 200),
    "Aircraft without slashes": ("fgvc-aircraft", lambda label: label.name.replace("/", ""), 100),
    "UCF101 with underscores": ("ucf101", lambda label: label.name.replace(" ", "_"), 101),
    "Food-101 with underscores": ("food101", lambda label: label.name.replace(" ", "_"), 101),
}


@pytest.mark.parametrize("file", PUBLISHED)
def test_the_keys_of_published_files_name_every_class(file: str) -> None:
    name, key, count = PUBLISHED[file]
    labels = shipped_label_set(name)
    keys = {label.id: key(label) for label in labels.classes}
    matching = match_labels(keys.values(), labels)
    matching.check()
    assert len(matching.matched) == count
    assert matching.missing == matching.unknown == matching.left_out == ()
    assert all(class_id in matching.matched[text] for class_id, text in keys.items())
    assert sum(len(ids) for ids in matching.matched.values()) == len(labels.classes)


def test_one_set_of_texts_serves_the_classes_of_one_name_and_it_is_said() -> None:
    matching = match_labels(["missile", "sunglasses"], shipped_label_set("imagenet"))
    assert matching.matched["missile"] == ("n03773504", "n04008634")
    assert [str(remark) for remark in matching.remarks()] == [
        "2 shared by several classes: the texts of (missile: n03773504, n04008634, sunglasses: n04355933, n04356056)"
    ]


def test_what_another_label_names_is_not_meant() -> None:
    places = shipped_label_set("places365")
    assert match_labels(["church", "church indoor"], places).matched["church"] == ("church/outdoor",)
    assert match_labels(["church"], places).matched["church"] == ("church/indoor", "church/outdoor")
    imagenet = shipped_label_set("imagenet")
    assert match_labels(["missile", "projectile"], imagenet).matched == {
        "missile": ("n03773504",),
        "projectile": ("n04008634",),
    }
    # a dog and a garment
    cardigans = match_labels(["Cardigan", "cardigan"], imagenet).matched
    assert cardigans == {"Cardigan": ("n02113186",), "cardigan": ("n02963159",)}


def test_the_background_of_caltech_is_no_class_and_left_out() -> None:
    matching = match_labels(["background", "accordion"], shipped_label_set("caltech101"))
    matching.check()
    assert matching.left_out == ("background",)
    assert "1 left out: the texts of (background)" in map(str, matching.remarks())


def test_symbols_keep_names_apart_and_spellings_that_fit_two_are_refused() -> None:
    languages = from_names(["C++", "C#", "Objective C"])
    matching = match_labels(["C", "c++", "objective-c"], languages)
    assert (matching.matched, matching.unknown) == (
        {"c++": ("c_x2b_x2b",), "objective-c": ("objective_c",)},
        ("C",),
    )
    twins = LabelSet("twins", (ClassLabel("a", "ice-cream"), ClassLabel("b", "ice cream")))
    matching = match_labels(["Ice_Cream"], twins)
    assert matching.ambiguous == {"Ice_Cream": ("a", "b")}
    with pytest.raises(BundleError, match="'Ice_Cream' could mean the classes 'a', 'b'"):
        matching.check()
    assert matching.without_unknown().left_out == ("Ice_Cream",)


@pytest.mark.parametrize(
    "content",
    [
        '{"moggy": "cat", "hound": ["dog", "wolf"], "rest": null}',
        "moggy,cat\nrest,\n",
        "label;class\nmoggy;Cat\nrest;\n",
    ],
)
def test_a_mapping_says_what_labels_mean(tmp_path: Path, content: str) -> None:
    labels = from_names(["cat", "dog", "wolf"])
    (tmp_path / "map").write_text(content)
    mapping = read_mapping(tmp_path / "map", labels)
    matching = match_labels(["moggy", "rest", "wolf"], labels, mapping)
    matching.check()
    assert (matching.matched, matching.left_out) == ({"moggy": ("cat",), "wolf": ("wolf",)}, ("rest",))
    assert mapping.get("hound", ("dog", "wolf")) == ("dog", "wolf")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"a": 1}', "the class of 'a' must be a string"),
        ('{"a": {"b": "cat"}}', "the class of 'a' must be a string"),
        ('["a"]', "not a JSON object of labels"),
        ('{"a": "cat", "a": "dog"}', "'a' is given twice"),
        ("{", "invalid JSON"),
        ("[" * 100_000, "invalid JSON"),
        ("a,b,c\n", "line 1: 3 cells, a label and a class are needed"),
        ('"a', "invalid CSV"),
        ('{"a": "eel"}', "'eel' is not in the label set"),
    ],
)
def test_a_broken_mapping_is_one_error(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "map").write_text(content)
    with pytest.raises((BundleError, LabelError), match=words) as caught:
        read_mapping(tmp_path / "map", from_names(["cat", "dog"]))
    assert caught.value.remedy


_TEXT = st.text(alphabet="ab -_/.+()A", max_size=5)


@pytest.mark.fuzz
@given(st.lists(_TEXT, min_size=1, max_size=5), st.lists(_TEXT, min_size=1, max_size=5))
def test_every_label_is_matched_ambiguous_or_unknown(names: list[str], labels: list[str]) -> None:
    classes = tuple(ClassLabel(str(number), name, aliases=(name[::-1],)) for number, name in enumerate(names))
    matching = match_labels(labels, LabelSet("any", classes))
    assert sorted({*matching.matched, *matching.ambiguous, *matching.unknown}) == sorted(set(labels))
    named = {class_id for ids in matching.matched.values() for class_id in ids}
    assert named.isdisjoint(matching.missing)
    for label in {*labels} & {*names} - {""}:
        assert label not in matching.unknown
