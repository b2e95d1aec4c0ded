"""Attention backends: what a model itself computes, local weights in two naming schemes, and names that are wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from support import GOLDEN, ImagesInMemory
from torch import Tensor
from torch.overrides import TorchFunctionMode

from abs_classify.models.attention import (
    DinoAttention,
    SelfAttention,
    UniformAttention,
    attention_files,
    load_attention,
)
from abs_classify.models.open_clip import OpenClipModel
from abs_classify.models.vit import load_vit
from abs_core.errors import ModelError, UnknownNameError, WeightsError

DINO = GOLDEN / "models" / "dino"


class _Softmaxes(TorchFunctionMode):
    """Records what every softmax gives, so that a model's own attention weights can be read."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") == "softmax":
            self.seen.append(result)
        return result


def pixels_for(model: OpenClipModel, images: int = 2) -> Tensor:
    size = model.network.visual.image_size[0]
    return torch.randn(images, 3, size, size, generator=torch.Generator().manual_seed(6))


@pytest.mark.parametrize(
    "family",
    ["SigLIP", "SigLIP 2", "EVA01", "EVA02", "mixed rotary positions", "PE", "MobileCLIP2-L", "registers"],
)
def test_self_attention_is_what_a_timm_model_computes(family_model: Callable[[str], Any], family: str) -> None:
    model = OpenClipModel.from_model(family_model(family), name=family)
    trunk = model.network.visual.trunk
    pixels = pixels_for(model)
    fused = [module for module in trunk.modules() if getattr(module, "fused_attn", False)]
    for module in fused:
        module.fused_attn = False
    with _Softmaxes() as record, torch.inference_mode():
        trunk(pixels)
    for module in fused:
        module.fused_attn = True
    # the last softmax is the pooling head's, or the last block's, whose first row belongs to CLS
    expected = record.seen[-1][:, :, 0].mean(1)
    prefix = 0 if expected.shape[-1] == model.grid**2 else trunk.num_prefix_tokens
    expected = expected[:, prefix:].reshape(2, model.grid, model.grid)
    ours = model.query_attention(model.tokens(pixels))
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)
    assert ours.amax() > 1.5 * ours.mean()


@pytest.mark.parametrize("family", ["CLIP", "CLIP with layer scale", "CoCa without pooler", "CoCa"])
def test_self_attention_is_what_an_open_clip_model_computes(family_model: Callable[[str], Any], family: str) -> None:
    model = OpenClipModel.from_model(family_model(family), name=family)
    visual, tokens = model.network.visual, model.tokens(pixels_for(model))
    with torch.inference_mode():
        block = visual.transformer.resblocks[-1]
        if visual.attn_pool is None:
            x = block.ln_1(tokens)
            _, weights = block.attn(x, x, x, need_weights=True)
        else:
            pool = visual.attn_pool
            x = pool.ln_k(block(tokens))
            _, weights = pool.attn(pool.ln_q(pool.query).expand(2, -1, -1), x, x, need_weights=True)
    expected = weights[:, 0, 1:].reshape(2, model.grid, model.grid)
    torch.testing.assert_close(model.query_attention(tokens), expected, rtol=0, atol=1e-6)


