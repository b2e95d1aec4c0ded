"""Blocks in oneDNN and OpenVINO against the modules of open_clip and timm; blocks that are not plain."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import torch
from block_runtimes import RUNTIMES_HERE, stack_of
from open_clip.transformer import CustomResidualAttentionBlock, QuickGELU, ResidualAttentionBlock
from timm.layers import GluMlp
from timm.models.eva import EvaBlock
from timm.models.vision_transformer import Block, ParallelScalingBlock, ResPostBlock
from torch import nn

from abs_classify.models.block_stack import read_block

ACTIVATIONS: list[Callable[[], nn.Module]] = [
    nn.GELU,
    partial(nn.GELU, approximate="tanh"),
    QuickGELU,
    nn.SiLU,
    nn.ReLU,
]

BLOCKS: dict[str, Callable[..., nn.Module]] = {
    "open_clip": lambda act: ResidualAttentionBlock(64, 4, act_layer=act),
    "open_clip, scaled branches": lambda act: ResidualAttentionBlock(64, 4, ls_init_value=0.3, act_layer=act),
    "timm": lambda act: Block(64, 4, act_layer=act),
    "timm, all options": lambda act: Block(64, 2, mlp_ratio=1.5, qkv_bias=True, init_values=0.2, act_layer=act),
}


def randomised(block: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return block.eval()


@pytest.mark.parametrize(("runtime", "dtype"), RUNTIMES_HERE)
@pytest.mark.parametrize("kind", BLOCKS)
@torch.inference_mode()
def test_a_block_computes_what_torch_computes(kind: str, runtime: str, dtype: torch.dtype) -> None:
    for activation in ACTIVATIONS:
        block = randomised(BLOCKS[kind](activation))
        tokens = torch.randn(3, 17, 64)
        expected = block(tokens)
        computed = stack_of(runtime, block, dtype)(tokens)
        assert computed.dtype == torch.float32
        limit = 2e-6 if dtype == torch.float32 else 3e-2
        assert float((computed - expected).abs().max() / expected.abs().max()) < limit
        # what the block does to its input is far more than that
        assert float((tokens - expected).abs().max() / expected.abs().max()) > 0.1


@pytest.mark.parametrize(("runtime", "dtype"), RUNTIMES_HERE)
@torch.inference_mode()
def test_threads_and_numbers_of_images_do_not_mix(runtime: str, dtype: torch.dtype) -> None:
    """Two threads at once, with other shapes in each call, against one call after another."""
    stack = stack_of(runtime, randomised(BLOCKS["timm"](nn.GELU)), dtype, threads=2)
    inputs = [torch.randn(1 + number % 3, 5 + number % 4, 64) for number in range(24)]
    alone = [stack(tokens) for tokens in inputs]
    assert all(len(result) == len(tokens) for result, tokens in zip(alone, inputs, strict=True))
    with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        together = list(pool.map(torch.inference_mode()(stack), inputs))
    for first, second in zip(alone, together, strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("runtime", "dtype"), RUNTIMES_HERE)
@torch.inference_mode()
def test_the_dtype_that_comes_in_goes_out(runtime: str, dtype: torch.dtype) -> None:
    stack = stack_of(runtime, randomised(BLOCKS["timm"](nn.GELU)), dtype)
    tokens = torch.randn(1, 4, 64)
    for kind in (torch.float32, torch.bfloat16):
        assert stack(tokens.to(kind)).dtype == kind


def cross_attention() -> nn.Module:
    return ResidualAttentionBlock(64, 4, is_cross_attention=True)


def with_value(block: Any, name: str, value: object) -> nn.Module:
    setattr(block.attn, name, value)
    return block  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "block",
    [
        EvaBlock(64, 4),
        ParallelScalingBlock(64, 4),
        ResPostBlock(64, 4),
        CustomResidualAttentionBlock(64, 4, qk_norm=True),
        cross_attention(),
        Block(64, 4, qk_norm=True),
        Block(64, 4, scale_attn_norm=True),
        Block(64, 4, scale_mlp_norm=True),
        Block(64, 4, mlp_layer=GluMlp),
        Block(64, 4, act_layer=nn.Hardswish),
        with_value(Block(64, 4), "gate", nn.Linear(64, 64)),
        with_value(ResidualAttentionBlock(64, 4), "bias_k", nn.Parameter(torch.zeros(1, 1, 64))),
        nn.Linear(64, 64),
    ],
    ids=lambda block: type(block).__name__,
)
def test_other_blocks_have_no_form(block: nn.Module) -> None:
    assert read_block(block.eval()) is None
