"""The open_clip_config.json of a stranger: one line for whatever is wrong, in bounded time and memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_open_clip import CONFIG, folder_with_configuration

from abs_classify.models.info import read_model_info
from abs_classify.models.open_clip_configs import _ModelConfig, read_config
from abs_classify.models.open_clip_sources import read_catalogue
from abs_classify.models.registry import entry_of, load_model
from abs_core.errors import ModelError, WeightsError

pytestmark = pytest.mark.usefixtures("no_network")


def write(folder: Path, model: Any = CONFIG, preprocess: Any = None) -> Path:
    path = folder / "open_clip_config.json"
    path.write_text(json.dumps({"model_cfg": model, "preprocess_cfg": preprocess}))
    return path


def test_open_clips_own_configurations_hold() -> None:
    for config in read_catalogue().configs.values():
        _ModelConfig.model_validate(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embed_dim": "32"}, "embed_dim"),
        ({"embed_dim": 10**15}, "embed_dim"),
        ({"vision_cfg": []}, "vision_cfg"),
        ({"vision_cfg": {"layers": 10**9}}, r"vision_cfg\.layers"),
        ({"vision_cfg": {"image_size": "large"}}, "image_size"),
        ({"text_cfg": {"context_length": 10**6}}, "context_length"),
        ({"text_cfg": {"tokenizer_kwargs": ["trust_remote_code"]}}, "tokenizer_kwargs"),
        ({"vision_cfg": {"act_kwargs": {"x": 10**30}}}, r"act_kwargs\.x is 1000"),
    ],
)
def test_wrong_types_and_sizes(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_config(write(tmp_path, {**CONFIG, **change}))


@pytest.mark.parametrize(
    ("preprocess", "message"),
    [
        ({"interpolation": "magic"}, "interpolation"),
        ({"resize_mode": "stretch"}, "resize_mode"),
        ({"mean": [0.5]}, "mean"),
        ({"std": [0.5, 0.0, 0.5]}, "std"),
        ({"mean": "white"}, "mean"),
        ([1], "preprocess|dict"),
    ],
)
def test_wrong_preprocessing(tmp_path: Path, preprocess: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_config(write(tmp_path, CONFIG, preprocess))


def test_a_value_that_is_null_is_the_default(tmp_path: Path) -> None:
    assert read_config(write(tmp_path, CONFIG, {"mean": None, "std": [1, 1, 1]}))["preprocess_cfg"] == {
        "std": [1, 1, 1]
    }
    assert read_config(write(tmp_path, CONFIG, None))["preprocess_cfg"] == {}


def test_a_configuration_that_is_nested_without_end(tmp_path: Path) -> None:
    path = tmp_path / "open_clip_config.json"
    path.write_text('{"model_cfg": ' + "[" * 100_000)
    with pytest.raises(ModelError, match="nested too deeply"):
        read_config(path)


@pytest.mark.parametrize(
    "vision",
    [
        # the size of images is not that of the trunk
        {"timm_model_name": "vit_tiny_patch16_224", "timm_pool": "token", "timm_proj": "linear", "image_size": 64},
        {"timm_model_name": "no_such_model"},
        {**CONFIG["vision_cfg"], "head_width": 48},
        {**CONFIG["vision_cfg"], "head_width": 4096},
        {**CONFIG["vision_cfg"], "pool_type": "all"},
        {**CONFIG["vision_cfg"], "colour": "red"},
    ],
)
def test_a_configuration_that_builds_nothing_is_one_line(tiny: Any, tmp_path: Path, vision: dict[str, Any]) -> None:
    name = f"local-dir:{folder_with_configuration(tiny, tmp_path / 'folder', vision_cfg=vision)}"
    with pytest.raises(ModelError) as caught:
        load_model(name, device="cpu")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 900


def test_sizes_that_disagree_show_when_the_model_runs(tmp_path: Path) -> None:
    import open_clip
    from safetensors.torch import save_file

    vision = {"timm_model_name": "vit_tiny_patch16_224", "timm_pool": "token", "timm_proj": "linear", "image_size": 64}
    write(tmp_path, {**CONFIG, "vision_cfg": vision})
    model = open_clip.create_model(f"local-dir:{tmp_path}", load_weights=False)
    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    name = f"local-dir:{tmp_path}"
    for use in (lambda: load_model(name, device="cpu"), lambda: read_model_info(entry_of(name), name)):
        with pytest.raises(ModelError, match=r"cannot run .*64.*224"):
            use()


@pytest.mark.usefixtures("bounded_memory")
def test_memory_that_the_weights_do_not_have_is_never_asked_for(tiny: Any, tmp_path: Path) -> None:
    """A configuration of 160 GB beside a file of 7 MB."""
    text = {**CONFIG["text_cfg"], "vocab_size": 10_000_000, "width": 4096, "heads": 2}
    folder = folder_with_configuration(tiny, tmp_path / "folder", text_cfg=text)
    with pytest.raises(WeightsError, match="another shape"):
        load_model(f"local-dir:{folder}", device="cpu")


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers())
FIELDS = ("layers", "width", "heads", "head_width", "patch_size", "image_size", "mlp_ratio", "pool_type")


@pytest.mark.fuzz
@settings(max_examples=60, deadline=None)
@given(
    part=st.sampled_from(["vision_cfg", "text_cfg"]),
    field=st.sampled_from(
        ["layers", "width", "heads", "head_width", "patch_size", "image_size", "mlp_ratio", "pool_type"]
    ),
    value=LEAVES,
)
def test_any_value_is_described_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, part: str, field: str, value: Any
) -> None:
    folder = tmp_path_factory.mktemp("config")
    (folder / "open_clip_model.safetensors").write_bytes(b"")
    write(folder, {**CONFIG, part: {**CONFIG[part], field: value}})
    name, refusal = f"local-dir:{folder}", ""
    try:
        read_model_info(entry_of(name), name)
    except ModelError as error:
        refusal = str(error)
    assert "\n" not in refusal