def test_self_attention_with_query_and_key_norm(family_model: Callable[[str], Any]) -> None:
    model = OpenClipModel.from_model(family_model("CLIP with query and key norm"), name="qk")
    block, tokens = model.network.visual.transformer.resblocks[-1], model.tokens(pixels_for(model))
    with torch.inference_mode():
        q, k, _ = torch.nn.functional.linear(
            block.ln_1(tokens), block.attn.in_proj_weight, block.attn.in_proj_bias
        ).chunk(3, dim=-1)
        q, k = (each.unflatten(-1, (4, 16)).transpose(1, 2) for each in (q, k))
        weights = (block.attn.ln_q(q) @ block.attn.ln_k(k).transpose(-1, -2) / 4).softmax(-1)
    expected = weights[:, :, 0, 1:].mean(1).reshape(2, 7, 7)
    torch.testing.assert_close(model.query_attention(tokens), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", ["CLIP", "CLIPA", "ViTamin", "relative positions"])
def test_norm_attention_orders_patches_by_their_norm(family_model: Callable[[str], Any], family: str) -> None:
    model = OpenClipModel.from_model(family_model(family), name=family)
    assert model.split is not None
    tokens = model.tokens(pixels_for(model))
    attention = model.norm_attention(tokens).flatten(1)
    torch.testing.assert_close(attention.sum(1), torch.ones(2))
    with torch.inference_mode():
        norms = model.split.block(tokens)[:, model.split.prefix :].norm(dim=-1)
    assert torch.equal(attention.argmax(1), norms.argmax(1))
    standard = (norms - norms.mean(1, keepdim=True)) / norms.std(1, unbiased=False, keepdim=True)
    ratio = (attention.amax(1) / attention.amin(1)).log()
    torch.testing.assert_close(ratio, 2 * (standard.amax(1) - standard.amin(1)), rtol=1e-4, atol=1e-4)


def test_a_mean_pooled_model_has_no_attention_of_its_own(family_model: Callable[[str], Any]) -> None:
    model = OpenClipModel.from_model(family_model("CLIPA"), name="CLIPA")
    assert list(model.attention_backends()) == ["norm"]
    with pytest.raises(ModelError, match="no attention 'self'"):
        model.query_attention(model.tokens(pixels_for(model)))
    with pytest.raises(ModelError, match="it has: norm"):
        load_attention("self", model)


def test_a_convolutional_model_has_none(family_model: Callable[[str], Any]) -> None:
    model = OpenClipModel.from_model(family_model("ResNet"), name="ResNet")
    with pytest.raises(ModelError, match="none of its own"):
        load_attention("norm", model)
    assert load_attention("none", model).grid == 14


def test_the_attention_of_a_model_comes_from_its_tokens(family_model: Callable[[str], Any]) -> None:
    model = OpenClipModel.from_model(family_model("CLIP"), name="CLIP")
    images = ImagesInMemory([Image.new("RGB", (90, 200), (200, 30, at)) for at in (0, 90)], model)
    backends = {name: load_attention(name, model) for name in ("self", "norm")}
    for name, expected in (("self", model.query_attention), ("norm", model.norm_attention)):
        assert isinstance(backends[name], SelfAttention)
        assert backends[name].grid == 7
        assert torch.equal(backends[name].attend(images), expected(images.tokens))
    assert backends["self"].digest != backends["norm"].digest


def test_flat_attention(family_model: Callable[[str], Any]) -> None:
    model = OpenClipModel.from_model(family_model("CLIP"), name="CLIP")
    attention = UniformAttention(5).attend(ImagesInMemory([Image.new("RGB", (3, 3))] * 4, model))
    assert attention.shape == (4, 5, 5)
    assert torch.equal(attention, torch.full((4, 5, 5), 0.04))


def test_dino_in_batches_is_dino_one_by_one() -> None:
    dino = DinoAttention(str(DINO))
    pixels = torch.randn(3, 3, 224, 224, generator=torch.Generator().manual_seed(7))
    together = dino.maps(pixels)
    assert together.shape == (3, 14, 14)
    torch.testing.assert_close(together, torch.cat([dino.maps(image[None]) for image in pixels]), rtol=0, atol=1e-7)


def test_a_hugging_face_folder_computes_what_transformers_computes(tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(8)
    config = ViTConfig(
        hidden_size=40, num_hidden_layers=3, num_attention_heads=5, intermediate_size=93, image_size=64, patch_size=8,
        initializer_range=0.4, layer_norm_eps=1e-3, attn_implementation="eager",
    )  # fmt: skip
    model = ViTModel(config).eval()
    model.save_pretrained(tmp_path)
    pixels = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = model(pixels, output_attentions=True).attentions[-1][:, :, 0, 1:]
    source = DinoAttention(str(tmp_path))
    assert source.grid == 8
    torch.testing.assert_close(source.heads(pixels).flatten(2), expected, rtol=0, atol=1e-5)
    assert attention_files(f"dino:{tmp_path}", "any") == (tmp_path / "model.safetensors", tmp_path / "config.json")


def test_a_timm_file_and_a_timm_folder(tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(9)
    model = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=10).eval()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "vit_tiny_patch16_224"}))
    from_file = DinoAttention(f"vit_tiny_patch16_224@{tmp_path / 'model.safetensors'}")
    from_folder = DinoAttention(str(tmp_path))
    pixels = from_file.preprocess(Image.new("RGB", (40, 80), (9, 99, 200))).unsqueeze(0)
    attention = from_file.heads(pixels)
    assert attention.shape == (1, 3, 14, 14)
    assert torch.equal(attention, from_folder.heads(pixels))
    assert from_file.digest == from_folder.digest


