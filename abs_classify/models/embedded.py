"""The embedded model: zero-shot classification with weights that come as Python packages, without a model hub.

It joins an ImageNet classifier with a sentence encoder, without training (ConSE, Norouzi et al. 2014; DeViSE, Frome et
al. 2013): an image becomes the average of the sentence vectors of the ImageNet classes it resembles. So it knows what
ImageNet knows. It shows that the toolkit works on a machine without a hub; real CLIP models know more.

Its tokens are the last feature map, and its pooling is a mean. Resizing is linear, so a feature window is a fixed
re-weighting of the tokens and costs nearly nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from abs_classify.models.base import AttentionBackend, ImageGroup, resolve_device, resolve_dtype
from abs_classify.models.copies import to_device
from abs_classify.models.embedded_files import (
    EMBED_DIM,
    EMBEDDED,
    GRID,
    MAX_TOKENS,
    EmbeddedFiles,
    ImagenetTexts,
    find_embedded_files,
    find_shipped_anchors,
    imagenet_texts,
)
from abs_classify.models.embedded_networks import EmbeddedTextEncoder, ImageBackbone
from abs_classify.models.preprocessing import PixelPreprocessing
from abs_classify.models.resampling import Resizing
from abs_core.canonical import digest
from abs_core.errors import UsageError
from abs_core.extras import require_installed
from abs_core.files import atomic_write
from abs_core.packaged_weights import PinnedFile

__all__ = [
    "EmbeddedAttention",
    "EmbeddedModel",
    "Semantics",
    "build_anchors",
    "cached_semantics",
    "load_embedded_model",
    "norm_map",
    "window_weights",
]


if TYPE_CHECKING:
    Box = tuple[float, float, float, float]


_SIZE = 224
_ATTENTION_SIZE = 320
_ATTENTION_TEMPERATURE = 0.5

# Raise it when the recipe changes in a way that the other parts of the digest do not show.
_RECIPE = 2
_ANCHORS_RECIPE = 1


class EmbeddedModel:
    """EfficientNet-Lite0 and MiniLM behind the protocol ``Model``.

    Weights are verified and read when the model is made; the map between the two spaces is read when first needed:
    it ships with the toolkit for the class texts of the pinned packages, and is computed once for others. The dtype
    concerns the convolutions; texts and the map stay in float32.

    Args:
        files: the weights.
        texts: what the classes of the backbone mean.
        device: where to run.
        dtype: of the convolutions.
        cache_folder: keeps anchors that were computed, which takes seconds; without it they are computed each time.

    Raises:
        WeightsError: a weights file is missing or not the expected one.
    """

    name = EMBEDDED
    embed_dim = EMBED_DIM
    grid = GRID
    cheap_windows = True
    #: it was trained without a softmax over texts; this one makes probabilities that labels of photos bear out
    logit_scale = 10.0
    context_length = MAX_TOKENS
    #: side of the central square that ``preprocess`` takes, as a share of the short side
    crop_fraction = 0.875

    def __init__(
        self,
        files: EmbeddedFiles,
        texts: ImagenetTexts,
        device: torch.device,
        dtype: torch.dtype,
        cache_folder: Path | None = None,
    ) -> None:
        self._files, self._texts, self._cache_folder = files, texts, cache_folder
        self.device, self._dtype = device, dtype
        self._backbone = ImageBackbone(files, device, dtype)
        self._sentences = EmbeddedTextEncoder(files, device)
        self._building = threading.RLock()
        #: a whole RGB image: its central square of 0.875 of the short side, [3, 224, 224] float32
        self.preprocess = _preprocessing(_SIZE, "square", self.crop_fraction)
        #: a view that was cut from an RGB image: its whole central square, [3, 224, 224] float32
        self.preprocess_crop = _preprocessing(_SIZE, "square", 1.0)

    @cached_property
    def digest(self) -> str:
        """``sha256:...`` of the weights, the class texts, the recipe and the dtype."""
        return digest({"tower": self._identity, "size": _SIZE, "dtype": str(self._dtype)})

    @torch.inference_mode()
    def encode_image(self, pixels: Tensor) -> Tensor:
        """[B, 3, 224, 224] to [B, 384] float32, not normalised."""
        return self.pool(self.tokens(pixels))

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """n texts to [n, 384] float32: unit sentence vectors less the mean of the class texts, not normalised."""
        return self._sentences.encode(texts) - self._semantics.mean

    def count_tokens(self, text: str) -> int:
        """How many tokens the whole text has, special tokens included."""
        return self._sentences.count_tokens(text)

    @torch.inference_mode()
    def tokens(self, pixels: Tensor) -> Tensor:
        """[B, 3, 224, 224] to the last feature map, [B, 49, 1280] float32, row by row."""
        return self._backbone(pixels).float().flatten(2).transpose(1, 2)

    @torch.inference_mode()
    def pool(self, tokens: Tensor) -> Tensor:
        """[B, 49, 1280] to [B, 384] float32, not normalised."""
        return self._finish(tokens.mean(dim=1))

    @torch.inference_mode()
    def pool_windows(self, tokens: Tensor, windows: Tensor) -> Tensor:
        """Features [B, N, 384] of windows int64 [B, N, 4] (row0, row1, col0, col1; ends exclusive).

        A window resized to 7 x 7 (bicubic, align_corners=False) and averaged is a weighted mean of its tokens; the
        weights are products of a row and a column weight.

        Raises:
            UsageError: a window is empty or leaves the grid.
        """
        row0, row1, col0, col1 = windows.unbind(-1)
        if not bool(((row0 >= 0) & (row0 < row1) & (row1 <= self.grid)).all()) or not bool(
            ((col0 >= 0) & (col0 < col1) & (col1 <= self.grid)).all()
        ):
            raise UsageError(f"a window is empty or leaves the grid of {self.grid} x {self.grid} tokens")
        table = self._window_table.to(tokens.device)
        row0, row1, col0, col1 = to_device(windows, tokens.device).unbind(-1)
        weights = (table[row0, row1][..., :, None] * table[col0, col1][..., None, :]).flatten(-2)
        return self._finish(weights @ tokens)

    def attention_backends(self) -> Mapping[str, Callable[[], AttentionBackend]]:
        """``norm``, which ``self`` stands for as well: the pooling is a mean and has no query of its own."""
        return dict.fromkeys(("norm", "self"), self.own_attention)

    def default_attention(self) -> str:
        """``norm``, at 10 x 10 places instead of the tokens' 7 x 7."""
        return "norm"

    def own_attention(self) -> EmbeddedAttention:
        """The attention ``norm``."""
        return EmbeddedAttention(self)

    @torch.inference_mode()
    def feature_map(self, pixels: Tensor) -> Tensor:
        """[B, 3, S, S] to [B, 1280, S / 32, S / 32] float32."""
        return self._backbone(pixels).float()

    def _finish(self, feature: Tensor) -> Tensor:
        """[..., 1280] to [..., 384]: class scores, then the sentence space."""
        return self._semantics.embed(feature @ self._backbone.weight.T + self._backbone.bias)

    @property
    def _semantics(self) -> Semantics:
        # threads that encode the first images ask for it all at once
        with self._building:
            return self._built_semantics

    @cached_property
    def _identity(self) -> str:
        """What the anchors depend on, and the backbone."""
        return self._digest_of(_RECIPE, self._files.all())

    @cached_property
    def _built_semantics(self) -> Semantics:
        identity = self._digest_of(_ANCHORS_RECIPE, self._files.text_encoder())
        shipped = find_shipped_anchors(identity)
        if shipped is not None and (numbers := _parse_anchors(shipped.read())) is not None:
            return Semantics.of(numbers[0].to(self.device), numbers[1].to(self.device))
        path = None
        if self._cache_folder is not None:
            path = self._cache_folder / f"embedded-anchors-{identity.removeprefix('sha256:')}.safetensors"
        return cached_semantics(lambda: build_anchors(self._texts, self._sentences.encode), path, self.device)

    def _digest_of(self, recipe: int, files: Sequence[PinnedFile]) -> str:
        pinned = [file.sha256 for file in files]
        return digest({"recipe": recipe, "files": pinned, "names": self._texts.names, "glosses": self._texts.glosses})

    @cached_property
    def _window_table(self) -> Tensor:
        return window_weights(self.grid)


