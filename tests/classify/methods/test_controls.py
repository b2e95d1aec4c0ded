"""Controls: what they keep, what they change, and how they write class names."""

from __future__ import annotations

import pytest

from abs_classify.methods.class_texts import ClassTextInputs, Sentences
from abs_classify.methods.controls import CONTROLS, apply_control, classname_only, rename, shuffle, swap, waffle
from abs_core.descriptions import Description
from abs_core.errors import UnknownNameError, UsageError

CLASSES = {"n1": "hen", "n2": "red_panda", "n3": "axe", "n4": "tractor", "n5": "Egyptian Mau"}
DESCRIPTIONS = {
    "n1": [Description("A hen is a bird with a comb."), Description("two legs", "phrase")],
    "n2": [Description("Red pandas have a long, bushy tail.")],
    "n3": [
        Description("You can tell an axe by its blade."),
        Description("a handle", "phrase"),
        Description("Axes cut."),
    ],
    "n4": [Description("The tractor's wheels are large.")],
    "n5": [Description("An Egyptian Mau has spots."), Description("An Egyptian Mau is a cat.")],
    "n9": [Description("Nobody asked for this.")],
}


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_is_deterministic_and_feeds_every_class(name: str) -> None:
    one = apply_control(name, DESCRIPTIONS, CLASSES, 3)
    assert one == apply_control(name, DESCRIPTIONS, dict(CLASSES), 3)
    assert list(one) == list(CLASSES)
    table = Sentences().build(ClassTextInputs(CLASSES, one))
    assert set(table.class_index) == set(range(5))


@pytest.mark.parametrize("name", ["shuffle", "swap", "waffle"])
def test_the_seed_matters(name: str) -> None:
    results = [apply_control(name, DESCRIPTIONS, CLASSES, seed) for seed in range(8)]
    assert any(result != results[0] for result in results)


@pytest.mark.parametrize("control", [shuffle, waffle])
def test_counts_stay(control: object) -> None:
    result = control(DESCRIPTIONS, CLASSES, 0)  # type: ignore[operator]
    assert [len(result[key]) for key in CLASSES] == [len(DESCRIPTIONS[key]) for key in CLASSES]


def test_shuffle_deals_out_every_description_once() -> None:
    plain = {
        key: [Description(f"text {key} {i}.") for i in range(count)]
        for key, count in zip(CLASSES, (3, 1, 4, 1, 5), strict=True)
    }
    seen = set()
    for seed in range(5):
        result = shuffle(plain, CLASSES, seed)
        assert sorted(one.text for own in result.values() for one in own) == sorted(
            one.text for own in plain.values() for one in own
        )
        seen.add(tuple(one.text for own in result.values() for one in own))
    assert len(seen) == 5


def test_swap_moves_whole_lists_and_leaves_no_class_its_own() -> None:
    plain = {key: [Description(f"text {key} {i}.") for i in range(3)] for key in CLASSES}
    for seed in range(20):
        result = swap(plain, CLASSES, seed)
        donors = {key: own[0].text.split()[1] for key, own in result.items()}
        assert all(donor != key for key, donor in donors.items())
        assert sorted(donors.values()) == sorted(CLASSES)
        for key, donor in donors.items():
            assert list(result[key]) == plain[donor]


def test_the_receivers_name_stands_in_moved_sentences() -> None:
    for seed in range(20):
        for control in (shuffle, swap):
            for key, own in control(DESCRIPTIONS, CLASSES, seed).items():
                text = " ".join(one.text for one in own).lower()
                others = {other.replace("_", " ").lower() for name, other in CLASSES.items() if name != key}
                assert not [other for other in others if f" {other} " in f" {text} "]


def test_phrases_stay_phrases() -> None:
    moved = swap(DESCRIPTIONS, CLASSES, 0)
    kinds = sorted((one.text, one.kind) for own in moved.values() for one in own if one.kind == "phrase")
    assert kinds == [("a handle", "phrase"), ("two legs", "phrase")]


def test_waffle_says_the_class_and_random_parts_only() -> None:
    result = waffle(DESCRIPTIONS, CLASSES, 0)
    for key, name in CLASSES.items():
        for one in result[key]:
            assert one.kind == "sentence"
            assert one.text.startswith(f"A photo of a {name.replace('_', ' ')}, which ")
    assert result["n3"][0].text.replace("axe", "hen") == result["n1"][0].text


def test_classname_only() -> None:
    result = classname_only({}, CLASSES, 0)
    assert result["n2"] == (Description("a photo of a red panda."),)
    assert [len(own) for own in result.values()] == [1] * 5


@pytest.mark.parametrize(
    ("text", "donor", "receiver", "expected"),
    [
        ("A hen is a bird.", "hen", "axe", "An axe is a bird."),
        ("An axe has a blade, and the axe is old.", "axe", "hen", "A hen has a blade, and the hen is old."),
        ("Hens lay eggs.", "hen", "red_panda", "Red pandas lay eggs."),
        ("Two axes hang there.", "axe", "box", "Two boxes hang there."),
        ("A red-panda and a Red Panda.", "red_panda", "hen", "A hen and a Hen."),
        ("The tractor's wheels.", "tractor", "hen", "The hen's wheels."),
        ("Then when the hen came.", "hen", "axe", "Then when the axe came."),
        ("An Egyptian Mau has spots.", "Egyptian Mau", "hen", "A hen has spots."),
        ("A hen has spots.", "hen", "Egyptian Mau", "An Egyptian Mau has spots."),
        ("A pair of sunglasses.", "sunglasses", "scissors", "A pair of scissors."),
        ("Many hens.", "hen", "sunglasses", "Many sunglasses."),
        ("A c++ (language) book.", "c++ (language)", "hen", "A hen book."),
        ("No name here.", "hen", "axe", "No name here."),
        (r"A hen.", "hen", r"\1 \g<0>", r"A \1 \g<0>."),
    ],
)
def test_rename(text: str, donor: str, receiver: str, expected: str) -> None:
    assert rename(text, donor, receiver) == expected


def test_bad_input() -> None:
    with pytest.raises(UnknownNameError, match="valid: shuffle, swap, waffle, classname-only"):
        apply_control("shuffel", DESCRIPTIONS, CLASSES, 0)
    with pytest.raises(UsageError, match="'swap' needs two classes or more"):
        swap(DESCRIPTIONS, {"n1": "hen"}, 0)
    for control in (shuffle, swap, waffle):
        with pytest.raises(UsageError, match=r"no description: n6 \(kayak\)"):
            control(DESCRIPTIONS, CLASSES | {"n6": "kayak"}, 0)
        with pytest.raises(UsageError, match="needs descriptions"):
            control({}, CLASSES, 0)


def test_one_class_can_be_shuffled() -> None:
    assert set(shuffle(DESCRIPTIONS, {"n1": "hen"}, 0)["n1"]) == set(DESCRIPTIONS["n1"])
