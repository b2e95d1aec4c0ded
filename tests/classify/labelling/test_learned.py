"""What was learned, saved and loaded again, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from abs_classify.labelling.fitting import ConformalSets
from abs_classify.labelling.heads import CacheHead, LinearHead
from abs_classify.labelling.learned import Learned, LearnedHead
from abs_core.errors import ResultError

RNG = np.random.default_rng(0)
PROBABILITIES = np.array([[0.5, 0.3, 0.2], [0.2, 0.4, 0.4], [0.1, 0.2, 0.7]])
FEATURES = np.eye(3, 4)
CHOSEN = np.array([1, 2, 2])

HEADS = {
    "linear": LearnedHead(LinearHead(RNG.normal(size=(3, 4)), RNG.normal(size=3)), 0.5, True),
    "cache": LearnedHead(CacheHead(FEATURES, np.array([2, 0, 0]), 3, 5.0), 2.0, False),
    "none": LearnedHead(None, 0.0, False),
}


def learned(head: LearnedHead | None) -> Learned:
    sets = ConformalSets("lac", 0.9, float("inf"), 20, 3.0)
    return Learned(1.7, 20, head, 0.5, sets, 0.4, {"model": "m", "classes": ["a", "b", "c"]})


@pytest.mark.parametrize("head", [None, *HEADS.values()], ids=["labels kept", *HEADS])
def test_what_is_saved_is_loaded(tmp_path: Path, head: LearnedHead | None) -> None:
    saved = learned(head)
    saved.save(tmp_path)
    loaded = Learned.load(tmp_path, saved.subject)
    assert loaded.generation == saved.generation > 0
    assert (loaded.sets, loaded.threshold, loaded.known) == (saved.sets, saved.threshold, saved.known)
    for first, second in zip(
        saved.apply(PROBABILITIES, FEATURES, CHOSEN), loaded.apply(PROBABILITIES, FEATURES, CHOSEN), strict=True
    ):
        np.testing.assert_array_equal(first, second)


def test_without_a_head_labels_stay_and_ties_stay_with_the_label() -> None:
    labels, confidences = learned(None).apply(PROBABILITIES, FEATURES, CHOSEN)
    assert (labels == CHOSEN).all()
    np.testing.assert_allclose(confidences, PROBABILITIES**1.7 / (PROBABILITIES**1.7).sum(1, keepdims=True))
    kept = LearnedHead(LinearHead(np.zeros((3, 4)), np.zeros(3)), 1.0, True)
    assert (learned(kept).apply(PROBABILITIES, FEATURES, CHOSEN)[0] == CHOSEN).all()
    assert learned(HEADS["none"]).apply(PROBABILITIES, FEATURES, CHOSEN)[0].tolist() == [0, 1, 2]


def test_a_later_save_replaces_the_earlier_one(tmp_path: Path) -> None:
    learned(HEADS["linear"]).save(tmp_path)
    learned(HEADS["cache"]).save(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    learned(None).save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["learned.json"]


def test_nothing_saved_is_nothing_learned(tmp_path: Path) -> None:
    assert Learned.load(tmp_path, {"model": "m"}) == Learned()


def test_another_subject_is_refused_with_the_difference(tmp_path: Path) -> None:
    learned(None).save(tmp_path)
    with pytest.raises(ResultError, match=r"learned with another classes, model\."):
        Learned.load(tmp_path, {"model": "other", "classes": ["a"]})


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    learned(HEADS["linear"]).save(tmp_path)
    file = tmp_path / "learned.json"
    arrays = next(tmp_path.glob("head-*"))
    good, good_arrays = file.read_bytes(), arrays.read_bytes()
    record = json.loads(good)
    for bad in (
        b"",
        b"[]",
        b"{}",
        good[:-30],
        b"\xff",
        json.dumps({**record, "threshold": 0.1}).encode(),
        json.dumps({**record, "format_version": 2}).encode(),
    ):
        file.write_bytes(bad)
        with pytest.raises(ResultError):
            Learned.load(tmp_path)
    file.write_bytes(good)
    arrays.write_bytes(good_arrays[:-1] + b"x")
    with pytest.raises(ResultError, match="is not the file"):
        Learned.load(tmp_path)


def test_images_of_another_model_are_refused() -> None:
    with pytest.raises(ResultError, match="3 classes and features of 4 dimensions"):
        learned(HEADS["linear"]).apply(PROBABILITIES, np.eye(3, 5), CHOSEN)
    with pytest.raises(ResultError, match="3 classes and features of 4 dimensions"):
        learned(HEADS["cache"]).apply(PROBABILITIES[:, :2], FEATURES, CHOSEN % 2)
