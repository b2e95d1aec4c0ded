"""Attention maps: where in an image the object is likely to be, as a grid of non-negative numbers.

``dino`` is what ABS publishes (arXiv 2505.13233, section 3): the last layer's attention from CLS to the patches of
DINO ViT-B/16 (Caron et al. 2021), mean over heads. ``self`` and ``norm`` come from the model itself and cost nothing
beside its own pass; ``none`` is flat. Attention is computed from queries and keys, in batches, once for each image.

Shapes: B images, h heads, a g x g attention grid, which need not be the model's.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from abs_classify.models.last_block import split_timm, to_grid
from abs_classify.models.vit import DEFAULT_VIT, load_vit, vit_files
from abs_core.canonical import digest
from abs_core.errors import ModelError, UnknownNameError

if TYPE_CHECKING:
    from abs_classify.models.base import Model

__all__ = [
    "ATTENTION_NAMES",
    "AttentionBackend",
    "DinoAttention",
    "SelfAttention",
    "UniformAttention",
    "attention_files",
    "load_attention",
]


#: The names that ``load_attention`` knows; ``dino`` may be followed by a colon and a model.
ATTENTION_NAMES = ("auto", "dino", "dino:TIMM_NAME", "dino:PATH", "self", "norm", "none")


_PUBLISHED_GRID = 14


class AttentionBackend(Protocol):
    """Where attention maps come from. ``preprocess`` and ``attend`` are called from several threads at once."""

    @property
    def name(self) -> str:
        """What the user named."""
        ...

    @property
    def digest(self) -> str:
        """``sha256:...`` over all that decides the maps. It enters every cache key."""
        ...

    @property
    def grid(self) -> int:
        """Side g of the maps, in patches."""
        ...

    @property
    def uses_model_tokens(self) -> bool:
        """Whether the maps come from the model's tokens, so that no pass over pixels is needed."""
        ...

    def preprocess(self, image: Image.Image) -> Tensor:
        """A whole RGB image to [3, S, S] float32 on the CPU."""
        ...

    def attend(self, pixels: Tensor) -> Tensor:
        """[B, 3, S, S] to maps [B, g, g] float32."""
        ...

    def attend_tokens(self, tokens: Tensor) -> Tensor:
        """The model's tokens [B, P + g*g, w] to maps [B, g, g] float32.

        Raises:
            ModelError: the source needs pixels.
        """
        ...


class DinoAttention:
    """The last layer's attention from CLS to the patches of a vision transformer, always in float32.

    The image is resized to the model's square without keeping its aspect (PIL bilinear), as the Hugging Face processor
    does; timm's own preprocessing for the same weights (bicubic, crop 0.9) gives other maps.

    Args:
        weights: a timm name, a folder or a file; see ``abs_classify.vit_weights``.
        name: what the user named.
        device: where to compute.
        allow_download: whether missing weights may be fetched.

    Raises:
        UnknownNameError, WeightsError, ModelError: as in ``load_vit``; ModelError also for a model without a CLS token
            or without attention that can be read.
    """

    uses_model_tokens = False

    def __init__(
        self,
        weights: str = DEFAULT_VIT,
        *,
        name: str = "dino",
        device: torch.device | str = "cpu",
        allow_download: bool = False,
    ) -> None:
        loaded = load_vit(weights, allow_download=allow_download)
        split = split_timm(loaded.trunk.to(device), pooling="token")
        if split is None or split.row is None or split.prefix == 0:
            raise ModelError(
                f"{weights!r} has no CLS token whose attention could be read",
                remedy=f"Choose a vision transformer with one, such as {DEFAULT_VIT}",
            )
        self.name = name
        self.grid = split.grid
        self.device = torch.device(device)
        self._split, self._row = split, split.row
        self._size = loaded.size
        self._mean = torch.tensor(loaded.mean).view(3, 1, 1)
        self._std = torch.tensor(loaded.std).view(3, 1, 1)
        self.digest = digest(
            {"attention": "cls", "weights": loaded.weights, "architecture": loaded.architecture, "size": self._size}
        )

    def preprocess(self, image: Image.Image) -> Tensor:
        """A whole RGB image, squashed to [3, S, S] float32, mean and standard deviation of ImageNet."""
        resized = image.resize((self._size, self._size), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(resized, dtype=np.float32)).permute(2, 0, 1) / 255
        return (pixels - self._mean) / self._std

    @torch.inference_mode()
    def heads(self, pixels: Tensor) -> Tensor:
        """[B, 3, S, S] to the attention of each head, [B, h, g, g] float32; CLS and registers are left out."""
        rows = self._row(self._split.embed(pixels.to(self.device)))
        return to_grid(rows[..., self._split.prefix :], self.grid)

    @torch.inference_mode()
    def attend(self, pixels: Tensor) -> Tensor:
        """[B, 3, S, S] to the mean over heads, [B, g, g] float32; a map sums to less than 1, CLS being left out."""
        return self.heads(pixels).mean(1)

    def attend_tokens(self, tokens: Tensor) -> Tensor:
        """Not possible: the tokens of another model say nothing of this one's attention.

        Raises:
            ModelError: always.
        """
        raise ModelError(f"the attention backend {self.name!r} needs pixels, not the model's {tokens.shape[1]} tokens")