def test_weights_of_another_model_are_refused() -> None:
    with pytest.raises(WeightsError, match="do not fit"):
        DinoAttention(f"vit_tiny_patch16_224@{DINO / 'model.safetensors'}")


def test_published_weights_are_not_downloaded_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="not on this machine") as caught:
        DinoAttention()
    assert "vit_base_patch16_224.dino" in caught.value.remedy


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("dinosaur", UnknownNameError),
        ("dino:", UnknownNameError),
        ("dino:vit_base_patch16_224.nothing", UnknownNameError),
        ("dino:no_such_model", UnknownNameError),
        ("dino:/no/such/folder", WeightsError),
        ("dino:vit_tiny_patch16_224@/no/such/file", WeightsError),
        (f"dino:{GOLDEN / 'photos'}", WeightsError),
    ],
)
def test_names_that_are_wrong(family_model: Callable[[str], Any], name: str, kind: type[Exception]) -> None:
    model = OpenClipModel.from_model(family_model("CLIP"), name="CLIP")
    with pytest.raises(kind):
        load_attention(name, model)


def test_a_configuration_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes((DINO / "model.safetensors").read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ModelError, match="'bert'"):
        DinoAttention(str(tmp_path))
    broken = json.loads((DINO / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**broken, "num_attention_heads": 7}))
    with pytest.raises(ModelError, match="does not describe one"):
        DinoAttention(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="is not JSON"):
        DinoAttention(str(tmp_path))


def test_the_digest_names_weights_architecture_and_input_size(monkeypatch: pytest.MonkeyPatch) -> None:
    golden = load_vit(str(DINO))
    variants = [
        golden,
        replace(golden, weights="sha256:other"),
        replace(golden, architecture={**golden.architecture, "other": 1}),
        replace(golden, size=golden.size + 16),
    ]
    digests = []
    for loaded in variants:
        monkeypatch.setattr("abs_classify.models.attention.load_vit", lambda *args, loaded=loaded, **settings: loaded)
        digests.append(DinoAttention("any", name=f"dino:{len(digests)}").digest)
    assert len(set(digests)) == len(variants)
    # by whatever name it was asked for
    assert DinoAttention("any", name="another").digest == digests[-1]


def test_two_sets_of_weights_have_two_digests(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    (tmp_path / "config.json").write_bytes((DINO / "config.json").read_bytes())
    state = load_file(DINO / "model.safetensors")
    name = next(name for name in state if name.endswith("layernorm.bias"))
    save_file({**state, name: state[name] + 1}, tmp_path / "model.safetensors")
    assert DinoAttention(str(tmp_path)).digest != DinoAttention(str(DINO)).digest


def test_the_digest_of_a_models_own_attention_names_the_model_and_the_kind() -> None:
    def digest(name: str = "self", model_digest: str = "sha256:m") -> str:
        return SelfAttention(name, lambda tokens: tokens, grid=7, model_digest=model_digest).digest

    assert len({digest(), digest(name="norm"), digest(model_digest="sha256:n")}) == 3
    assert UniformAttention(7).digest != UniformAttention(14).digest


@pytest.mark.usefixtures("no_network", "bounded_memory")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 10**9}, "hidden_size must be at most"),
        ({"hidden_size": 60_000, "intermediate_size": 200_000}, "do not fit|does not describe"),
        ({"num_hidden_layers": "many"}, "does not describe one"),
        ({"image_size": None}, "does not describe one"),
        ({"model_type": "timm", "architecture": "hf-hub:someone/evil"}, "model type 'timm'"),
        ({"model_type": "timm", "architecture": "vit_tiny_patch16_224", "pretrained_cfg": ["tag"]}, "do not fit"),
        (
            {"model_type": "timm", "architecture": "vit_tiny_patch16_224", "pretrained_cfg": {"tag": "x"}},
            "cannot build",
        ),
    ],
)
def test_a_strangers_folder_of_a_vision_transformer(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    config = {
        "model_type": "vit", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": 32, "patch_size": 8,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=message):
        load_vit(str(tmp_path))
