"""Models of any torch pair: the registry's numbers, digests that change with what decides them, and clear refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import colour, save_small_clip
from torch import Tensor, nn

import abs_classify
from abs_classify import Classifier, evaluate, load_model
from abs_classify.models.base import Model
from abs_classify.models.open_clip import OpenClipModel
from abs_classify.models.wrapped import TokenGrid, WrappedModel, wrap
from abs_core.errors import ModelError, UsageError


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> OpenClipModel:
    model = load_model(
        f"local-dir:{save_small_clip(tmp_path_factory.mktemp('clip') / 'small', 0)}", device="cpu", runtime="torch"
    )
    assert isinstance(model, OpenClipModel)
    return model


@pytest.fixture
def wrapped(loaded: OpenClipModel) -> Callable[..., WrappedModel]:
    def build(**changed: Any) -> WrappedModel:
        arguments = {"module": loaded.network, "preprocess": loaded.preprocess, "tokenizer": loaded._tokenizer}
        return wrap(**{**arguments, "name": "mine", **changed})

    return build


class Doubled(nn.Module):
    def __init__(self, size: int = 4) -> None:
        super().__init__()
        self.linear = nn.Linear(3, size)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.linear(pixels.mean((-1, -2)))


def lengths(texts: list[str]) -> Tensor:
    return torch.tensor([[len(text), text.count("a"), text.count("e"), 1.0] for text in texts])


def small(image: Any) -> Tensor:
    return torch.from_numpy(np.array(image.resize((2, 2)))).permute(2, 0, 1) / 255


def test_a_wrapped_open_clip_model_gives_the_features_of_the_registry(
    loaded: OpenClipModel, wrapped: Callable[..., WrappedModel]
) -> None:
    model = wrapped()
    assert isinstance(model, Model)
    pixels = torch.stack([loaded.preprocess(colour(seed)) for seed in range(3)])
    assert torch.equal(model.preprocess(colour(0)), pixels[0])
    torch.testing.assert_close(model.encode_image(pixels), loaded.encode_image(pixels), rtol=1e-5, atol=1e-6)
    texts = ["a cat", "A dog wags its tail, and barks at whoever comes near the gate."] * 40
    torch.testing.assert_close(model.encode_text(texts), loaded.encode_text(texts), rtol=1e-5, atol=1e-6)
    assert (model.embed_dim, model.context_length) == (loaded.embed_dim, loaded.context_length)
    assert model.logit_scale == pytest.approx(loaded.logit_scale)
    assert model.count_tokens("a cat") == loaded.count_tokens("a cat")
    assert "no feature windows" in repr(model)


def test_a_wrapped_model_classifies_as_the_registry_s_with_feature_windows_and_attention(
    loaded: OpenClipModel, wrapped: Callable[..., WrappedModel], tmp_path: Path
) -> None:
    assert loaded.split is not None
    model = wrapped(grid=TokenGrid(loaded.grid, loaded.split.embed, loaded.split.finish, loaded.query_attention))
    expected, actual = (
        [
            [ranked.score for ranked in prediction.ranking]
            for prediction in Classifier(
                model, {"cat": ["It has fur."], "dog": ["It barks."]}, attention="self", views=4, cache=tmp_path
            ).classify([colour(1), colour(2)])
        ]
        for model in (loaded, model)
    )
    assert actual == [pytest.approx(scores, rel=1e-4) for scores in expected]


def test_the_digest_changes_with_whatever_decides_a_feature(
    loaded: OpenClipModel, wrapped: Callable[..., WrappedModel]
) -> None:
    tokenizer: Any = loaded._tokenizer
    models = [
        wrapped(),
        wrapped(name="other"),
        wrapped(version="2"),
        wrapped(preprocess=lambda image: loaded.preprocess(image) / 2),
        wrapped(tokenizer=lambda texts: tokenizer([f"{text}!" for text in texts]), context_length=24),
    ]
    assert len({model.digest for model in models}) == len(models)
    assert wrapped().digest == models[0].digest
    pair = [wrap((Doubled(), lengths), small, None, name="a", version="1", context_length=9) for _ in range(2)]
    assert pair[0].digest != pair[1].digest  # other random weights


def test_a_pair_of_encoders_needs_no_methods_of_clip() -> None:
    model = wrap((Doubled(), lengths), small, None, name="pair", version="1", context_length=9, logit_scale=10)
    assert model.embed_dim == 4
    (prediction,) = Classifier(model, ["cat", "dog"], method="clip").classify([colour(0)])
    assert prediction.name in ("cat", "dog")


def test_wrapped_models_are_evaluated_beside_named_ones(
    wrapped: Callable[..., WrappedModel],
    small_clips: tuple[str, str],
    image_folder: Callable[..., Path],
    tmp_path: Path,
) -> None:
    model, data = wrapped(), f"imagefolder:{image_folder('val', cat=2, dog=2)}"
    options: dict[str, Any] = {"labels": ["cat", "dog"], "cache": tmp_path / "cache"}
    mine, named = evaluate(data, [model, small_clips[0]], "clip", **options)  # the same weights
    assert mine.model == "mine"
    assert (mine.right == named.right).all()
    assert evaluate(data, model, "clip", **options).work.images_computed == 0
    with pytest.raises(ModelError, match="has no token grid, and the method 'abs' needs feature windows"):
        evaluate(data, model, "abs", **options)
    with pytest.raises(UsageError, match="two models have the name 'mine'"):
        evaluate(data, [model, wrapped(version="2")], "clip", **options)


def test_what_is_lost_without_tokens_is_said(wrapped: Callable[..., WrappedModel]) -> None:
    model = wrapped()
    with pytest.raises(ModelError, match="no feature windows"):
        list(Classifier(model, ["cat", "dog"], method="abs", attention="none", views=2).classify([colour(0)]))
    with pytest.raises(ModelError, match="has no attention 'self'; it has: none of its own"):
        list(Classifier(model, ["cat", "dog"], method="abs-pixels", attention="self").classify([colour(0)]))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"module": nn.Linear(2, 2)}, "Linear is no torch module with encode_image and encode_text"),
        ({"module": (lengths,)}, "a pair must be"),
        ({"module": (Doubled(), lengths)}, "version must say which"),
        ({"preprocess": lambda image: image}, "got Image"),
        ({"preprocess": lambda image: torch.zeros(1, 3, 4, 4)}, r"got float32 \[1, 3, 4, 4\]"),
        ({"preprocess": lambda image: torch.rand(3, 4, 4)}, "other pixels each time"),
        ({"preprocess": lambda image: torch.zeros(3, *image.size)}, "for one image and"),
        ({"tokenizer": lambda texts: [[1, 2]]}, "tokenizer must give tensors, got list"),
        ({"name": ""}, "no name"),
    ],
)
def test_arguments_that_cannot_be_are_refused(
    wrapped: Callable[..., WrappedModel], changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        wrapped(**{"context_length": 24, **changed})


def test_encoders_of_different_sizes_and_other_outputs_are_refused() -> None:
    with pytest.raises(ModelError, match="have 5 numbers, its text features 4"):
        wrap((Doubled(5), lengths), small, None, name="a", version="1", context_length=9)
    with pytest.raises(ModelError, match=r"image encoder of '.*' must give a tensor \[1, d\], got dict"):
        wrap((lambda pixels: {}, lengths), small, None, name="a", version="1", context_length=9)
    with pytest.raises(UsageError, match="how many tokens"):
        wrap((Doubled(), lengths), small, None, name="a", version="1")


def test_wrap_is_a_public_name() -> None:
    assert abs_classify.wrap is wrap