class SelfAttention:
    """The model's own attention, from the tokens that its whole-image pass leaves anyway.

    Args:
        model: the image encoder.
        source: ``self`` or ``norm``.

    Raises:
        ModelError: the model does not have this source.
    """

    uses_model_tokens = True

    def __init__(self, model: Model, source: str) -> None:
        if source not in model.attention_backends():
            has = ", ".join(model.attention_backends()) or "none of its own"
            raise ModelError(
                f"the model {model.name!r} has no attention {source!r}; it has: {has}",
                remedy="Choose one that it has, dino, or none",
            )
        self.name = source
        self.grid = model.grid
        self.digest = digest({"attention": source, "tower": model.digest})
        self._model = model

    def preprocess(self, image: Image.Image) -> Tensor:
        """The model's own preprocessing of a whole image."""
        return self._model.preprocess(image)

    def attend(self, pixels: Tensor) -> Tensor:
        """[B, 3, S, S] to [B, g, g] float32."""
        return self.attend_tokens(self._model.tokens(pixels))

    def attend_tokens(self, tokens: Tensor) -> Tensor:
        """[B, P + g*g, w] to [B, g, g] float32."""
        return self._model.self_attention(tokens, self.name)


class UniformAttention:
    """The same attention everywhere. Nothing is looked at.

    Args:
        grid: side of the map.
    """

    name = "none"
    uses_model_tokens = False

    def __init__(self, grid: int = _PUBLISHED_GRID) -> None:
        self.grid = grid
        self.digest = digest({"attention": "none", "grid": grid})

    def preprocess(self, image: Image.Image) -> Tensor:  # noqa: ARG002 - the map does not depend on the image
        """One blank pixel, [3, 1, 1]."""
        return torch.zeros(3, 1, 1)

    def attend(self, pixels: Tensor) -> Tensor:
        """[B, ...] to [B, g, g] float32, each map summing to 1."""
        return torch.full((len(pixels), self.grid, self.grid), 1 / self.grid**2)

    def attend_tokens(self, tokens: Tensor) -> Tensor:
        """The same for tokens [B, ...]."""
        return self.attend(tokens)


def load_attention(name: str, model: Model, *, allow_download: bool = False) -> AttentionBackend:
    """The attention backend of a name.

    Args:
        name: ``auto`` (what the model recommends), ``dino``, ``dino:`` and a timm name, folder or file, ``self``,
            ``norm``, ``none``. A model with an attention backend of its own gives it for ``auto``, ``self``, ``norm``.
        model: lends its tokens, its grid and its device.
        allow_download: whether missing weights may be fetched.

    Raises:
        UnknownNameError: any other name.
        ModelError: the model does not have this source.
        WeightsError: DINO's weights are not on this machine.
    """
    own = getattr(model, "own_attention", None)
    if name in ("auto", "self", "norm") and own is not None:
        source: AttentionBackend = own()
        return source
    if name == "auto":
        return load_attention(model.default_attention(), model, allow_download=allow_download)
    if name in ("self", "norm"):
        return SelfAttention(model, name)
    if name == "none":
        return UniformAttention(model.grid or _PUBLISHED_GRID)
    return DinoAttention(_dino_weights(name), name=name, device=model.device, allow_download=allow_download)


def attention_files(name: str, model: str) -> tuple[Path, ...]:
    """The files that decide an attention backend, beside those of its model, without reading them.

    Args:
        name: as in ``load_attention``.
        model: the model's name.

    Raises:
        UnknownNameError, WeightsError: as in ``load_attention``.
    """
    from abs_classify.models.embedded_files import EMBEDDED

    if name in ("self", "norm", "none") or (name == "auto" and model == EMBEDDED):
        return ()
    return vit_files(_dino_weights("dino" if name == "auto" else name))


def _dino_weights(name: str) -> str:
    if name == "dino":
        return DEFAULT_VIT
    head, colon, spec = name.partition(":")
    if head != "dino" or not colon or not spec:
        raise UnknownNameError("attention backend", name, ATTENTION_NAMES)
    return spec
