"""Which runtimes there are on the machine that runs the tests, and small networks with plain blocks."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from abs_classify.models.block_stack import BlockStack, OneDnnStack, OpenVinoStack, read_block


def stack_of(name: str, block: nn.Module, dtype: torch.dtype, threads: int = 1) -> BlockStack:
    """One block in a runtime."""
    reads: list[Any] = [partial(read_block, block)]
    return OneDnnStack(reads, dtype, 64) if name == "onednn" else OpenVinoStack(reads, dtype, threads)


def works(name: str, dtype: torch.dtype) -> bool:
    """Whether a runtime computes in a dtype here: some processors, torch builds and installations do not."""
    from timm.models.vision_transformer import Block

    try:
        with torch.inference_mode():
            stack_of(name, Block(16, 2).eval(), dtype)(torch.zeros(1, 3, 16))
    except (ImportError, AttributeError, RuntimeError):
        return False
    return True


#: runtime and dtype, for each pair that works here; the others are skipped
RUNTIMES_HERE = [
    pytest.param(
        name,
        dtype,
        marks=pytest.mark.skipif(not works(name, dtype), reason=f"no {name} in {dtype} on this machine"),
        id=f"{name}-{str(dtype).removeprefix('torch.')}",
    )
    for name in ("onednn", "openvino")
    for dtype in (torch.float32, torch.bfloat16)
]

needs_onednn = pytest.mark.skipif(not works("onednn", torch.float32), reason="no oneDNN operators on this machine")
needs_bfloat16 = pytest.mark.skipif(not works("onednn", torch.bfloat16), reason="no bfloat16 in oneDNN on this machine")


def small_clip(**vision: Any) -> Any:
    """An open_clip CLIP of three blocks, whose attention is sharp and whose channels differ in size, as trained."""
    from open_clip.model import CLIP

    torch.manual_seed(3)
    shape = {"layers": 3, "width": 64, "head_width": 16, "patch_size": 8, "image_size": 32, **vision}
    model = CLIP(16, shape, {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1})
    return trained(model)


def small_siglip() -> Any:
    """A timm vision transformer with attention pooling behind open_clip's adapter."""
    from open_clip.model import CLIP

    torch.manual_seed(4)
    model = CLIP(
        64,
        {"timm_model_name": "vit_tiny_patch16_224", "timm_pool": "map", "timm_proj": "none", "image_size": 224},
        {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1},
    )
    return model.eval()


def trained(model: nn.Module) -> Any:
    """Weights with larger differences than a fresh model has."""
    with torch.no_grad():
        for parameter in model.visual.transformer.parameters():  # type: ignore[union-attr]
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()
