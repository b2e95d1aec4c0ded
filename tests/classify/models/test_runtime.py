"""Runtimes in whole models: features, feature spaces, the choice and what is remembered of it, and failures."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from block_runtimes import RUNTIMES_HERE, needs_bfloat16, needs_onednn, small_clip, small_siglip
from model_weights import run_python
from support import GOLDEN
from torch import Tensor
from torch.nn.functional import normalize

from abs_classify.models import runtime as runtime_module
from abs_classify.models.attention import DinoAttention
from abs_classify.models.block_stack import BlockStack, OneDnnStack
from abs_classify.models.open_clip import OpenClipModel
from abs_classify.models.registry import load_model
from abs_classify.models.runtime import AGREEMENT, RuntimeChoice, fit_runtime
from abs_core.errors import UnknownNameError, UsageError

NETWORKS: dict[str, Callable[[], Any]] = {
    "CLS pooling": small_clip,
    "mean pooling": lambda: small_clip(pool_type="avg"),
    "grid that is not square": lambda: small_clip(image_size=(32, 48)),
    "attention pooling": small_siglip,
}


def model_in(runtime: str, dtype: str = "float32", network: Any = None) -> OpenClipModel:
    return OpenClipModel.from_model(network or small_clip(), name="small", dtype=dtype, runtime=runtime)


def pixels_for(model: OpenClipModel) -> Tensor:
    size = model.network.visual.image_size
    height, width = (size, size) if isinstance(size, int) else size
    return torch.randn(3, 3, height, width, generator=torch.Generator().manual_seed(9))


def features(model: OpenClipModel) -> Tensor:
    return normalize(model.encode_image(pixels_for(model)), dim=-1)


@pytest.mark.parametrize(("runtime", "dtype"), RUNTIMES_HERE)
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_model_gives_the_features_of_torch(kind: str, runtime: str, dtype: torch.dtype) -> None:
    network = NETWORKS[kind]()
    name = str(dtype).removeprefix("torch.")
    torchs = model_in("torch", network=copy.deepcopy(network))
    fitted = model_in(runtime, name, network)
    assert fitted.runtime.name == runtime
    difference = float((features(fitted) - features(torchs)).abs().max())
    if dtype == torch.float32:
        assert difference < AGREEMENT
        assert fitted.digest == torchs.digest
    else:
        assert 1e-5 < difference < 0.05
        assert fitted.digest not in (torchs.digest, model_in("torch", name, NETWORKS[kind]()).digest)


@needs_onednn
def test_windows_and_attention_are_those_of_torch() -> None:
    torchs, fitted = model_in("torch"), model_in("onednn")
    windows = torch.tensor([[[0, 4, 0, 4], [1, 3, 0, 2]]]).expand(3, -1, -1)
    tokens = torchs.tokens(pixels_for(torchs)), fitted.tokens(pixels_for(fitted))
    torch.testing.assert_close(*tokens, rtol=0, atol=1e-4)
    for compute in (lambda model, x: model.pool_windows(x, windows), OpenClipModel.query_attention):
        expected, computed = compute(torchs, tokens[0]), compute(fitted, tokens[1])
        torch.testing.assert_close(computed, expected, rtol=0, atol=1e-5)
    assert torchs.attention_backends().keys() == fitted.attention_backends().keys()


@needs_onednn
def test_the_weights_are_not_held_twice() -> None:
    whole = sum(parameter.numel() for parameter in small_clip().visual.transformer.parameters())
    fitted = model_in("onednn").network.visual.transformer
    assert sum(parameter.numel() for parameter in fitted.parameters()) == whole // 3
    assert isinstance(fitted.resblocks[0], OneDnnStack)


@needs_onednn
def test_dino_attends_as_in_torch() -> None:
    folder = str(GOLDEN / "models" / "dino")
    pixels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    torchs, fitted = DinoAttention(folder, runtime="torch"), DinoAttention(folder, runtime="onednn")
    torch.testing.assert_close(fitted.maps(pixels), torchs.maps(pixels), rtol=0, atol=1e-6)
    assert fitted.digest == torchs.digest


@pytest.fixture
def any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small models of these tests are timed like large ones."""
    monkeypatch.setattr(runtime_module, "_SMALLEST", 0)


