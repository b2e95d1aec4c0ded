"""ABS in the structure of the authors' program: the baseline of ``abs_pipeline.py``.

Written from the description of what that program does, not from its code: one image at a time; the attention map
computed twice, once for each kind of view; the whole last block for every feature view; all 50 crops as one batch; and
soft matching on tensors [views, classes, texts] of which several exist at once. It runs on the device of the texts,
where the models must be; Pillow cuts and resizes. The models, their weights and the random numbers are those of this
package, so what differs is the structure alone.

It is a little faster than the original: only the last layer of the attention model materialises its weights, and both
attention passes run on the device of the model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from abs_classify.methods.views import AttentionCrops, FeatureWindows

__all__ = ["AuthorsStructure"]


class AuthorsStructure:
    """ABS, one image at a time.

    Args:
        model: an open_clip CLIP with a CLS-pooled ViT.
        preprocess: a PIL image to the model's pixels [3, S, S].
        embed: pixels [B, 3, S, S] to the input of the last block, [B, 1 + g*g, w].
        dino: a timm ViT.
        dino_preprocess: a PIL image to its pixels.
        texts: unit features [C, n, d].
        crops_at_once: crops in a batch; the authors encode all of an image together.
    """

    def __init__(
        self,
        model: Any,
        preprocess: Callable[[Image.Image], Tensor],
        embed: Callable[[Tensor], Tensor],
        dino: Any,
        dino_preprocess: Callable[[Image.Image], Tensor],
        texts: Tensor,
        crops_at_once: int,
    ) -> None:
        self._model, self._preprocess, self._embed = model, preprocess, embed
        self._dino, self._dino_preprocess = dino, dino_preprocess
        self._texts, self._crops_at_once = texts, crops_at_once

    @torch.inference_mode()
    def scores(
        self, image: Image.Image, image_id: str, boxes: AttentionCrops, windows: FeatureWindows, seed: int
    ) -> Tensor:
        """Class scores [C] of an RGB image."""
        pixels = self._pixel_views(image, boxes.boxes(image.size, self._attention(image), seed, image_id))
        attention = self._attention(image)
        grid = self._model.visual.grid_size[0]
        features = self._feature_views(image, windows.windows(grid, attention, seed, image_id, image.size))
        return soft_match(torch.cat([features[1:], pixels]), self._texts)

    def _attention(self, image: Image.Image) -> np.ndarray:
        """The last layer's attention from CLS to the patches, mean over heads: [g, g]."""
        weights: list[Tensor] = []
        last = self._dino.blocks[-1].attn
        last.fused_attn = False
        # what the dropout of the attention sees are the weights themselves
        hook = last.attn_drop.register_forward_pre_hook(lambda _, inputs: weights.append(inputs[0]))
        try:
            self._dino.forward_features(self._dino_preprocess(image)[None].to(self._texts.device))
        finally:
            hook.remove()
            last.fused_attn = True
        patches = weights[0][0, :, 0, 1:].mean(0)
        side = int(patches.numel() ** 0.5)
        return patches.reshape(side, side).cpu().numpy()

    def _pixel_views(self, image: Image.Image, boxes: np.ndarray) -> Tensor:
        """Unit features [N, d] of crops."""
        crops = torch.stack([self._preprocess(image.crop((a, b, c, d))) for a, b, c, d in boxes.tolist()])
        parts = torch.split(crops.to(self._texts.device), self._crops_at_once)
        return normalize(torch.cat([self._model.encode_image(part, normalize=False) for part in parts]), dim=-1)

    def _feature_views(self, image: Image.Image, windows: np.ndarray) -> Tensor:
        """Unit features [1 + N, d] of the full image and of windows of its tokens, each through the whole block."""
        visual = self._model.visual
        grid = visual.grid_size[0]
        tokens = self._embed(self._preprocess(image)[None].to(self._texts.device))
        patches = tokens[0, 1:].T.reshape(1, -1, grid, grid)
        sets = [tokens]
        for top, bottom, left, right in windows.tolist():
            window = interpolate(patches[..., top:bottom, left:right], (grid, grid), mode="bicubic")
            sets.append(torch.cat([tokens[:, :1], window.flatten(2).transpose(1, 2)], dim=1))
        block: nn.Module = visual.transformer.resblocks[-1]
        finished = visual.ln_post(block(torch.cat(sets)))[:, 0] @ visual.proj
        return normalize(finished, dim=-1)


def soft_match(views: Tensor, texts: Tensor, temperature: float = 0.03) -> Tensor:
    """Soft matching with every product in memory: views [V, d] and texts [C, n, d] to [C]."""
    z = torch.einsum("vd,cnd->vcn", views, texts) / temperature
    weights = torch.exp(z - torch.logsumexp(z, dim=(1, 2), keepdim=True))
    return (weights * z).sum(dim=(0, 2))