class EmbeddedAttention:
    """Where the embedded model looks: token norms at 320 pixels, a 10 x 10 map of the whole image, squashed square.

    The softmax of the standardised norms, divided by 0.5. On blurred composites its top token fell inside the pasted
    image 96 times in 100.

    Args:
        model: lends its backbone.
    """

    name = "norm"
    grid = _ATTENTION_SIZE // 32

    def __init__(self, model: EmbeddedModel) -> None:
        self._model = model
        #: the whole RGB image, squashed to [3, 320, 320] float32
        self.preprocess = _preprocessing(_ATTENTION_SIZE, "stretch", 1.0)

    @cached_property
    def digest(self) -> str:
        """``sha256:...`` of the model and of how the map is made."""
        return digest(
            {
                "attention": "norm",
                "tower": self._model.digest,
                "size": _ATTENTION_SIZE,
                "temperature": str(_ATTENTION_TEMPERATURE),
            }
        )

    @torch.inference_mode()
    def maps(self, pixels: Tensor) -> Tensor:
        """[B, 3, 320, 320] to [B, 10, 10] float32; each map sums to 1."""
        features = self._model.feature_map(pixels)
        return norm_map(features.flatten(2).transpose(1, 2)).reshape(-1, self.grid, self.grid)

    def attend(self, images: ImageGroup) -> Tensor:
        """The maps of B images, [B, 10, 10] float32. They are finer than the model's tokens and need their own pass."""
        return images.run(self.preprocess, self.maps)


