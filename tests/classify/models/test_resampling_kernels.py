"""The kernels for GPUs: interpreted on the CPU against torch's operations, and compiled for GPUs that are not here."""

from __future__ import annotations

import importlib.util
import signal
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from abs_classify.models.resampling import Resizing
from abs_classify.models.signal_state import keep_signal_state

triton = pytest.importorskip("triton", reason="Triton comes with torch for CUDA")
NAME = "abs_classify.models.resampling_kernels"
BOXES = np.array([(10, 0, 30, 90), (0, 20, 41, 30), (30, 20, 31, 21)])


def load_kernels() -> ModuleType:
    spec = importlib.util.find_spec(NAME)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton.knobs.runtime, "interpret", True)
    monkeypatch.setitem(sys.modules, NAME, load_kernels())
    monkeypatch.setattr(sys.modules["abs_classify.models"], "resampling_kernels", sys.modules[NAME], raising=False)


@pytest.mark.slow
def test_the_kernels_give_what_torchs_operations_give(interpreted: None) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 41, 3), dtype=np.uint8)
    image = torch.from_numpy(noise).permute(2, 0, 1).contiguous()
    plan = Resizing(7, 7, Image.Resampling.BICUBIC, "shortest").plan(BOXES)
    assert {vertical_first for _, vertical_first, *_ in plan.passes} == {False, True}
    assert torch.equal(plan.apply(image, fused=True), plan.apply(image))


@pytest.mark.slow
@pytest.mark.parametrize("capability", [75, 80, 90])
def test_the_kernels_compile_for_a_gpu(capability: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    pytest.importorskip("triton.backends.nvidia")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernels = load_kernels()
    pointers = {"image": "*u8", "lines": "*i64", "start": "*i64", "weights": "*i32", "resized": "*u8", "narrow": "*u8"}
    for kernel in (kernels.along_kernel, kernels.across_kernel):
        signature = {name: pointers.get(name, "i32") for name in kernel.arg_names} | {"BLOCK": "constexpr"}
        source = ASTSource(kernel, signature, {"BLOCK": 128})
        with keep_signal_state():
            compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32))
        assert f"sm_{capability}" in compiled.asm["ptx"]
        assert len(compiled.asm["cubin"]) > 1000
    # LLVM's own handler would end the process
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_plan_asks_for_the_kernels_only_where_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, NAME, None)
    plan = Resizing(8, 8, Image.Resampling.BICUBIC, "stretch").plan(BOXES[:1])
    image = torch.zeros(3, 90, 41, dtype=torch.uint8)
    assert plan.apply(image).shape == (1, 3, 8, 8)
    with pytest.raises(ImportError):
        plan.apply(image, fused=True)
