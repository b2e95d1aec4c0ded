"""`abs classify` against `Classifier` and against the parts of a method, each fed by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bundle_samples import import_texts
from support import Abs

from abs_classify import Classifier, get_method
from abs_classify.encoding.encoder import encode_images
from abs_classify.images import load_image
from abs_classify.methods.class_texts import ClassTextInputs
from abs_classify.methods.scoring import ClassTextFeatures
from abs_classify.methods.similarity import unit
from abs_classify.methods.views import FullImage
from abs_classify.models.attention import load_attention
from abs_classify.models.registry import load_model
from abs_core.descriptions import Description

TEXTS = {"cat": ["A cat has whiskers.", "A cat purrs."], "car": ["A car has wheels."], "dog": ["A dog barks."]}


@pytest.mark.parametrize("method", ["clip", "cupl", "wca", "abs"])
def test_the_command_the_class_and_the_parts_agree(
    abs_command: Abs, folder: Callable[..., Path], small_clips: tuple[str, str], method: str
) -> None:
    photos = sorted(folder(cat=["a.png", "b.png"], car=["c.png"]).rglob("*.png"))
    lines = [f"{name}\t{text}" for name, texts in TEXTS.items() for text in texts]
    views = None if method in ("clip", "cupl") else 3
    options = ["--bundle", import_texts(abs_command, "pets", *lines), "--model", small_clips[0], "--attention", "self"]
    options += ["--method", method, "--threads", "1", *(["--views", str(views)] if views else [])]
    ran = abs_command("classify", *photos, *options, "--top", "3", "--json")
    assert ran.code == 0, ran.err
    printed = [json.loads(line)["ranking"] for line in ran.out.splitlines()]
    commanded = [{ranked["class"]: ranked["score"] for ranked in ranking} for ranking in printed]

    classifier = Classifier(small_clips[0], TEXTS, method=method, views=views, attention="self")
    predicted = [
        {ranked.class_id: ranked.score for ranked in prediction.ranking}
        for prediction in classifier.classify(photos, top=3)
    ]
    by_hand = scores_by_hand(small_clips[0], method, photos)
    for scores, others in zip(by_hand, zip(commanded, predicted, strict=True), strict=True):
        for other in others:
            assert other == pytest.approx(scores, rel=1e-4, abs=1e-5)


def scores_by_hand(name: str, method_name: str, photos: list[Path]) -> list[dict[str, float]]:
    """The scores of each photo by class, from a method's views, texts and scorer."""
    model, method = load_model(name), get_method(method_name)
    views = [view if isinstance(view, FullImage) else replace(view, count=3) for view in method.views]
    descriptions = {name: [Description(text) for text in texts] for name, texts in TEXTS.items()}
    texts = method.texts.build(ClassTextInputs({name: name for name in TEXTS}, descriptions))
    features = ClassTextFeatures(
        unit(model.encode_text(texts.texts)),
        torch.tensor(texts.class_index),
        unit(model.encode_text([f"a photo of a {name}." for name in TEXTS])),
    )
    encoded = encode_images(model, load_attention("self", model), [load_image(path) for path in photos], views)
    scores = method.scorer.scores({view.kind: encoded.features[view] for view in views}, features)  # type: ignore[union-attr]
    return [dict(zip(TEXTS, row, strict=True)) for row in scores.tolist()]