def test_small_models_are_not_timed() -> None:
    assert model_in("auto").runtime == RuntimeChoice("torch")


@pytest.mark.usefixtures("any_size")
def test_auto_in_float32_never_changes_the_features() -> None:
    torchs, chosen = model_in("torch"), model_in("auto")
    assert chosen.digest == torchs.digest
    assert float((features(chosen) - features(torchs)).abs().max()) < AGREEMENT
    assert chosen.runtime.times is not None
    assert "torch" in chosen.runtime.times


class _Remembered:
    """A memory as that of the digest cache, which counts."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.computed = 0

    def __call__(self, inputs: str, files: Iterable[Path], compute: Callable[[], str]) -> str:
        key = json.dumps([inputs, *map(str, files)])
        if key not in self.texts:
            self.computed += 1
            self.texts[key] = compute()
        return self.texts[key]


def fit(network: Any, runtime: str, dtype: torch.dtype = torch.float32, **settings: Any) -> Any:
    options = {"device": torch.device("cpu"), "image_size": (32, 32), "keep_last": True, **settings}
    return fit_runtime(network.visual, runtime, dtype=dtype, **options)


@pytest.mark.usefixtures("one_thread", "any_size")
def test_a_choice_is_made_once_for_a_model_and_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = _Remembered()
    files = [Path("a.safetensors")]
    chosen = fit(small_clip(), "auto", files=files, remember=memory)
    assert fit(small_clip(), "auto", files=files, remember=memory) == chosen
    assert memory.computed == 1
    for change in ({"files": [Path("b.safetensors")]}, {"files": files, "keep_last": False}):
        fit(small_clip(), "auto", remember=memory, **change)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    fit(small_clip(), "auto", files=files, remember=memory)
    assert memory.computed == 4


@pytest.fixture
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread", "any_size")
@pytest.mark.parametrize(("dtype", "choices"), [(torch.float32, 2), (torch.bfloat16, 1)])
def test_what_decides_the_features_does_not_depend_on_the_number_of_threads(dtype: torch.dtype, choices: int) -> None:
    memory = _Remembered()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        fit(small_clip(), "auto", dtype, remember=memory)
    assert memory.computed == choices


class _Broken(BlockStack):
    def __init__(self, *_: object) -> None:
        super().__init__()
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_reorder_linear_weight'")


class _Wrong(BlockStack):
    def __init__(self, *_: object) -> None:
        super().__init__()

    def run(self, tokens: Tensor) -> Tensor:
        return tokens.flip(-1)


class _Inexact(OneDnnStack):
    """Fast, and a little off."""

    def run(self, tokens: Tensor) -> Tensor:
        return super().run(tokens) * torch.linspace(1, 1.001, tokens.shape[-1])


@pytest.mark.parametrize(("stack", "reason"), [(_Broken, "_reorder_linear_weight"), (_Wrong, "other features")])
def test_a_runtime_that_fails_leaves_torch_and_says_so(
    stack: Any, reason: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runtime_module, "OneDnnStack", stack)
    torchs, fitted = model_in("torch"), model_in("onednn")
    assert fitted.runtime.name == "torch"
    assert fitted.digest == torchs.digest
    assert torch.equal(features(fitted), features(torchs))
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert reason in warnings[0]


@pytest.mark.usefixtures("any_size")
def test_a_runtime_that_is_gone_since_it_was_chosen_leaves_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    record = json.dumps({"name": "onednn", "shares_space": True, "tokens": 17})
    monkeypatch.setattr(runtime_module, "OneDnnStack", _Broken)
    network = small_clip()
    assert fit(network, "auto", remember=lambda *_: record).name == "torch"
    assert len(network.visual.transformer.resblocks) == 3


@needs_onednn
@pytest.mark.usefixtures("any_size")
def test_a_runtime_that_does_not_agree_has_a_space_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_module, "OneDnnStack", _Inexact)
    monkeypatch.setattr(runtime_module, "_time", lambda *_: ({"torch": 2.0, "onednn": 1.0}, []))
    torchs, named, chosen = model_in("torch"), model_in("onednn"), model_in("auto")
    assert named.runtime.name == "onednn"
    assert named.runtime.difference > AGREEMENT
    assert named.digest != torchs.digest
    assert chosen.runtime.name == "torch"
    assert chosen.digest == torchs.digest


@needs_onednn
@pytest.mark.usefixtures("any_size")
@pytest.mark.parametrize(("seconds", "name"), [(0.97, "torch"), (0.9, "onednn")])
def test_auto_takes_another_runtime_where_it_is_worth_it(
    seconds: float, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_module, "_time", lambda *_: ({"torch": 1.0, "onednn": seconds}, []))
    assert model_in("auto").runtime.name == name


@needs_bfloat16
@pytest.mark.usefixtures("any_size")
def test_the_space_of_bfloat16_follows_from_what_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    by_times = {}
    for name, seconds in (("torch", 2.0), ("onednn", 0.5)):
        monkeypatch.setattr(
            runtime_module, "_time", lambda *_, seconds=seconds: ({"torch": 1.0, "onednn": seconds}, [])
        )
        by_times[name] = model_in("auto", "bfloat16")
        assert by_times[name].runtime.name == name
    assert by_times["torch"].digest == model_in("torch", "bfloat16").digest
    assert by_times["onednn"].digest == model_in("onednn", "bfloat16").digest != by_times["torch"].digest


def test_networks_of_other_blocks_stay_with_torch(caplog: pytest.LogCaptureFixture) -> None:
    network = small_clip(block_type="custom", qk_norm=True)
    assert fit(network, "auto").name == "torch"
    assert not caplog.records
    assert fit(network, "onednn").name == "torch"
    assert "its blocks are not plain transformer blocks" in caplog.text
    assert fit(small_clip(), "onednn", torch.float16).name == "torch"
    assert "onednn has no float16" in caplog.text


def test_names_and_devices_are_checked() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown runtime 'onnx'.*openvino"):
        fit(small_clip(), "onnx")
    with pytest.raises(UsageError, match="the runtime onednn computes on the CPU, and the device is 'cuda'"):
        fit(small_clip(), "onednn", device=torch.device("cuda"))
    assert fit(small_clip(), "auto", device=torch.device("cuda")).name == "torch"


@needs_onednn
def test_a_processor_of_fewer_instructions() -> None:
    code = """
