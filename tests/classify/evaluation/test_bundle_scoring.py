"""Sentences of a bundle scored on images: what is counted, what is said beside it, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from evaluations import described

from abs_classify import AdaptiveViews, score_bundle
from abs_classify.methods.class_texts import Sentences
from abs_classify.methods.scoring import SoftMatch
from abs_classify.methods.table import METHODS, Method
from abs_classify.methods.views import FullImage
from abs_core.bundle_scores import BundleScores
from abs_core.descriptions import LabelSpace
from abs_core.errors import DatasetError, UsageError
from abs_core.labels import from_names


@pytest.fixture(scope="module")
def score(small_clips: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., BundleScores]:
    """Scores with a small model, attention of its own, and two views of each kind."""
    cache = tmp_path_factory.mktemp("cache")

    def run(space: LabelSpace, **settings: Any) -> BundleScores:
        return score_bundle(
            space, **{"model": small_clips[0], "attention": "self", "views": 2, "cache": cache, **settings}
        )

    return run


def test_counts_of_sentences_and_classes_fit_together(
    score: Callable[..., BundleScores], image_folder: Callable[..., Path]
) -> None:
    space = described("pets", "ant", "bee", "cat")
    scores = score(space, dataset=f"imagefolder:{image_folder('three', ant=4, bee=3, cat=3)}")
    assert (scores.images, scores.has_truth, scores.bundle) == (10, True, space.source)
    assert [(item.class_id, item.images) for item in scores.classes] == [("ant", 4), ("bee", 3), ("cat", 3)]
    assert sum(item.right or 0 for item in scores.classes) == scores.right
    assert space.descriptions is not None
    texts = [(class_id, item.text) for class_id, items in space.descriptions.items() for item in items]
    assert [(item.class_id, item.text) for item in scores.sentences] == texts
    assert sum(item.usage for item in scores.sentences) == pytest.approx(1, abs=1e-6)
    for item in scores.sentences:
        assert item.gain is not None
        assert item.gain.images == 10
        assert item.gain.won + item.gain.lost <= item.changed
        assert item.gain.interval.low <= item.gain.points <= item.gain.interval.high
        assert item.margin is not None


@pytest.mark.parametrize("method", ["clip", "clip-e", "waffle", "mta", "zero", "tda"])
def test_methods_for_which_the_question_has_no_answer_are_refused(method: str) -> None:
    with pytest.raises(UsageError, match=f"the method '{method}' cannot score") as refused:
        score_bundle(described("pets", "ant", "bee"), images="nowhere", method=method)
    assert "clip-d, clip-d-wca, cupl, wca, abs, abs-random" in str(refused.value)


def test_a_method_of_the_first_sentences_alone_is_refused() -> None:
    method = Method("first", "", (FullImage(),), Sentences(limit=2), SoftMatch())
    with pytest.raises(UsageError, match="another one takes the place"):
        score_bundle(described("pets", "ant", "bee"), images="nowhere", method=method)
    assert method.name not in METHODS


@pytest.mark.parametrize("views", ["adaptive", AdaptiveViews()])
def test_adaptive_views_are_refused(views: Any) -> None:
    with pytest.raises(UsageError, match="views must be a number"):
        score_bundle(described("pets", "ant", "bee"), images="nowhere", views=views)


def test_what_cannot_be_scored_is_refused(image_folder: Callable[..., Path]) -> None:
    folder = image_folder("three", ant=1, bee=1, cat=1)
    pair, names = described("pets", "ant", "bee"), LabelSpace.of_labels(from_names(["ant", "bee"]))
    with pytest.raises(DatasetError, match=r"'cat' of the data set imagefolder:.* is not a candidate class of pets@1"):
        score_bundle(pair, dataset=f"imagefolder:{folder}")
    with pytest.raises(UsageError, match="has no descriptions"):
        score_bundle(names, dataset=f"imagefolder:{folder}")
    with pytest.raises(UsageError, match="one class leaves nothing to choose"):
        score_bundle(described("pets", "ant"), dataset=f"imagefolder:{folder}")
    with pytest.raises(UsageError, match="the images are not given"):
        score_bundle(pair)
    with pytest.raises(UsageError, match="both given"):
        score_bundle(pair, dataset="demo", images=str(folder))
    with pytest.raises(UsageError, match="stratified needs"):
        score_bundle(pair, images=str(folder), limit=2, stratified=True)
    with pytest.raises(DatasetError, match="no images"):
        score_bundle(pair, images=[])
