"""What a change of a bundle wins and loses, against evaluations of the bundles that undoing it gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluations import Bench

from abs_classify import BundleComparison, EvaluationObserver, compare_bundles
from abs_classify.evaluation.bundle_comparison import GainCriteria
from abs_classify.evaluation.job import RankedPass
from abs_classify.evaluation.metrics import PairedComparison
from abs_classify.evaluation.sentence_changes import undone
from abs_core.descriptions import Description, LabelSpace
from abs_core.errors import DatasetError, UsageError
from abs_core.labels import LabelSet, from_names

Folder = Callable[..., Path]
NAMES = ("cat", "car", "dog", "eel")


def space(version: str, *, names: tuple[str, ...] = NAMES, **sentences: list[str]) -> LabelSpace:
    """Three sentences for each class, or those that are given."""
    labels = from_names(names)
    descriptions = {
        name: [Description(text) for text in sentences.get(name, [f"{name} has mark {n}." for n in range(3)])]
        for name in names
    }
    return LabelSpace(labels, descriptions, f"things@{version}#{labels.digest}")


OLD = space("1.0.0")
NEW = space(
    "1.1.0",
    cat=["q w e r t", "cat has mark 1.", "zz top"],
    dog=["dog has mark 0.", "dog has mark 1.", "dog has mark 9."],
    eel=["the only one of eel"],
)


def compared(
    bench: Bench, data: Path, old: LabelSpace = OLD, new: LabelSpace = NEW, **options: Any
) -> BundleComparison:
    settings: dict[str, Any] = {"model": bench.model, "attention": "self", "device": "cpu", "views": 2}
    return compare_bundles(old, new, f"imagefolder:{data}", cache=bench.store, **(settings | options))


def without_changes(comparison: BundleComparison) -> dict[str, LabelSpace]:
    """The bundles that undoing a class or a sentence gives, by the class or by what changed."""
    new = NEW.descriptions or {}
    undone_by = {
        entry.class_id: (OLD.descriptions or {})[entry.class_id] for entry in comparison.classes if entry.is_changed
    }
    spaces = {name: LabelSpace(NEW.labels, {**new, name: kept}, name) for name, kept in undone_by.items()}
    for entry in comparison.sentences:
        if not entry.is_only:
            class_id = entry.change.class_id
            kept = undone([entry.change], new[class_id])
            spaces[str(entry.change.texts)] = LabelSpace(NEW.labels, {**new, class_id: kept}, str(entry.change.texts))
    return spaces


@pytest.fixture
def data(image_folder: Folder) -> Path:
    return image_folder("data", cat=12, car=9, dog=10, eel=8)


def right_by_space(bench: Bench, data: Path, method: str, spaces: dict[str, LabelSpace]) -> dict[str, np.ndarray]:
    """Which images evaluations get right."""
    records = bench.run(data, method, descriptions=list(spaces.values()))
    return {name: record.right for name, record in zip(spaces, records, strict=True)}


@pytest.mark.slow
def test_every_number_is_that_of_an_evaluation_with_the_change_undone(bench: Bench, data: Path) -> None:
    comparison = compared(bench, data)
    right = right_by_space(bench, data, "abs", {"old": OLD, "new": NEW, **without_changes(comparison)})

    def expected(other: str, chosen: slice | np.ndarray = slice(None)) -> PairedComparison:
        return PairedComparison.of_images("new", right["new"][chosen], "old", right[other][chosen])

    assert comparison.gain == expected("old")
    assert comparison.gain.first_only + comparison.gain.second_only > 0
    truth = np.repeat(["car", "cat", "dog", "eel"], [9, 12, 10, 8])
    for entry in comparison.classes:
        assert entry.gain == expected("old", truth == entry.class_id)
        assert entry.alone == (expected(entry.class_id) if entry.class_id != "car" else None)
    for sentence in comparison.sentences:
        assert sentence.alone == (None if sentence.is_only else expected(str(sentence.change.texts)))
    assert [entry.change.texts for entry in comparison.sentences if entry.is_only] == [("the only one of eel",)]
    assert [(c.class_id, c.added, c.removed, c.edited) for c in comparison.classes] == [
        ("cat", 2, 2, 0),
        ("car", 0, 0, 0),
        ("dog", 0, 0, 1),
        ("eel", 1, 3, 0),
    ]


@pytest.mark.slow
def test_a_method_that_weighs_texts_by_their_class_is_scored_anew(bench: Bench, data: Path) -> None:
    comparison = compared(bench, data, method="wca")
    kept = LabelSpace(NEW.labels, {**(NEW.descriptions or {}), "cat": (OLD.descriptions or {})["cat"]}, "kept")
    right = right_by_space(bench, data, "wca", {"new": NEW, "kept": kept})
    assert comparison.classes[0].alone == PairedComparison.of_images("new", right["new"], "old", right["kept"])


@pytest.mark.slow
def test_the_second_version_and_undoing_cost_only_texts(bench: Bench, data: Path) -> None:
    first = compared(bench, data)
    assert first.work.images_computed == 39
    views = first.work.views_computed
    assert views == 39 * 4
    # a class in which one sentence changed, which is one version already
    few = space("1.1.1", cat=["q w e r t", "cat has mark 1.", "cat has mark 2."])
    again = compared(bench, data, new=few)
    assert (again.work.views_computed, again.work.texts_computed) == (0, 0)
    assert again.classes[0].alone == again.gain


@pytest.mark.slow
def test_the_order_of_classes_is_no_difference(bench: Bench, data: Path) -> None:
    turned = LabelSpace(LabelSet("x", OLD.labels.classes[::-1]), OLD.descriptions, "turned@1")
    assert compared(bench, data, turned).gain == compared(bench, data).gain
    assert [c.class_id for c in compared(bench, data, NEW, turned).classes] == ["eel", "dog", "car", "cat"]


@pytest.mark.slow
def test_lost_images_say_where_they_went(bench: Bench, data: Path) -> None:
    there, back = compared(bench, data), compared(bench, data, NEW, OLD)
    for comparison in (there, back):
        for entry in comparison.classes:
            assert entry.gain is not None
            assert sum(images for _, images in entry.lost_to) == entry.gain.second_only
            assert entry.class_id not in dict(entry.lost_to)
    assert there.gain is not None
    assert back.gain is not None
    assert (there.gain.first_only, there.gain.second_only) == (back.gain.second_only, back.gain.first_only)
    assert any(entry.lost_to for comparison in (there, back) for entry in comparison.classes)


class Labels(EvaluationObserver):
    """Keeps the position of the class that each image gets, for each label space."""

    def __init__(self) -> None:
        self.labels: list[np.ndarray] = []

    def ranked(self, ranked: RankedPass) -> None:
        self.labels.append(ranked.scored.methods["abs"].top[:, 0])


@pytest.mark.slow
def test_as_many_changes_are_undone_as_asked_for_where_most_labels_changed(bench: Bench, data: Path) -> None:
    seen = Labels()
    bench.run(data, "abs", descriptions=[OLD, NEW], observer=seen)
    old, new = seen.labels
    moved = {name: int(((old != new) & ((old == at) | (new == at))).sum()) for at, name in enumerate(NAMES)}
    ranking = sorted((name for name in NAMES if name != "car"), key=lambda name: -moved[name])
    first = compared(bench, data, undo=1)
    assert [entry.class_id for entry in first.classes if entry.alone is not None] == ranking[:1]
    comparison = compared(bench, data, undo=4)
    assert [entry.alone is not None for entry in comparison.classes] == [True, False, True, True]
    # the class of one change, dog, has its number from the class
    known = {entry.change.class_id for entry in comparison.sentences if entry.alone is not None}
    assert known == {"dog", next(name for name in ranking if name != "dog")}
    assert any("6 changes were not undone alone, beyond the 4 that were" in text for text in comparison.remarks)
    none = compared(bench, data, undo=0)
    assert none.gain == comparison.gain
    assert all(entry.alone is None for entry in none.classes)
    assert not any("undone" in text for text in none.remarks)


def test_the_same_sentences_leave_nothing_to_test(tmp_path: Path) -> None:
    copy = LabelSpace(OLD.labels, OLD.descriptions, "things@1.0.1")
    comparison = compare_bundles(OLD, copy, f"imagefolder:{tmp_path}", min_gain=1)
    assert (comparison.passed, comparison.gain, comparison.results) == (True, None, None)
    assert comparison.verdict == "nothing to test: OLD and NEW have the same sentences"
    assert comparison.verdict in str(comparison)


def test_what_cannot_be_tested_is_refused(bench: Bench, image_folder: Folder, tmp_path: Path) -> None:
    data = image_folder("few", cat=1, car=1)
    for method in ("clip", "waffle", "tda"):
        with pytest.raises(UsageError, match=f"'{method}' does not score an image by the sentences of a bundle alone"):
            compared(bench, data, method=method, views=None)
    with pytest.raises(UsageError, match=r"things@1.0.0.* different label sets: 1 class only in NEW: 'fox'"):
        compared(bench, data, new=space("2", names=(*NAMES, "fox")))
    with pytest.raises(
        DatasetError, match=r"'gnu'.* is not a candidate class of things@1.1.0.*Use images of the classes of"
    ):
        compared(bench, image_folder("other", cat=1, gnu=1))
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    with pytest.raises(DatasetError, match="no image"):
        compared(bench, tmp_path / "empty")
    with pytest.raises(UsageError, match="views must be a whole number from 1 on, got 'adaptive'"):
        compared(bench, data, views="adaptive")
    with pytest.raises(UsageError, match="undo must be 0 or more, got -1"):
        compared(bench, data, undo=-1)


@pytest.mark.parametrize(("name", "value"), [("min_gain", float("nan")), ("min_gain", 101.0), ("max_loss", -1.0)])
def test_limits_must_be_points(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} must be from .* to 100 points of top-1, got"):
        GainCriteria(**{name: value})


def gain(both: int, won: int, lost: int, neither: int) -> PairedComparison:
    return PairedComparison.of_counts("new", "old", both=both, first_only=won, second_only=lost, neither=neither)


@pytest.mark.parametrize(
    ("limits", "counts", "passed", "reason"),
    [
        (
            {},
            (300, 0, 20, 80),
            False,
            "the gain is -5.0 points of top-1 [-7.3, -2.8], and the 95 % interval lies below 0",
        ),
        ({}, (300, 10, 12, 78), True, "does not lie below 0"),
        ({}, (300, 0, 1, 99), True, "does not lie below 0"),
        ({"min_gain": 1.0}, (300, 40, 2, 58), True, "the lower end of the 95 % interval must be +1 or more"),
        (
            {"min_gain": 9.0},
            (300, 40, 2, 58),
            False,
            "must be +9 or more, and 400 images cannot show it either way: with",
        ),
        ({"min_gain": 15.0}, (300, 40, 2, 58), False, "the lower end of the 95 % interval must be +15 or more"),
        (
            {"max_loss": 1.0},
            (300, 5, 5, 90),
            False,
            "must be -1 or more, and 400 images cannot show it either way: with",
        ),
        ({"max_loss": 2.0}, (300, 5, 5, 90), True, "the lower end of the 95 % interval must be -2 or more"),
        ({"max_loss": 2.0, "min_gain": 0.0}, (300, 5, 5, 90), False, "must be +0 or more, and 400 images cannot"),
    ],
)
def test_the_verdict_compares_the_lower_end(
    limits: dict[str, float], counts: tuple[int, int, int, int], passed: bool, reason: str
) -> None:
    criteria = GainCriteria(**limits)
    comparison = BundleComparison("a", "b", criteria, None, gain(*counts), (), (), (), None)  # type: ignore[arg-type]
    assert comparison.passed is passed
    assert comparison.verdict.startswith("passed: " if passed else "failed: ")
    assert reason in comparison.verdict


def test_the_limit_itself_passes_and_advice_holds() -> None:
    counts = (300, 5, 5, 90)
    low = 100 * gain(*counts).low
    assert GainCriteria(min_gain=low).passes(gain(*counts))
    assert not GainCriteria(min_gain=low + 1e-9).passes(gain(*counts))
    comparison = BundleComparison("a", "b", GainCriteria(max_loss=1), None, gain(*counts), (), (), (), None)  # type: ignore[arg-type]
    needed = int(comparison.verdict.rpartition("about ")[2].partition(" ")[0].replace(",", ""))
    factor = needed / 400
    more = gain(*(round(factor * count) for count in counts))
    fewer = gain(*(round(0.9 * factor * count) for count in counts))
    assert GainCriteria(max_loss=1).passes(more)
    assert not GainCriteria(max_loss=1).passes(fewer)
    # a gain below what is asked is not shown by any number of images
    assert (
        "about"
        not in BundleComparison("a", "b", GainCriteria(min_gain=1), None, gain(*counts), (), (), (), None).verdict
    )  # type: ignore[arg-type]
