"""What transformers writes about a model: defaults, old forms, other kinds of model, and wrong values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abs_classify.models.transformers_configs import TransformersShape, read_preprocess, read_shape
from abs_core.errors import ModelError, WeightsError

CLIP: dict[str, Any] = {"model_type": "clip", "vision_config": {}, "text_config": {}}

SIGLIP: dict[str, Any] = {"model_type": "siglip", "vision_config": {}, "text_config": {}}


def shape_of(folder: Path, config: Any) -> TransformersShape:
    (folder / "config.json").write_text(json.dumps(config))
    return read_shape(folder / "config.json")


def preprocess_of(folder: Path, config: dict[str, Any], kind: dict[str, Any]) -> dict[str, Any]:
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    values, remarks = read_preprocess(folder, shape_of(folder, kind))
    assert remarks == ()
    return values


def test_what_is_left_out_is_transformers_default(tmp_path: Path) -> None:
    from transformers import CLIPConfig, SiglipConfig

    for config, kind in ((CLIP, CLIPConfig()), (SIGLIP, SiglipConfig())):
        shape = shape_of(tmp_path, config)
        for own, theirs in ((shape.image, kind.vision_config), (shape.text, kind.text_config)):
            assert own.width == theirs.hidden_size
            assert own.hidden == theirs.intermediate_size
            assert own.layers == theirs.num_hidden_layers
            assert own.heads == theirs.num_attention_heads
            assert own.activation == theirs.hidden_act
            assert own.eps == theirs.layer_norm_eps
        assert (shape.image_size, shape.patch_size) == (kind.vision_config.image_size, kind.vision_config.patch_size)
        text = kind.text_config
        assert (shape.vocab_size, shape.context_length) == (text.vocab_size, text.max_position_embeddings)
    assert shape_of(tmp_path, CLIP).embed_dim == CLIPConfig().projection_dim
    assert shape_of(tmp_path, SIGLIP).pad_id == SiglipConfig().text_config.pad_token_id


def test_the_old_second_configuration_counts(tmp_path: Path) -> None:
    config = {**CLIP, "text_config": {"hidden_size": 64, "num_hidden_layers": 3}}
    assert shape_of(tmp_path, config).text.width == 64
    second = shape_of(tmp_path, {**config, "text_config_dict": {"hidden_size": 768}})
    assert (second.text.width, second.text.layers) == (768, 12)
    assert shape_of(tmp_path, {**config, "text_config_dict": None}).text.layers == 3


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "siglip2"}, "NaFlex.*siglip2-base-patch16-224"),
        ({"model_type": "clip_vision_model"}, "image encoder of a CLIP model alone"),
        ({"model_type": "vit"}, "dino:FOLDER"),
        ({"model_type": "chinese_clip"}, "'chinese_clip'.*CLIP and SigLIP"),
        ({"model_type": ["clip"]}, "only CLIP and SigLIP"),
        ({"architectures": ["CLIPModel"]}, "no model_type"),
        ({**CLIP, "vision_config": {"hidden_act": "tanh"}}, r"vision_config\.hidden_act"),
        ({**CLIP, "vision_config": {"num_attention_heads": 7}}, "768 is not a multiple of num_attention_heads 7"),
        ({**CLIP, "vision_config": {"hidden_size": 10**12}}, r"vision_config\.hidden_size"),
        ({**CLIP, "vision_config": {"num_channels": 1}}, "num_channels"),
        ({**CLIP, "vision_config": {"image_size": [224, 112]}}, "image_size"),
        ({**CLIP, "vision_config": "large"}, "must be a JSON object"),
        ({**CLIP, "projection_dim": "512"}, "projection_dim"),
        ({**CLIP, "quantization_config": {"load_in_8bit": True}}, "quantized"),
        ({**CLIP, "text_config": {"max_position_embeddings": 10**6}}, "max_position_embeddings"),
        ({**CLIP, "text_config": {"eos_token_id": [1, 2]}}, "eos_token_id"),
        ({**SIGLIP, "vision_config": {"vision_use_head": False}}, "vision_use_head"),
        ({**SIGLIP, "text_config": {"projection_size": 5}}, "texts become 5 numbers and images 768"),
    ],
)
def test_models_that_are_refused(tmp_path: Path, config: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        shape_of(tmp_path, config)


def test_image_processors_of_both_kinds_in_new_and_old_forms(tmp_path: Path) -> None:
    side = {"height": 224, "width": 224}
    for config in (
        {},
        {"size": 224, "crop_size": 224, "do_center_crop": True},
        {"size": {"shortest_edge": 224}, "crop_size": side, "do_rescale": True, "rescale_factor": 1 / 255},
        {"size": {"shortest_edge": 224}, "crop_size": None, "resample": 3},
    ):
        values = preprocess_of(tmp_path, config, CLIP)
        assert values["resize_mode"] == "shortest"
        assert values["mean"][0] == 0.48145466
    for config in ({}, {"size": side}, {"size": 224}, {"size": side, "do_center_crop": None}):
        assert preprocess_of(tmp_path, config, SIGLIP)["resize_mode"] == "squash"
    own = preprocess_of(tmp_path, {"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 2, 3], "resample": 2}, SIGLIP)
    assert own["mean"] == [0.1, 0.2, 0.3]
    assert own["interpolation"] == "bilinear"
    assert preprocess_of(tmp_path, {"do_normalize": False}, SIGLIP)["std"] == [1.0] * 3


def test_an_image_processor_inside_the_processor_file_or_none(tmp_path: Path) -> None:
    shape = shape_of(tmp_path, CLIP)
    values, remarks = read_preprocess(tmp_path, shape)
    assert values["resize_mode"] == "shortest"
    assert "no preprocessor_config.json" in remarks[0]
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": {"image_mean": [0.5] * 3}}))
    values, remarks = read_preprocess(tmp_path, shape)
    assert values["mean"] == [0.5] * 3
    assert remarks == ()
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": 3}))
    with pytest.raises(WeightsError, match="image_processor"):
        read_preprocess(tmp_path, shape)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"size": {"shortest_edge": 256}, "crop_size": 224}, "shortest_edge 256.*224 x 224"),
        ({"crop_size": {"height": 336, "width": 336}}, "crops to .*336"),
        ({"size": {"shortest_edge": 224}, "do_center_crop": False}, "resizes to"),
        ({"do_resize": False}, "do_resize"),
        ({"do_pad": True}, "do_pad"),
        ({"rescale_factor": 1}, "rescale_factor"),
        ({"resample": 0}, "resample"),
        ({"image_mean": [0.5]}, "image_mean"),
        ({"image_std": [0.5, 0, 0.5]}, "image_std"),
        ({"size": "large"}, "size"),
    ],
)
def test_preprocessing_that_cannot_be_followed(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        preprocess_of(tmp_path, config, CLIP)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=8), values, max_size=3),
    max_leaves=6,
)

FIELDS = (
    "hidden_size",
    "image_size",
    "patch_size",
    "hidden_act",
    "num_attention_heads",
    "layer_norm_eps",
    "vocab_size",
)


@pytest.mark.fuzz
@settings(max_examples=60, deadline=None)
@given(
    part=st.sampled_from(["vision_config", "text_config", "text_config_dict", "projection_dim", "model_type"]),
    field=st.sampled_from(FIELDS),
    value=JSON,
    processor=st.dictionaries(st.sampled_from(["size", "crop_size", "image_mean", "resample", "do_resize"]), JSON),
)
def test_any_value_is_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, part: str, field: str, value: Any, processor: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("config")
    config = {**CLIP, part: {field: value} if part.endswith("config") else value}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    refusal = ""
    try:
        read_preprocess(folder, read_shape(folder / "config.json"))
    except ModelError as error:
        refusal = str(error)
    assert "\n" not in refusal