import sys; sys.path.insert(0, "tests")
import torch
from block_runtimes import small_clip
from torch.nn.functional import normalize
from abs_classify.models.open_clip import OpenClipModel
from abs_classify.models.registry import load_model
pixels = torch.randn(2, 3, 32, 32)
for dtype in ("float32", "bfloat16"):
    torchs, fitted = (
        OpenClipModel.from_model(small_clip(), name="small", dtype=dtype, runtime=runtime)
        for runtime in ("torch", "onednn")
    )
    first, second = (normalize(model.encode_image(pixels), dim=-1) for model in (torchs, fitted))
    print(dtype, float((first - second).abs().max()) < (1e-6 if dtype == "float32" else 0.05))
"""
    assert run_python(code, ONEDNN_MAX_CPU_ISA="AVX2").stdout.split() == ["float32", "True", "bfloat16", "True"]


def test_the_embedded_model_says_that_it_stays_with_torch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("abs_classify.models.embedded.load_embedded_model", lambda **_: "the model")
    assert load_model("embedded", runtime="auto") == "the model"
    assert not caplog.records
    load_model("embedded", runtime="onednn")
    assert "the embedded model has no transformer blocks" in caplog.text
    with pytest.raises(UnknownNameError, match="unknown runtime"):
        load_model("embedded", runtime="onnx")
