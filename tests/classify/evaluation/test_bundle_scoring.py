"""Sentences of a bundle scored on images: what is counted, what is said beside it, and what is refused."""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluations import described
from PIL import Image

from abs_classify import AdaptiveViews, Classifier, score_bundle
from abs_classify.datasets import open_dataset
from abs_classify.methods.class_texts import Sentences
from abs_classify.methods.scoring import SoftMatch
from abs_classify.methods.table import METHODS, Method
from abs_classify.methods.views import FullImage
from abs_core.bundle_scores import BundleScores
from abs_core.descriptions import Description, LabelSpace
from abs_core.errors import DatasetError, ImageError, UsageError
from abs_core.labels import from_names


@dataclass(frozen=True)
class SmallScoring:
    """Scores with a small model, attention of its own, and two views of each kind, unless an option says more."""

    model: str
    cache: Path

    def __call__(self, space: LabelSpace, **settings: Any) -> BundleScores:
        defaults = {"model": self.model, "attention": "self", "views": 2, "cache": self.cache}
        return score_bundle(space, **{**defaults, **settings})


@pytest.fixture(scope="module")
def score(small_clips: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> SmallScoring:
    return SmallScoring(small_clips[0], tmp_path_factory.mktemp("cache"))


def test_counts_of_sentences_and_classes_fit_together(score: SmallScoring, image_folder: Callable[..., Path]) -> None:
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


@pytest.mark.parametrize("method", ["abs", "abs-pixels", "cupl", "clip-d", "wca", "abs-mean", "abs-hard"])
def test_reduced_bundles_evaluated_as_any_other_say_the_same(
    method: str, score: SmallScoring, image_folder: Callable[..., Path], small_clips: tuple[str, str]
) -> None:
    """Each bundle without one sentence goes through ``Classifier``: the same labels, and scores within 1e-5."""
    space = described("pets", "ant", "bee", "cat")
    folder = image_folder("three", ant=5, bee=4, cat=4)
    scores = score(space, dataset=f"imagefolder:{folder}", method=method, **_views(method))
    truth = [path.parent.name for path in sorted(folder.glob("*/*.png"))]
    truth = [["ant", "bee", "cat"].index(name) for name in truth]

    def classified(reduced: LabelSpace) -> np.ndarray:
        settings = {"attention": "self", "cache": score.cache, **_views(method)}
        classifier = Classifier(small_clips[0], reduced, method=method, **settings)
        predictions = classifier.classify(sorted(folder.glob("*/*.png")), top=3)
        ranked = [{entry.class_id: entry.score for entry in prediction.ranking} for prediction in predictions]
        return np.array([[row[class_id] for class_id in space.names] for row in ranked])

    before = classified(space)
    label = before.argmax(1)
    assert scores.right == (label == truth).sum()
    for item in scores.sentences:
        without = classified(_without(space, item.class_id, item.text))
        now, doubtful = without.argmax(1), (_leads(without) < 1e-5 * np.abs(without).max()).sum()
        assert item.gain is not None
        assert item.margin is not None
        assert abs(item.changed - (now != label).sum()) <= doubtful
        assert abs(item.gain.won - ((label == truth) & (now != truth)).sum()) <= doubtful
        assert abs(item.gain.lost - ((label != truth) & (now == truth)).sum()) <= doubtful
        own = np.array(truth) == list(space.names).index(item.class_id)
        raised = _margins(before, truth)[own] - _margins(without, truth)[own]
        assert item.margin == pytest.approx(raised.mean(), abs=1e-5 * np.abs(before).max())


@pytest.mark.parametrize("method", ["abs", "cupl", "wca", "abs-hard"])
def test_names_in_place_of_sentences_evaluated_as_any_other_say_the_same(
    method: str, score: SmallScoring, image_folder: Callable[..., Path], small_clips: tuple[str, str]
) -> None:
    space = described("pets", "ant", "bee", "cat")
    folder = image_folder("three", ant=5, bee=4, cat=4)
    scores = score(space, dataset=f"imagefolder:{folder}", method=method, **_views(method))
    assert space.descriptions is not None
    for item in scores.classes:
        named = {**space.descriptions, item.class_id: [Description(f"a photo of a {item.name}.")]}
        classifier = Classifier(
            small_clips[0], LabelSpace(space.labels, named, ""), method=method, attention="self", cache=score.cache,
            **_views(method),
        )  # fmt: skip
        right = sum(
            prediction.class_id == Path(prediction.image_name).parent.name
            for prediction in classifier.classify(sorted(folder.glob("*/*.png")))
        )
        assert item.over_name is not None
        assert scores.right is not None
        assert scores.right - right == item.over_name.won - item.over_name.lost


def test_images_without_labels_give_usage_and_confusion(score: SmallScoring, image_folder: Callable[..., Path]) -> None:
    space = described("pets", "ant", "bee", "cat")
    folder = image_folder("three", ant=4, bee=3, cat=3)
    known, unknown = score(space, dataset=f"imagefolder:{folder}"), score(space, images=folder)
    assert (unknown.has_truth, unknown.right, unknown.images) == (False, None, 10)
    assert sum(item.images for item in unknown.classes) == 10
    assert sum(part.images for item in unknown.classes for part in item.confused) == 10
    for item, other in zip(unknown.sentences, known.sentences, strict=True):
        assert (item.gain, item.margin, item.pulled) == (None, None, ())
        assert item.changed == other.changed
        assert item.usage == pytest.approx(other.usage)
    listed = score(space, images=sorted(folder.glob("*/*.png")), limit=4)
    assert (listed.images, listed.remarks[0]) == (4, "the first 4 of 10 images: no random sample")


def test_a_class_with_one_sentence_has_nothing_without_it(
    score: SmallScoring, image_folder: Callable[..., Path]
) -> None:
    space = described("pets", "ant", "bee")
    assert space.descriptions is not None
    single = LabelSpace(space.labels, {**space.descriptions, "bee": space.descriptions["bee"][:1]}, space.source)
    for method in ("abs", "cupl", "abs-hard"):
        *ants, bee = score(single, images=image_folder("two", ant=3, bee=3), method=method, **_views(method)).sentences
        assert (bee.is_only, bee.gain, bee.margin, bee.changed) == (True, None, None, 0)
        assert bee.usage > 0
        assert not any(item.is_only for item in ants)


def test_examples_are_small_and_no_more_than_asked_for(score: SmallScoring, image_folder: Callable[..., Path]) -> None:
    space, folder = described("pets", "ant", "bee"), image_folder("two", ant=6, bee=6)
    many = score(space, dataset=f"imagefolder:{folder}")
    assert 3 < len(many.examples) <= 12
    for example in many.examples:
        with Image.open(io.BytesIO(base64.b64decode(example.thumbnail))) as picture:
            assert (picture.format, picture.size) == ("JPEG", (24, 20))
        assert example.path.endswith(".png")
        assert example.true_class == Path(example.path).parent.name
    assert all(item.examples for item in many.sentences)
    few = score(space, dataset=f"imagefolder:{folder}", examples=3)
    assert len(few.examples) == 3
    assert f"3 of {len(many.examples)} images that sentences win" in few.remarks[-1]
    assert score(space, dataset=f"imagefolder:{folder}", examples=0).examples == ()


def test_images_that_cannot_be_read_stop_the_run_or_are_counted(
    score: SmallScoring, image_folder: Callable[..., Path]
) -> None:
    space, folder = described("pets", "ant", "bee"), image_folder("two", ant=2, bee=2)
    (folder / "ant" / "00.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"00\.png"):
        score(space, dataset=f"imagefolder:{folder}")
    scores = score(space, dataset=f"imagefolder:{folder}", on_error="skip")
    assert scores.images == 3
    assert "left out: 1 image that could not be read" in scores.remarks
    for path in folder.glob("*/*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"no image of .* could be used"):
        score(space, dataset=f"imagefolder:{folder}", on_error="skip")


def test_only_classes_that_a_data_set_selects_can_win(score: SmallScoring, image_folder: Callable[..., Path]) -> None:
    dataset = open_dataset(f"imagefolder:{image_folder('three', ant=4, bee=4, cat=0)}")
    selected = dataclasses.replace(dataset, selected=("ant", "bee"))
    scores = score(described("pets", "ant", "bee", "cat"), dataset=selected)
    assert "cat" not in {part.class_id for item in scores.classes for part in item.confused}


def _views(method: str) -> dict[str, Any]:
    return {"views": None if method in ("cupl", "clip-d") else 2}


def _without(space: LabelSpace, class_id: str, text: str) -> LabelSpace:
    assert space.descriptions is not None
    left = [item for item in space.descriptions[class_id] if item.text != text]
    return LabelSpace(space.labels, {**space.descriptions, class_id: left}, "")


def _margins(scores: np.ndarray, truth: list[int]) -> np.ndarray:
    """By how much the true class leads the best other one."""
    own = np.arange(len(truth)), truth
    others = scores.copy()
    others[own] = -np.inf
    margins: np.ndarray = scores[own] - others.max(1)
    return margins


def _leads(scores: np.ndarray) -> np.ndarray:
    leads: np.ndarray = np.subtract(*np.sort(scores, axis=1)[:, [-1, -2]].T)
    return leads


@pytest.mark.parametrize("method", ["clip", "clip-e", "waffle", "mta", "zero", "tda", "awt", "abs-vote"])
def test_methods_for_which_the_question_has_no_answer_are_refused(method: str) -> None:
    with pytest.raises(UsageError, match=f"the method '{method}' cannot score") as refused:
        score_bundle(described("pets", "ant", "bee"), images="nowhere", method=method)
    assert "clip-d, clip-d-wca, cupl, wca, abs, abs-random" in str(refused.value)


def test_a_method_of_the_first_sentences_alone_is_refused() -> None:
    method = Method("first", "", (FullImage(),), Sentences(limit=2), SoftMatch())
    with pytest.raises(UsageError, match="another one takes the place"):
        score_bundle(described("pets", "ant", "bee"), images="nowhere", method=method)
    assert method.name not in METHODS


@pytest.mark.parametrize("views", ["adaptive", AdaptiveViews(), True])
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
    with pytest.raises(UsageError, match="limit must be 1 image or more, got 0"):
        score_bundle(pair, images=str(folder), limit=0)
    with pytest.raises(UsageError, match="examples must be 0 or more, got -1"):
        score_bundle(pair, images=str(folder), examples=-1)