def load_embedded_model(device: str = "cpu", dtype: str = "float32", cache_folder: Path | None = None) -> EmbeddedModel:
    """Load the embedded model.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:1``, ``auto``.
        dtype: of the convolutions: ``float32``, ``bfloat16``, ``float16``.
        cache_folder: keeps what is computed from the weights once, 1.5 MB.

    Raises:
        MissingExtraError: a package is not installed.
        WeightsError: a weights file is missing or not the expected one.
        ModelError: the ImageNet class texts are not where they should be.
        UsageError: an unknown device or dtype.
    """
    resolved_device, resolved_dtype = resolve_device(device), resolve_dtype(dtype)
    require_installed("tokenizers", extra="embedded")
    return EmbeddedModel(find_embedded_files(), imagenet_texts(), resolved_device, resolved_dtype, cache_folder)


@dataclass(frozen=True)
class Semantics:
    """From class scores to the sentence space, and the centre of that space.

    Convex combination of semantic embeddings (ConSE, Norouzi et al. 2014), plus a ridge map from centred scores to
    anchors (a linear map as in DeViSE, Frome et al. 2013).

    Args:
        anchors: T, unit vectors of the 1000 classes [1000, 384], float32, centred twice.
        mean: mu [384], what texts of the form "a photo of a ..." share.
        ridge: T (T'T + 10 I)^-1 [1000, 384].
    """

    anchors: Tensor
    mean: Tensor
    ridge: Tensor

    @classmethod
    def of(cls, anchors: Tensor, mean: Tensor) -> Semantics:
        """Add the ridge map, penalty 10, to the anchors [1000, 384] and the mean [384]."""
        wide = anchors.double()
        gram = wide.T @ wide + 10.0 * torch.eye(wide.shape[1], dtype=wide.dtype, device=wide.device)
        return cls(anchors, mean, torch.linalg.solve(gram, wide.T).T.contiguous().float())

    def embed(self, logits: Tensor) -> Tensor:
        """[..., 1000] class scores to [..., 384] in the sentence space, not normalised."""
        convex = normalize(logits.softmax(dim=-1) @ self.anchors, dim=-1)
        linear = normalize((logits - logits.mean(dim=-1, keepdim=True)) @ self.ridge, dim=-1)
        return convex + 0.3 * linear


def build_anchors(texts: ImagenetTexts, encode: Callable[[Sequence[str]], Tensor]) -> tuple[Tensor, Tensor]:
    """Anchors [1000, 384] and mean [384] from the class texts; the second centring of the anchors matters."""
    prompted = encode([f"a photo of a {name}." for name in texts.names])
    glossed = [f"{name}: {gloss}" for name, gloss in zip(texts.names, texts.glosses, strict=True)]
    anchors = normalize(encode(texts.names) + prompted + encode(glossed), dim=-1)
    mean = prompted.mean(dim=0)
    anchors = normalize(anchors - mean, dim=-1)
    return normalize(anchors - anchors.mean(dim=0), dim=-1), mean


