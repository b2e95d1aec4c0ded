"""Class names that come with numbered labels, against a label set that the user names."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abs_classify.datasets.class_order import classes_by_name
from abs_core.errors import DatasetError
from abs_core.labels import ClassLabel, LabelSet, shipped_label_set, shipped_label_sets

ZOO = LabelSet(
    "zoo",
    (
        ClassLabel("n1", "house cat", aliases=("kitty",)),
        ClassLabel("n2", "hot dog"),
        ClassLabel("n3", "great white shark"),
        ClassLabel("n4", "missile"),
        ClassLabel("n5", "projectile"),
        ClassLabel("n6", "snow leopard"),
    ),
)


def ids(*names: str, label_set: LabelSet = ZOO) -> list[str]:
    return [label.id for label in classes_by_name(names, label_set, "hf:zoo")]


def refusal(*names: str, label_set: LabelSet = ZOO) -> str:
    with pytest.raises(DatasetError) as caught:
        classes_by_name(names, label_set, "hf:zoo")
    assert "classes=" in caught.value.remedy
    return caught.value.message


def test_names_in_the_order_of_the_set_are_its_classes_whatever_their_spelling() -> None:
    names = ["kitty", "Hot_Dog", "white shark, man-eater, great white shark", "missile", "projectile, missile", "n6"]
    assert ids(*names) == ["n1", "n2", "n3", "n4", "n5", "n6"]


def test_a_name_at_the_place_of_another_is_followed() -> None:
    names = ["missile", "hot dog", "great white shark", "house cat", "projectile", "snow leopard"]
    assert ids(*names) == ["n4", "n2", "n3", "n1", "n5", "n6"]


def test_one_unknown_name_is_the_class_that_is_left() -> None:
    names = ["hot dog", "house cat", "great white shark", "missile", "projectile", "irbis"]
    assert ids(*names) == ["n2", "n1", "n3", "n4", "n5", "n6"]
    assert ids("house cat", "frankfurter", "shark", "missile", "projectile", "irbis") == [f"n{n}" for n in range(1, 7)]


def test_unknown_names_in_another_order_are_refused_with_the_place_and_the_names() -> None:
    message = refusal("hot dog", "house cat", "great white shark", "missile", "bullet", "irbis")
    assert "the class 0 is 'hot dog', but there it is 'house cat', and 'hot dog' is the class 1" in message
    assert "2 names are not in the label set, so their places are not certain ('bullet', 'irbis')" in message


def test_an_unknown_name_that_resembles_the_class_at_another_place_is_refused() -> None:
    message = refusal("house cat", "hot dog", "the snow leopard", "missile", "projectile", "a great white shark")
    assert "'the snow leopard', but there it is 'great white shark'" in message


def test_two_names_of_one_class_are_refused() -> None:
    message = refusal("hot dog", "kitty", "great white shark", "missile", "house cat", "snow leopard")
    assert "'kitty' and 'house cat' are the same class 'n1'" in message


def test_a_name_of_two_classes_at_the_place_of_a_third_is_refused() -> None:
    cranes = LabelSet("cranes", (ClassLabel("1", "crane"), ClassLabel("2", "crane"), ClassLabel("3", "owl")))
    assert ids("crane", "crane", "owl", label_set=cranes) == ["1", "2", "3"]
    assert "another order" in refusal("owl", "crane", "crane", label_set=cranes)


def test_other_classes_and_another_number_of_them_are_refused() -> None:
    assert "only 1 of 6 class names are known" in refusal("a", "b", "hot dog", "d", "e", "f")
    assert "has 2 classes, but the label set 'zoo' has 6" in refusal("a", "b")


def swapped(label_set: LabelSet, *pairs: tuple[str, str]) -> list[str]:
    order = list(label_set.ids)
    for one, other in pairs:
        here, there = order.index(one), order.index(other)
        order[here], order[there] = other, one
    return order


def test_orders_in_which_published_copies_lie_are_followed_class_by_class() -> None:
    food = shipped_label_set("food101")
    assert ids(*swapped(food, ("cheesecake", "cheese_plate")), label_set=food)[16:18] == ["cheese_plate", "cheesecake"]
    for name in ("ucf101", "sun397", "places365", "fgvc-aircraft"):
        label_set = shipped_label_set(name)
        for order in (sorted(label_set.ids), sorted(label_set.ids, key=str.lower)):
            assert ids(*order, label_set=label_set) == order
    with pytest.raises(DatasetError):  # two missiles, two sunglasses: names do not say which is which
        classes_by_name(sorted(shipped_label_set("imagenet").names.values()), shipped_label_set("imagenet"), "x")


@pytest.mark.slow
def test_the_categories_of_torchvision_are_the_classes_of_imagenet() -> None:
    categories = pytest.importorskip("torchvision.models._meta")._IMAGENET_CATEGORIES
    imagenet = shipped_label_set("imagenet")
    assert classes_by_name(categories, imagenet, "x") == imagenet.classes


@pytest.mark.fuzz
@given(st.sampled_from([name for name in shipped_label_sets() if name != "imagenet"]), st.randoms(), st.booleans())
@settings(max_examples=30, deadline=None)
def test_any_order_of_known_names_is_followed(name: str, chance: random.Random, by_id: bool) -> None:
    label_set = shipped_label_set(name)
    classes = list(label_set.classes)
    for _ in range(chance.randrange(6)):
        here, there = chance.randrange(len(classes)), chance.randrange(len(classes))
        classes[here], classes[there] = classes[there], classes[here]
    names = [label.id if by_id else label.name for label in classes]
    assert classes_by_name(names, label_set, "x") == tuple(classes)


@pytest.mark.fuzz
@given(st.lists(st.one_of(st.text(max_size=8), st.sampled_from([*ZOO.ids, *ZOO.names.values()])), max_size=7))
@settings(max_examples=200, deadline=None)
def test_any_names_give_each_class_once_and_known_names_their_own(names: list[str]) -> None:
    try:
        classes = classes_by_name(names, ZOO, "x")
    except DatasetError:
        return
    assert sorted(label.id for label in classes) == list(ZOO.ids)
    for name, label in zip(names, classes, strict=True):
        if name in ZOO.ids and names.count(name) == 1:
            assert label.id == name
