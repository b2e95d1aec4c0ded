"""Any pair of an image encoder and a text encoder in torch, as a model of this toolkit.

    model = wrap(network, preprocess, tokenizer, name="mine")

Nothing is copied: the encoders run as they are, on the device where their weights are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from abs_classify.models.attention import SelfAttention
from abs_classify.models.base import AttentionBackend, no_feature_views
from abs_classify.models.checkpoint import check_finite, state_digest
from abs_classify.models.last_block import full_views, resize_table, view_matrices
from abs_classify.plugins import entry_source, failure_text
from abs_core.canonical import digest, sha256_bytes
from abs_core.errors import AbsError, ModelError, UsageError

__all__ = ["TokenGrid", "WrappedModel", "wrap"]

# Raise it when the digest is made of other things.
_RECIPE = 1

_TEXTS_AT_ONCE = 64
_PROBE_TEXTS = ("a photo of a cat.", "An owl has large, round eyes; it hunts at night!", "")

Encoder: TypeAlias = Callable[..., Any]


@dataclass(frozen=True)
class TokenGrid:
    """The optional part of a model that feature windows and attention of its own need.

    Args:
        side: g, of the grid of patch tokens.
        tokens: [B, 3, S, S] to [B, P + g*g, w], prefix tokens first.
        pool: [B, P + g*g, w] to [B, d]; ``pool(tokens(x))`` is what the image encoder gives.
        attention: [B, P + g*g, w] to maps [B, g, g], not negative: the attention ``self``. None: there is none.
    """

    side: int
    tokens: Callable[[Tensor], Tensor]
    pool: Callable[[Tensor], Tensor]
    attention: Callable[[Tensor], Tensor] | None = None


def wrap(
    module: nn.Module | tuple[Encoder, Encoder],
    preprocess: Callable[[Image.Image], Tensor],
    tokenizer: Callable[[list[str]], Any] | None,
    *,
    name: str,
    version: str = "",
    context_length: int | None = None,
    count_tokens: Callable[[str], int] | None = None,
    logit_scale: float | None = None,
    crop_fraction: float | None = 1.0,
    grid: TokenGrid | None = None,
) -> WrappedModel:
    """Make a model of a torch image encoder and a torch text encoder.

    Its digest, which finds features in the cache, is made of the weights, the printed structure of modules, what
    ``preprocess`` and ``tokenizer`` give for samples, ``name`` and ``version``. Raise ``version`` when code changes
    that these do not show.

    Args:
        module: a module with ``encode_image`` and ``encode_text``, as CLIP has them; or an image encoder and a text
            encoder, which are modules or functions. Modules are set to eval mode. An encoder gives [B, d].
        preprocess: an RGB image to [3, height, width] floating-point, the same size for every image; no randomness.
        tokenizer: a list of texts to what the text encoder takes: a tensor, or a mapping that becomes keyword
            arguments. None where the text encoder takes the texts.
        name: what results call it.
        version: of code that cannot be hashed; required where an encoder is a function.
        context_length: tokens that a text may have; None takes the tokenizer's or the module's own.
        count_tokens: the tokens of a whole text. Without it only open_clip's tokenizers tell that a text is cut.
        logit_scale: see ``Model.logit_scale``; None takes the module's own, as CLIP keeps it, else 100.
        crop_fraction: see ``Model.crop_fraction``; None where ``preprocess`` stretches or pads the whole image.
        grid: tokens, for feature windows and attention; None: methods with feature windows are refused.

    Raises:
        UsageError: an argument cannot be what it should be; the message says which.
        ModelError: NaN or infinity in the weights, or image and text features of different sizes.
    """
    if not name:
        raise UsageError("the model has no name", remedy="Pass name='mine'")
    encoders = _encoders(module)
    parts = _modules(module, name, version)
    length = context_length or _context_length(tokenizer, parts)
    if length is None:
        raise UsageError("how many tokens a text may have is not known", remedy="Pass context_length=77")
    return WrappedModel(
        encoders,
        preprocess,
        tokenizer,
        name=name,
        digest=_digest(parts, preprocess, tokenizer, [name, version, 0 if grid is None else grid.side]),
        context_length=length,
        count_tokens=count_tokens or partial(_count_tokens, tokenizer, length),
        logit_scale=_logit_scale(parts) if logit_scale is None else logit_scale,
        crop_fraction=crop_fraction,
        tensor=next(_floating(parts), torch.zeros(())),
        grid=grid,
    )


class WrappedModel:
    """A torch pair behind the protocol ``Model``. Build one with ``wrap``.

    Attributes:
        name, digest, embed_dim, logit_scale, grid, crop_fraction, device, context_length: as in ``Model``.
    """

    cheap_windows = False

    def __init__(
        self,
        encoders: tuple[Encoder, Encoder],
        preprocess: Callable[[Image.Image], Tensor],
        tokenizer: Callable[[list[str]], Any] | None,
        *,
        name: str,
        digest: str,
        context_length: int,
        count_tokens: Callable[[str], int],
        logit_scale: float,
        crop_fraction: float | None,
        tensor: Tensor,
        grid: TokenGrid | None,
    ) -> None:
        self._image_encoder, self._text_encoder = encoders
        self._tokenizer = tokenizer
        self._preprocess, self._count_tokens, self._grid = preprocess, count_tokens, grid
        self.name, self.digest, self.context_length = name, digest, context_length
        self.logit_scale, self.crop_fraction = logit_scale, crop_fraction
        self.device, self._dtype = tensor.device, tensor.dtype
        self.grid = 0 if grid is None else grid.side
        self._table = None if grid is None else resize_table(grid.side, self.device)
        self.embed_dim = self._measure_embed_dim()

    def __repr__(self) -> str:
        windows = f"{self.grid} x {self.grid} tokens" if self.grid else "no feature windows"
        return f"<WrappedModel {self.name!r}: {self.embed_dim} numbers a feature, {windows}, on {self.device}>"

    def preprocess(self, image: Image.Image) -> Tensor:
        """An RGB image to [3, height, width] float32 on the CPU."""
        return self._preprocess(image).float()

    def preprocess_crop(self, image: Image.Image) -> Tensor:
        """The same of a view that was cut from an image."""
        return self.preprocess(image)

    @torch.inference_mode()
    def encode_image(self, pixels: Tensor) -> Tensor:
        """[B, 3, S, S] to [B, d] float32, not normalised.

        Raises:
            ModelError: the image encoder gives anything else.
        """
        encoded = self._run(lambda: self._image_encoder(self._to_model(pixels)), "image")
        return self._features(encoded, len(pixels), "image")

    def _run(self, encode: Callable[[], object], kind: str) -> object:
        """What somebody else's encoder gives.

        Raises:
            ModelError: it fails; names model and plugin.
        """
        try:
            return encode()
        except (AbsError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise ModelError(
                f"the {kind} encoder of {self.name!r}{failure_text('model', self.name, error)}",
                remedy="Mend the encoder, or what is passed to wrap()",
            ) from error

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """n texts to [n, d] float32, not normalised, in batches.

        Raises:
            ModelError: the text encoder gives anything else.
        """
        if not texts:
            return torch.zeros(0, self.embed_dim, device=self.device)
        starts = range(0, len(texts), _TEXTS_AT_ONCE)
        return torch.cat([self._encode_batch(list(texts[start : start + _TEXTS_AT_ONCE])) for start in starts])

    def _encode_batch(self, texts: list[str]) -> Tensor:
        def encode() -> object:
            if self._tokenizer is None:
                return self._text_encoder(texts)
            tokens = self._tokenizer(texts)
            if isinstance(tokens, Mapping):
                return self._text_encoder(**{key: value.to(self.device) for key, value in tokens.items()})
            return self._text_encoder(tokens.to(self.device))

        return self._features(self._run(encode, "text"), len(texts), "text")

    def _features(self, encoded: object, count: int, kind: str) -> Tensor:
        """What an encoder gave, as float32 [count, d]."""
        of = f"the {kind} encoder of {self.name!r}{entry_source('model', self.name)}"
        if not isinstance(encoded, Tensor) or encoded.ndim != 2 or len(encoded) != count:
            shape = list(encoded.shape) if isinstance(encoded, Tensor) else type(encoded).__name__
            raise ModelError(
                f"{of} must give a tensor [{count}, d], got {shape}",
                remedy="Wrap a function that picks the feature out: lambda x: encoder(x).pooler_output",
            )
        features = encoded.float()
        if not bool(features.isfinite().all()):
            raise ModelError(f"{of} gives numbers that are not finite", remedy="Check its weights and its input")
        return features

    def count_tokens(self, text: str) -> int:
        """How many tokens a text has; see ``wrap`` for those that are cut."""
        return self._count_tokens(text)

    @torch.inference_mode()
    def tokens(self, pixels: Tensor) -> Tensor:
        """[B, 3, S, S] to [B, P + g*g, w].

        Raises:
            ModelError: the model was wrapped without a grid.
        """
        return self._need_grid().tokens(self._to_model(pixels))

    @torch.inference_mode()
    def pool(self, tokens: Tensor) -> Tensor:
        """[B, P + g*g, w] to [B, d] float32.

        Raises:
            ModelError: the model was wrapped without a grid.
        """
        return self._features(self._need_grid().pool(tokens), len(tokens), "image")

    @torch.inference_mode()
    def pool_windows(self, tokens: Tensor, windows: Tensor) -> Tensor:
        """Features [B, N, d] float32 of windows int64 [B, N, 4]: each is resized to g x g tokens and pooled.

        Raises:
            ModelError: the model was wrapped without a grid.
            UsageError: a window is empty or leaves the grid.
        """
        grid = self._need_grid()
        assert self._table is not None  # there is a grid
        if windows.shape[1] == 0:
            return torch.zeros(len(tokens), 0, self.embed_dim, device=tokens.device)
        rows, columns = view_matrices(self._table, windows)
        return full_views(grid.pool, tokens, rows, columns).float()

    def attention_backends(self) -> Mapping[str, Callable[[], AttentionBackend]]:
        """``self`` where the grid has attention."""
        if self._grid is None or self._grid.attention is None:
            return {}
        maps = self._grid.attention
        return {"self": lambda: SelfAttention("self", maps, grid=self.grid, model_digest=self.digest)}

    def default_attention(self) -> str:
        """``self`` where there is one, else ``dino``, which needs weights of its own."""
        return "self" if self.attention_backends() else "dino"

    def _to_model(self, pixels: Tensor) -> Tensor:
        return pixels.to(device=self.device, dtype=self._dtype, non_blocking=True)

    def _need_grid(self) -> TokenGrid:
        if self._grid is None:
            raise no_feature_views(self.name)
        return self._grid

    def _measure_embed_dim(self) -> int:
        pixels = self.preprocess(_probe_image(224, 224))[None]
        image, text = self.encode_image(pixels).shape[-1], self._encode_text_size()
        if image != text:
            raise ModelError(
                f"the image features of {self.name!r} have {image} numbers, its text features {text}",
                remedy="Give encoders of one embedding space, with their projections",
            )
        return image

    @torch.inference_mode()
    def _encode_text_size(self) -> int:
        return self._encode_batch([_PROBE_TEXTS[0]]).shape[-1]


def _encoders(module: object) -> tuple[Encoder, Encoder]:
    """The encoder of images and that of texts.

    Raises:
        UsageError: it has none.
    """
    if isinstance(module, tuple):
        if len(module) != 2 or not all(map(callable, module)):
            raise UsageError("a pair must be an image encoder and a text encoder, both callable")
        return module
    encoders = [getattr(module, attribute, None) for attribute in ("encode_image", "encode_text")]
    if not isinstance(module, nn.Module) or not all(map(callable, encoders)):
        raise UsageError(
            f"{type(module).__name__} is no torch module with encode_image and encode_text",
            remedy="Pass the two encoders: wrap((image_encoder, text_encoder), ...)",
        )
    return module.encode_image, module.encode_text  # type: ignore[return-value]


def _modules(module: nn.Module | tuple[Encoder, Encoder], name: str, version: str) -> list[nn.Module]:
    """The modules, in eval mode, whose weights are known.

    Raises:
        UsageError: an encoder is none, and no version stands for it.
        ModelError: NaN or infinity in the weights.
    """
    given = module if isinstance(module, tuple) else (module,)
    parts = [part for part in given if isinstance(part, nn.Module)]
    if len(parts) < len(given) and not version:
        raise UsageError(
            "an encoder that is a function cannot be hashed, so version must say which it is",
            remedy="Pass version='1', and raise it when the encoder or its weights change",
        )
    for part in parts:
        part.eval()
        check_finite(part, subject=f"the weights of {name!r}")
    return parts


def _digest(
    parts: Sequence[nn.Module],
    preprocess: Callable[[Image.Image], Tensor],
    tokenizer: Callable[[list[str]], Any] | None,
    names: Sequence[str | int],
) -> str:
    """The digest of all that decides a feature, as far as it can be hashed.

    Raises:
        UsageError: what preprocessing or tokenizer give cannot be used.
    """
    return digest(
        {
            "wrapped": _RECIPE,
            "names": list(names),
            "weights": [state_digest(part) for part in parts],
            # activations and the like have no weights; addresses differ from process to process
            "structure": [re.sub(r"0x[0-9a-fA-F]+", "", repr(part)) for part in parts],
            "preprocess": _preprocess_digest(preprocess),
            "tokenizer": None if tokenizer is None else _tokenizer_digest(tokenizer),
        }
    )


def _floating(parts: Sequence[nn.Module]) -> Iterator[Tensor]:
    for part in parts:
        yield from (parameter for parameter in part.parameters() if parameter.is_floating_point())


def _context_length(tokenizer: object, parts: Sequence[nn.Module]) -> int | None:
    for owner in (tokenizer, *parts):
        length = getattr(owner, "context_length", None)
        if isinstance(length, int) and length > 0:
            return length
    return None


def _logit_scale(parts: Sequence[nn.Module]) -> float:
    for part in parts:
        logarithm = getattr(part, "logit_scale", None)
        scale = float(logarithm.detach().float().exp().max()) if isinstance(logarithm, Tensor) else 0.0
        if 1 < scale <= 1000:
            return scale
    return 100.0


def _count_tokens(tokenizer: object, length: int, text: str) -> int:
    if type(tokenizer).__module__.startswith("open_clip"):
        from abs_classify.models.open_clip import count_tokens

        return count_tokens(tokenizer, text)
    return min(length, len(text.split()) + 2)


def _probe_image(width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def _preprocess_digest(preprocess: Callable[[Image.Image], Tensor]) -> str:
    """The digest of what becomes of images of noise, one wide and one small.

    Raises:
        UsageError: it gives no tensors [3, height, width] of one size, or others each time.
    """
    probes = [_probe_image(331, 250), _probe_image(40, 90)]
    given = [preprocess(image) for image in (*probes, *probes)]
    for pixels in given:
        if not isinstance(pixels, Tensor) or pixels.ndim != 3 or len(pixels) != 3 or not pixels.is_floating_point():
            got = (
                f"{pixels.dtype} {list(pixels.shape)}".replace("torch.", "")
                if isinstance(pixels, Tensor)
                else type(pixels).__name__
            )
            raise UsageError(
                f"preprocess must give a floating-point tensor [3, height, width], got {got}",
                remedy="Pass a function of one image, as torchvision's transforms are",
            )
    if given[0].shape != given[1].shape:
        raise UsageError(
            f"preprocess gives {list(given[0].shape)} for one image and {list(given[1].shape)} for another",
            remedy="Resize and crop to one size",
        )
    if not all(map(torch.equal, given[:2], given[2:])):
        raise UsageError("preprocess gives other pixels each time", remedy="Leave out augmentation")
    return sha256_bytes(b"".join(pixels.float().contiguous().cpu().numpy().tobytes() for pixels in given[:2]))


def _tokenizer_digest(tokenizer: Callable[[list[str]], Any]) -> str:
    tokens = tokenizer(list(_PROBE_TEXTS))
    parts = dict(tokens) if isinstance(tokens, Mapping) else {"": tokens}
    for value in parts.values():
        if not isinstance(value, Tensor):
            raise UsageError(
                f"tokenizer must give tensors, got {type(value).__name__}",
                remedy="Pass a function of a list of texts, such as "
                "lambda texts: tokenizer(texts, padding=True, truncation=True, return_tensors='pt')",
            )
    return digest({key: [list(value.shape), value.tolist()] for key, value in parts.items()})