def cached_semantics(build: Callable[[], tuple[Tensor, Tensor]], path: Path | None, device: torch.device) -> Semantics:
    """The semantics, from ``path`` if it holds them, else built and kept there.

    Args:
        build: gives anchors and mean, which takes seconds.
        path: a safetensors file whose name tells all that the numbers depend on; a damaged one is replaced.
        device: where to put the tensors.

    Raises:
        StorageError: the file cannot be written.
    """
    numbers = _read_anchors(path) if path is not None else None
    if numbers is None:
        numbers = build()
        if path is not None:
            from safetensors.torch import save

            with atomic_write(path) as stream:
                stream.write(save({"anchors": numbers[0].cpu(), "mean": numbers[1].cpu()}))
    return Semantics.of(numbers[0].to(device), numbers[1].to(device))


def _read_anchors(path: Path) -> tuple[Tensor, Tensor] | None:
    with suppress(OSError):
        return _parse_anchors(path.read_bytes())
    return None


def _parse_anchors(data: bytes) -> tuple[Tensor, Tensor] | None:
    from safetensors import SafetensorError
    from safetensors.torch import load

    with suppress(SafetensorError, KeyError):
        tensors = load(data)
        anchors, mean = tensors["anchors"], tensors["mean"]
        fits = anchors.shape == (1000, EMBED_DIM) and mean.shape == (EMBED_DIM,)
        # NaN fails the comparison; unit rows tell most other damage
        if fits and bool(mean.isfinite().all()) and bool(((anchors.norm(dim=-1) - 1).abs() < 1e-4).all()):
            return anchors.float(), mean.float()
    return None


def window_weights(grid: int) -> Tensor:
    """How much each token of a row counts after a window of it was resized to ``grid`` tokens and averaged.

    Bicubic as in ``torch.nn.functional.interpolate`` (a = -0.75, align_corners=False, edges repeated).

    Args:
        grid: tokens in a row.

    Returns:
        float32 [grid, grid + 1, grid]: entry [start, end] holds the weights for the window start .. end (exclusive),
        which sum to 1; zeros where end <= start.
    """
    table = np.zeros((grid, grid + 1, grid))
    for start in range(grid):
        for end in range(start + 1, grid + 1):
            length = end - start
            position = (np.arange(grid) + 0.5) * length / grid - 0.5
            first = np.floor(position).astype(int)
            for tap in (-1, 0, 1, 2):
                token = np.clip(first + tap, 0, length - 1) + start
                np.add.at(table[start, end], token, _cubic(np.abs(position - first - tap)) / grid)
    return torch.from_numpy(table).float()


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """The cubic convolution kernel (Keys 1981) at distances from 0 to 2."""
    a = -0.75
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    kernel: NDArray[np.float64] = np.where(distance <= 1, near, far)
    return kernel


def norm_map(tokens: Tensor) -> Tensor:
    """[B, n, w] tokens to [B, n]: softmax of standardised token norms over 0.5; even where all norms are equal."""
    norms = tokens.float().norm(dim=-1)
    spread = norms.std(dim=-1, keepdim=True, correction=0).clamp_min(1e-6)
    scores: Tensor = (norms - norms.mean(dim=-1, keepdim=True)) / spread / _ATTENTION_TEMPERATURE
    return scores.softmax(dim=-1)


def _preprocessing(size: int, fit: Literal["square", "stretch"], fraction: float) -> PixelPreprocessing:
    """Bicubic to ``size`` x ``size``, then (x - 127) / 128."""

    def with_pillow(image: Image.Image) -> Tensor:
        box = (0.0, 0.0, float(image.width), float(image.height))
        if fit == "square":
            box = _central_square(image, fraction)
        resized = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
        pixels = torch.from_numpy(np.array(resized, dtype=np.float32)).permute(2, 0, 1).contiguous()
        return (pixels - 127.0) / 128.0

    values = ((torch.arange(256, dtype=torch.float32) - 127.0) / 128.0).repeat(3, 1)
    return PixelPreprocessing(with_pillow, Resizing(size, size, Image.Resampling.BICUBIC, fit, fraction), values)


def _central_square(image: Image.Image, fraction: float) -> Box:
    """The box (left, upper, right, lower) in pixels of the central square with ``fraction`` of the short side."""
    width, height = image.size
    side = fraction * min(width, height)
    return ((width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2)
