"""Usage weights: what soft matching gives each description, summed over images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support import GOLDEN, save_small_clip

from abs_classify.classifier import Classifier
from abs_classify.methods.scoring import all_views
from abs_classify.methods.soft_matching import soft_usage
from abs_classify.models.registry import load_model
from abs_classify.usage import filter_by_use, measure_usage, open_images
from abs_core.errors import DatasetError, ImageError, UsageError

CLASSES = {"tabby": ("A tabby cat has stripes.", "A cat lies on a sofa."), "toaster": ("A toaster holds two slices.",)}
PHOTOS = sorted((GOLDEN / "photos").glob("*.png"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_model(f"local-dir:{save_small_clip(tmp_path_factory.mktemp('clip') / 'small', 0)}")


def test_weights_are_those_of_all_views_of_all_images(model: Any) -> None:
    classifier = Classifier(model, CLASSES, attention="self", views=3)
    usage = measure_usage(classifier, PHOTOS)
    assert sum(usage.weights) == pytest.approx(len(PHOTOS) * 6)
    assert usage.parameters["images"] == len(PHOTOS)
    assert usage.parameters["views"] == 6
    stages, texts = classifier.stages_of_run(), classifier.text_features
    expected = torch.zeros(3, dtype=torch.float64)
    for shard in classifier.identified(PHOTOS):
        features: Any = stages.views(shard, classifier.method.views)  # type: ignore[arg-type]
        views = all_views(classifier.method.views_by_kind(features))
        expected += soft_usage(views, texts.features, texts.class_index, texts.classes, 0.03)
    torch.testing.assert_close(torch.tensor(usage.weights), expected, check_dtype=False, rtol=1e-5, atol=1e-5)


def test_a_filter_by_use_keeps_what_has_most_of_the_weight(model: Any) -> None:
    classifier = Classifier(model, CLASSES, attention="self", views=3)
    weights = measure_usage(classifier, PHOTOS).weights
    kept = filter_by_use(classifier, PHOTOS, keep=1)
    assert kept.descriptions is not None
    best = CLASSES["tabby"][0 if weights[0] > weights[1] else 1]
    assert {key: [item.text for item in own] for key, own in kept.descriptions.items()} == {
        "tabby": [best],
        "toaster": list(CLASSES["toaster"]),
    }
    assert Classifier(model, kept, attention="self", views=3).class_texts.texts == (best, *CLASSES["toaster"])
    everything = filter_by_use(classifier, PHOTOS, share=1.0)
    assert everything.descriptions == classifier.label_space.descriptions


def test_a_filter_by_use_refuses_what_it_cannot_choose_from(model: Any) -> None:
    with pytest.raises(UsageError, match="no descriptions to choose from"):
        filter_by_use(Classifier(model, ["tabby", "toaster"], method="clip"), PHOTOS, keep=1)
    with pytest.raises(UsageError, match=r"share in \(0, 1\], got 2"):
        filter_by_use(Classifier(model, CLASSES), PHOTOS, share=2)


def test_an_image_that_cannot_be_read_stops_or_is_named(model: Any, tmp_path: Path) -> None:
    classifier = Classifier(model, CLASSES, attention="self", views=2)
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"bad\.png"):
        measure_usage(classifier, [PHOTOS[0], bad])
    usage = measure_usage(classifier, [PHOTOS[0], bad], on_error="skip")
    assert usage.weights == pytest.approx(measure_usage(classifier, PHOTOS[:1]).weights)
    assert [image.name for image in usage.skipped] == [str(bad)]
    with pytest.raises(ImageError, match="none of the images"):
        measure_usage(classifier, [bad], on_error="skip")


def test_a_method_without_soft_matching_gives_no_weights(model: Any) -> None:
    with pytest.raises(UsageError, match=r"'cupl' has no soft matching.*Choose one of abs"):
        measure_usage(Classifier(model, CLASSES, method="cupl"), PHOTOS)


def test_images_of_a_folder_at_any_depth_or_of_a_data_set(tmp_path: Path) -> None:
    for place in ("a.png", "deep/er/b.png"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(PHOTOS[0].read_bytes())
    assert [sample.path.name for sample in open_images(str(tmp_path)).samples] == ["a.png", "b.png"]
    assert len(open_images(f"imagefolder:{tmp_path / 'deep'}").samples) == 1
    assert [sample.path for sample in open_images(str(tmp_path / "a.png")).samples] == [tmp_path / "a.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no images in"):
        open_images(str(tmp_path / "empty"))
    with pytest.raises(DatasetError, match="there is no folder or image"):
        open_images(str(tmp_path / "emtpy"))
