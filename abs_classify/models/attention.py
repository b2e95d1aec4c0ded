"""Attention maps: where in an image the object is likely to be, as a grid of non-negative numbers.

``dino`` is what ABS publishes (arXiv 2505.13233, section 3): the last layer's attention from CLS to the patches of
DINO ViT-B/16 (Caron et al. 2021), mean over heads. ``self`` and ``norm`` come from the model itself and cost nothing
besides its own pass; ``none`` is uniform. Attention is computed once for each image.

Shapes: B images, h heads, a g x g attention grid, which need not be the model's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from abs_classify.models.embedded_files import EMBEDDED
from abs_classify.models.last_block import split_timm, to_grid
from abs_classify.models.preprocessing import PixelPreprocessing, normalised_values
from abs_classify.models.resampling import Resizing
from abs_classify.models.runtime import fit_runtime
from abs_classify.models.runtime_names import Remember
from abs_classify.models.vit import DEFAULT_VIT, load_vit, vit_files
from abs_core.canonical import digest
from abs_core.errors import ModelError, UnknownNameError

if TYPE_CHECKING:
    from abs_classify.models.base import AttentionBackend, ImageGroup, Model

__all__ = [
    "DinoAttention",
    "SelfAttention",
    "UniformAttention",
    "attention_files",
    "load_attention",
]

#: The names that ``load_attention`` knows; ``dino`` may be followed by a colon and a model.
_ATTENTION_NAMES = ("auto", "dino", "dino:TIMM_NAME", "dino:PATH", "self", "norm", "none")
_PUBLISHED_GRID = 14


class DinoAttention:
    """The last layer's attention from CLS to the patches of a vision transformer, always in float32.

    The image is resized to the model's square without keeping its aspect (PIL bilinear), as the Hugging Face processor
    does; timm's own preprocessing for the same weights (bicubic, crop 0.9) gives other maps.

    Attributes:
        preprocess: a whole RGB image, squashed to [3, S, S] float32, mean and standard deviation of ImageNet.

    Args:
        weights: a timm name, a folder or a file; see ``abs_classify.models.vit``.
        name: what the user named.
        device: where to compute.
        allow_download: whether missing weights may be fetched.
        runtime: what runs the blocks, one of ``RUNTIMES``.
        remember: keeps what ``auto`` chose.

    Raises:
        UnknownNameError, WeightsError, ModelError: as in ``load_vit``; UnknownNameError, UsageError and
            MissingExtraError as in ``fit_runtime``; ModelError also for a model without a CLS token
            or without attention that can be read.
    """

    def __init__(
        self,
        weights: str = DEFAULT_VIT,
        *,
        name: str = "dino",
        device: torch.device | str = "cpu",
        allow_download: bool = False,
        runtime: str = "auto",
        remember: Remember | None = None,
    ) -> None:
        loaded = load_vit(weights, allow_download=allow_download)
        choice = fit_runtime(
            loaded.trunk,
            runtime,
            dtype=torch.float32,
            device=torch.device(device),
            image_size=(loaded.size, loaded.size),
            keep_last=True,
            files=loaded.files,
            remember=remember,
        )
        split = split_timm(loaded.trunk.to(device), pooling="token")
        if split is None or split.row is None or split.prefix == 0:
            raise ModelError(
                f"the vision transformer {weights!r} has no CLS token whose attention can be read",
                remedy=f"Choose a vision transformer with one, such as {DEFAULT_VIT}",
            )
        self.name = name
        self.grid = split.grid
        self.device = torch.device(device)
        self._split, self._row = split, split.row
        self._size = loaded.size
        resizing = Resizing(self._size, self._size, Image.Resampling.BILINEAR, "stretch")
        self.preprocess = PixelPreprocessing(self._squash, resizing, normalised_values(loaded.mean, loaded.std))
        self._mean = torch.tensor(loaded.mean).view(3, 1, 1)
        self._std = torch.tensor(loaded.std).view(3, 1, 1)
        self.digest = digest(
            {
                "attention": "cls",
                "weights": loaded.weights,
                "architecture": loaded.architecture,
                "size": self._size,
                **choice.digest_part,
            }
        )

    def _squash(self, image: Image.Image) -> Tensor:
        resized = image.resize((self._size, self._size), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(resized, dtype=np.float32)).permute(2, 0, 1) / 255
        return (pixels - self._mean) / self._std

    @torch.inference_mode()
    def heads(self, pixels: Tensor) -> Tensor:
        """[B, 3, S, S] to the attention of each head, [B, h, g, g] float32; CLS and registers are left out."""
        rows = self._row(self._split.embed(pixels.to(self.device)))
        return to_grid(rows[..., self._split.prefix :], self.grid)

    def maps(self, pixels: Tensor) -> Tensor:
        """[B, 3, S, S] to the mean over heads, [B, g, g] float32; a map sums to less than 1, CLS being left out."""
        return self.heads(pixels).mean(1)

    def attend(self, images: ImageGroup) -> Tensor:
        """The maps of B images, [B, g, g] float32."""
        return images.run(self.preprocess, self.maps)


class SelfAttention:
    """The model's own attention, from the tokens that its pass over the full image leaves anyway.

    Args:
        name: ``self`` or ``norm``.
        maps: the model's tokens [B, P + g*g, w] to maps [B, g, g] float32.
        grid: side g of the token grid.
        model_digest: digest of the model.
    """

    def __init__(self, name: str, maps: Callable[[Tensor], Tensor], *, grid: int, model_digest: str) -> None:
        self.name = name
        self.grid = grid
        self.digest = digest({"attention": name, "tower": model_digest})
        self._maps = maps

    def attend(self, images: ImageGroup) -> Tensor:
        """The maps of B images, [B, g, g] float32."""
        return self._maps(images.tokens)


class UniformAttention:
    """The same attention everywhere, whatever the image.

    Args:
        grid: side g of the map.
    """

    name = "none"

    def __init__(self, grid: int = _PUBLISHED_GRID) -> None:
        self.grid = grid
        self.digest = digest({"attention": "none", "grid": grid})

    def attend(self, images: ImageGroup) -> Tensor:
        """B maps [B, g, g] float32, each summing to 1."""
        return torch.full((len(images), self.grid, self.grid), 1 / self.grid**2)


def load_attention(
    name: str, model: Model, *, runtime: str = "auto", remember: Remember | None = None
) -> AttentionBackend:
    """The attention backend of a name.

    Args:
        name: ``auto`` (what the model recommends), ``dino``, ``dino:`` and a timm name, folder or file, ``self``,
            ``norm``, ``none``.
        model: the model whose views are placed. Its backend may use its tokens, and runs on its device.
        runtime, remember: as in ``load_model``.

    Raises:
        UnknownNameError: any other name.
        ModelError: the model does not have this backend.
        WeightsError: DINO's weights are not on this machine.
    """
    if name == "auto":
        name = model.default_attention()
    if name in ("self", "norm"):
        return _own_backend(name, model)
    if name == "none":
        return UniformAttention(model.grid or _PUBLISHED_GRID)
    return DinoAttention(_dino_weights(name), name=name, device=model.device, runtime=runtime, remember=remember)


def _own_backend(name: str, model: Model) -> AttentionBackend:
    backends = model.attention_backends()
    if name not in backends:
        raise ModelError(
            f"the model {model.name!r} has no attention {name!r}; it has: {', '.join(backends) or 'none of its own'}",
            remedy="Choose one of these, dino or none",
        )
    return backends[name]()


def attention_files(name: str, model: str) -> tuple[Path, ...]:
    """The files that decide an attention backend, besides those of its model, without reading them.

    Args:
        name: as in ``load_attention``.
        model: the model's name.

    Raises:
        UnknownNameError, WeightsError: as in ``load_attention``.
    """
    if name in ("self", "norm", "none") or (name == "auto" and model == EMBEDDED):
        return ()
    return vit_files(_dino_weights("dino" if name == "auto" else name))


def _dino_weights(name: str) -> str:
    if name == "dino":
        return DEFAULT_VIT
    head, colon, spec = name.partition(":")
    if head != "dino" or not colon or not spec:
        raise UnknownNameError("attention backend", name, _ATTENTION_NAMES)
    return spec
