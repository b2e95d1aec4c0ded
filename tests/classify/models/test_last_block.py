"""Feature windows: resize matrices against torch, the fast path against the whole block, windows that are wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from abs_classify.models.last_block import resize_table, view_matrices, window_tokens
from abs_classify.models.open_clip import OpenClipModel
from abs_core.errors import UsageError

CPU = torch.device("cpu")


def random_windows(images: int, views: int, grid: int) -> Tensor:
    """Windows of any position and size, single tokens and the whole grid among them."""
    generator = torch.Generator().manual_seed(grid)
    ends = torch.randint(0, grid + 1, (images, views, 2, 2), generator=generator).sort(dim=-1).values
    low = ends[..., 0].clamp_max(grid - 1)
    high = torch.maximum(ends[..., 1], low + 1)
    drawn = torch.stack([low[..., 0], high[..., 0], low[..., 1], high[..., 1]], dim=-1)
    drawn[:, 0] = torch.tensor([0, grid, 0, grid])
    drawn[:, 1] = torch.tensor([grid - 1, grid, 0, 1])
    return drawn


def small_clip(grid: int, heads: int = 4) -> Any:
    """CLIP with a g x g grid; weights that make attention sharp and token norms uneven, as in trained models."""
    from open_clip.model import CLIP

    torch.manual_seed(grid)
    vision = {"layers": 2, "width": 64, "head_width": 64 // heads, "patch_size": 8, "image_size": 8 * grid}
    model = CLIP(16, vision, {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1})
    with torch.no_grad():
        for parameter in model.visual.transformer.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        # a few channels far larger than the rest, as trained CLIP has them
        model.visual.positional_embedding[:, :3] *= 40
        model.visual.transformer.resblocks[0].mlp.c_proj.bias[5] = 30.0
    return model.eval()


@pytest.mark.parametrize("grid", [1, 2, 7, 14, 16])
def test_resize_matrices_are_torch_bicubic(grid: int) -> None:
    windows = random_windows(2, 12, grid)
    tokens = torch.randn(2, 3 + grid * grid, 5, generator=torch.Generator().manual_seed(1))
    sets = window_tokens(tokens, *view_matrices(resize_table(grid, CPU), windows))
    patches = tokens[:, 3:].double().reshape(2, grid, grid, 5).permute(0, 3, 1, 2)
    for image in range(2):
        for view, (top, bottom, left, right) in enumerate(windows[image].tolist()):
            cut = patches[image : image + 1, :, top:bottom, left:right]
            expected = interpolate(cut, size=(grid, grid), mode="bicubic", align_corners=False)[0]
            torch.testing.assert_close(sets[image, view, 3:].double(), expected.flatten(1).T, rtol=0, atol=3e-6)
            assert torch.equal(sets[image, view, :3], tokens[image, :3])


@pytest.mark.parametrize("grid", [7, 14, 16])
def test_fast_views_equal_the_whole_block(grid: int) -> None:
    model = OpenClipModel.from_model(small_clip(grid), name="small")
    assert model.split is not None
    assert model.split.cls is not None
    tokens = model.tokens(torch.randn(3, 3, 8 * grid, 8 * grid, generator=torch.Generator().manual_seed(2)))
    windows = random_windows(3, 50, grid)
    fast, whole = model.pool_windows(tokens, windows), model.pool_windows_by_block(tokens, windows)
    assert (normalize(fast, dim=-1) - normalize(whole, dim=-1)).abs().max() < 1e-6
    # the views differ from one another by far more than the two paths do
    assert (normalize(fast, dim=-1)[:, 1:] - normalize(fast, dim=-1)[:, :1]).abs().amax(-1).median() > 0.01


def test_the_attention_of_that_model_is_sharp() -> None:
    model = OpenClipModel.from_model(small_clip(14), name="small")
    assert model.split is not None
    assert model.split.row is not None
    rows = model.split.row(model.tokens(torch.randn(1, 3, 112, 112, generator=torch.Generator().manual_seed(3))))
    assert rows.amax(-1).mean() > 5 / rows.shape[-1]


def test_the_fast_path_keeps_float32_sums_for_low_precision_weights() -> None:
    exact = OpenClipModel.from_model(small_clip(14), name="small")
    low = OpenClipModel.from_model(small_clip(14), name="small", dtype="bfloat16")
    pixels = torch.randn(2, 3, 112, 112, generator=torch.Generator().manual_seed(4))
    windows = random_windows(2, 50, 14)
    ours = low.pool_windows(low.tokens(pixels), windows)
    block = low.pool_windows_by_block(low.tokens(pixels), windows)
    assert ours.dtype == block.dtype == torch.float32
    expected = normalize(exact.pool_windows(low.tokens(pixels).float(), windows), dim=-1)
    error, block_error = ((normalize(each, dim=-1) - expected).abs().max() for each in (ours, block))
    assert error < 0.02
    assert error < 2 * block_error


def test_batches_and_order_do_not_matter(family_model: Callable[[str], Any]) -> None:
    model = OpenClipModel.from_model(family_model("CLIP"), name="CLIP")
    tokens = model.tokens(torch.randn(3, 3, 112, 112, generator=torch.Generator().manual_seed(5)))
    windows = random_windows(3, 70, 7)
    for path in (model.pool_windows, model.pool_windows_by_block):
        together = path(tokens, windows)
        alone = torch.cat([path(tokens[i : i + 1], windows[i : i + 1].flip(1)).flip(1) for i in range(3)])
        torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["CLIP", "SigLIP"])
def test_no_views_at_all(family_model: Callable[[str], Any], family: str) -> None:
    model = OpenClipModel.from_model(family_model(family), name=family)
    size = model.network.visual.image_size[0]
    features = model.pool_windows(model.tokens(torch.zeros(2, 3, size, size)), torch.zeros(2, 0, 4, dtype=torch.int64))
    assert features.shape == (2, 0, model.embed_dim)


@pytest.mark.parametrize("window", [[0, 0, 0, 7], [3, 2, 0, 7], [0, 8, 0, 7], [-1, 3, 0, 7], [0, 7, 6, 8]])
def test_a_window_outside_the_grid_is_named(window: list[int]) -> None:
    with pytest.raises(UsageError, match="7 x 7") as caught:
        view_matrices(resize_table(7, CPU), torch.tensor([[[0, 7, 0, 7], window]]))
    assert str(window) in caught.value.message


def test_windows_of_a_wrong_shape(family_model: Callable[[str], Any]) -> None:
    model = OpenClipModel.from_model(family_model("CLIP"), name="CLIP")
    tokens = model.tokens(torch.zeros(2, 3, 112, 112))
    with pytest.raises(UsageError, match=r"\[images, views, 4\]"):
        model.pool_windows(tokens, torch.zeros(2, 4, dtype=torch.int64))
    with pytest.raises(UsageError, match="must be of 2 images, got 1"):
        model.pool_windows(tokens, random_windows(1, 3, 7))
