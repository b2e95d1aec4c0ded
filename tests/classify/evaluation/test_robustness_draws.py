"""What robustness is measured on: draws that follow from seeds and ids, and label spaces made of others."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abs_classify.evaluation.robustness_draws import (
    added_space,
    chosen_classes,
    default_counts,
    distinct_classes,
    long_tail,
    reordered_space,
    subspace,
)
from abs_core.descriptions import Description, LabelSpace
from abs_core.labels import ClassLabel, LabelSet, from_names

IDS = [f"class-{number}" for number in range(20)]


def described(*names: str) -> LabelSpace:
    labels = from_names(names)
    return LabelSpace(labels, {name: [Description(f"{name} has a mark")] for name in labels.ids}, "things@1.0.0")


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 20), st.floats(0.01, 0.99), st.integers(0, 5))
def test_a_share_of_the_classes_whatever_their_order(count: int, share: float, seed: int) -> None:
    chosen = chosen_classes(IDS[:count], share, seed, "hidden 0")
    assert len(chosen) == min(max(1, round(share * count)), count - 1)
    assert set(chosen) == set(chosen_classes(IDS[:count][::-1], share, seed, "hidden 0"))
    assert len(set(chosen)) == len(chosen)


def test_draws_differ_by_purpose_and_seed() -> None:
    drawn = {frozenset(chosen_classes(IDS, 0.5, seed, f"hidden {draw}")) for seed in range(3) for draw in range(3)}
    assert len(drawn) == 9
    assert chosen_classes(["alone"], 0.5, 0, "") == ["alone"]


def test_a_part_and_another_order_of_a_label_space_keep_what_is_known_of_each_class() -> None:
    space = described("cat", "dog", "eel", "fox", "gnu", "hen", "ibis")
    part = subspace(space, ["eel", "cat"])
    assert (part.labels.ids, part.source) == (("eel", "cat"), space.source)
    assert part.descriptions == {"eel": space.descriptions["eel"], "cat": space.descriptions["cat"]}  # type: ignore[index]
    assert subspace(LabelSpace.of_labels(space.labels), ["eel"]).descriptions is None
    other = reordered_space(space, 0, "class order 0")
    assert sorted(other.labels.ids) == sorted(space.labels.ids)
    assert other.labels.ids != space.labels.ids
    assert other.labels.digest == space.labels.digest
    assert other.labels.ids == reordered_space(other, 0, "class order 0").labels.ids


def test_classes_that_are_there_already_are_found_by_id_name_and_alias() -> None:
    space = LabelSpace.of_labels(from_names(["Hot Dog", "cat"]))
    others = LabelSet(
        "others",
        (
            ClassLabel("a", "hot_dog"),
            ClassLabel("cat", "something else"),
            ClassLabel("b", "feline", aliases=("Cat",)),
            ClassLabel("c", "bird"),
        ),
    )
    assert distinct_classes(space, LabelSpace.of_labels(others)) == ["c"]


def test_how_many_classes_are_added() -> None:
    assert [default_counts(count) for count in (1, 20, 21, 100, 999, 5000)] == [
        [1], [20], [10, 21], [10, 100], [10, 100, 999], [10, 100, 1000, 5000],
    ]  # fmt: skip


def test_added_classes_stand_behind_with_descriptions_or_a_template() -> None:
    space, others = described("cat", "dog"), described("bird", "cat")
    more = LabelSpace(from_names(["bird", "emu"]), {"bird": others.descriptions["bird"]}, "more")  # type: ignore[index]
    joined = added_space(space, more, ["emu", "bird"])
    assert joined.labels.ids == ("cat", "dog", "added:emu", "added:bird")
    assert joined.names["added:emu"] == "emu"
    assert joined.descriptions is not None
    texts = {class_id: [entry.text for entry in entries] for class_id, entries in joined.descriptions.items()}
    assert texts["added:emu"] == ["a photo of a emu."]
    assert texts["added:bird"] == ["bird has a mark"]
    assert texts["cat"] == ["cat has a mark"]
    assert added_space(LabelSpace.of_labels(space.labels), others, ["bird"]).descriptions is None
    # an id of its own, where the same id means something else
    assert added_space(space, others, ["cat"]).labels.ids == ("cat", "dog", "added:cat")


def test_a_long_tail_falls_from_the_largest_number_to_a_part_of_it() -> None:
    labels = [f"class-{number}" for number in range(11) for _ in range(100)]
    images = [f"sha256:{number:064x}" for number in range(1100)]
    kept = long_tail(labels, images, 100, 0, "long tail 0")
    counts = sorted(Counter(labels[position] for position in kept).values(), reverse=True)
    assert counts == [round(100 / 100 ** (rank / 10)) for rank in range(11)]
    assert (np.diff(kept) > 0).all()
    other = long_tail(labels, images, 100, 1, "long tail 0")
    assert len(other) == len(kept)
    assert other.tolist() != kept.tolist()
    back = long_tail(labels[::-1], images[::-1], 100, 0, "long tail 0")
    assert sorted(images[::-1][position] for position in back) == sorted(images[position] for position in kept)


@pytest.mark.parametrize(("sizes", "expected"), [([3, 1, 1], {1, 2, 3}), ([1], {1}), ([2, 2], {1, 2})])
def test_a_class_gives_what_it_has(sizes: list[int], expected: set[int]) -> None:
    labels = [f"class-{place}" for place, size in enumerate(sizes) for _ in range(size)]
    kept = long_tail(labels, [str(number) for number in range(len(labels))], 10, 0, "")
    counts = Counter(labels[position] for position in kept)
    assert len(counts) == len(sizes)
    assert set(counts.values()) <= expected
    assert all(counts[f"class-{place}"] <= size for place, size in enumerate(sizes))
