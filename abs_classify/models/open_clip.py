"""The models of open_clip: CLIP of OpenAI and LAION, MetaCLIP, DFN, SigLIP, EVA, PE, ViTamin, CoCa, CLIPA.

Preprocessing, tokenizer and context length come from the model, which is open_clip's own, neither copied nor patched.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import open_clip
import torch
from open_clip.tokenizer import HFTokenizer
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL.Image import Resampling
from torch import Tensor, nn

from abs_classify.models.attention import SelfAttention
from abs_classify.models.base import AttentionBackend, no_feature_views, resolve_device, resolve_dtype
from abs_classify.models.checkpoint import check_finite, model_errors, state_digest
from abs_classify.models.last_block import (
    EncoderSplit,
    fast_views,
    full_views,
    resize_table,
    split_image_encoder,
    to_grid,
    view_matrices,
)
from abs_classify.models.long_images import at_least_a_pixel, central_part
from abs_classify.models.open_clip_networks import load_network
from abs_classify.models.open_clip_sources import CheckpointSource, find_source
from abs_classify.models.preprocessing import PixelPreprocessing, normalised_values
from abs_classify.models.resampling import Resizing
from abs_classify.models.runtime import RuntimeChoice, fit_runtime
from abs_classify.models.runtime_names import Remember
from abs_classify.models.store import short_name
from abs_classify.models.tokenizer_files import check_tokenizer, check_tokenizer_options
from abs_classify.models.transformers_sources import TOKENIZER_FILES
from abs_classify.models.transformers_tokenizer import (
    AbsentTokenizer,
    FolderTokenizer,
    load_tokenizer,
    tokenizer_remarks,
)
from abs_classify.models.weights import cached_file, no_downloads
from abs_classify.threads import in_threads
from abs_core.canonical import digest
from abs_core.errors import ModelError, UsageError, WeightsError
from abs_core.extras import require
from abs_core.files import sha256_file

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["OpenClipModel", "count_tokens", "load_open_clip_model"]

_logger = logging.getLogger(__name__)

# Enough to keep a GPU busy; on a CPU, batches whose activations stay in its caches are a quarter faster.
_TEXTS_AT_ONCE = {"cuda": 256, "cpu": 64}
# the resize matrices of all windows have the fourth power of the side in numbers
_LARGEST_GRID = 80

# the factor of similarities that CLIP is trained with, at the end, which is its upper bound there; others go beyond
_CLIP_LOGIT_SCALE, _LARGEST_LOGIT_SCALE = 100.0, 1000.0
Encoder = Callable[[Tensor], Tensor]


def _encode_ids(model: Any, ids: Tensor, cut: Encoder | None) -> Tensor:
    """Encode token ids in batches.

    Args:
        model: an open_clip model.
        ids: int64 [n, L], as its tokenizer makes them, on its device.
        cut: from ``_find_cut_encoder``; texts are then encoded in the order of their lengths.

    Returns:
        [n, d] float32 in the order of ``ids``, not normalised.
    """
    if cut is None:
        return torch.cat(_in_batches(lambda batch: model.encode_text(batch, normalize=False), ids)).float()
    order = ids.argmax(-1).argsort()
    encoded = torch.cat(_in_batches(cut, ids[order])).float()
    return encoded[order.argsort()]


def _in_batches(encode: Encoder, ids: Tensor) -> list[Tensor]:
    device = ids.device.type
    batches = torch.split(ids, _TEXTS_AT_ONCE.get(device, 256))
    return list(in_threads(encode, batches) if device == "cpu" else map(encode, batches))


def _find_cut_encoder(model: Any) -> Encoder | None:
    """A text encoder that leaves the padding out: [n, L] ids to [n, d]; None where padding changes the feature.

    Args:
        model: open_clip's CLIP, or a model whose ``text`` is open_clip's TextTransformer.
    """
    from open_clip.model import CLIP
    from open_clip.transformer import TextTransformer

    text = model if isinstance(model, CLIP) else getattr(model, "text", None)
    pooling = getattr(text, "text_pool_type" if text is model else "pool_type", None)
    sees_padding = getattr(text, "use_pad_mask", False) or getattr(text, "cls_emb", None) is not None
    if not isinstance(text, (CLIP, TextTransformer)) or pooling != "argmax" or text.attn_mask is None or sees_padding:
        return None
    transformer: Any = text

    def encode(ids: Tensor) -> Tensor:
        end = ids.argmax(-1)
        length = int(end.max()) + 1
        x = transformer.token_embedding(ids[:, :length]) + transformer.positional_embedding[:length]
        x = transformer.transformer(x, attn_mask=transformer.attn_mask[:length, :length])
        pooled = transformer.ln_final(x[torch.arange(len(ids), device=ids.device), end])
        projection = transformer.text_projection
        if projection is None:
            return pooled  # type: ignore[no-any-return]
        return projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection  # type: ignore[no-any-return]

    return encode


def count_tokens(tokenizer: Any, text: str) -> int:
    """How many tokens a text has before any cutting, special tokens included.

    Args:
        tokenizer: one of open_clip's.

    Raises:
        ModelError: a tokenizer of another kind.
    """
    if isinstance(tokenizer, FolderTokenizer | AbsentTokenizer):
        return tokenizer.count(text)
    inner = getattr(tokenizer, "tokenizer", None)
    if inner is None and hasattr(tokenizer, "encode"):
        # open_clip's own byte-pair tokenizer leaves the start and end tokens to its caller
        return len(tokenizer.encode(text)) + 2
    if inner is None:
        raise ModelError(f"the tokenizer {type(tokenizer).__name__} cannot count tokens")
    cleaned = tokenizer.clean_fn(text) if hasattr(tokenizer, "clean_fn") else text
    if getattr(tokenizer, "tokenizer_mode", "") == "clips":
        # start, end and class token are put around the words by open_clip
        return len(inner(cleaned, add_special_tokens=False).input_ids) + 3
    return len(inner(cleaned).input_ids)


Preprocess = Callable[["Image"], Tensor]
Tokenizer = Callable[[list[str]], Tensor]


class OpenClipModel:
    """An open_clip model behind the ``Model`` protocol. Build one with ``load_open_clip_model`` or ``from_model``.

    Attributes:
        network: the open_clip model, in eval mode.
        preprocess: the model's own preprocessing: an RGB image to [3, S, S] float32 on the CPU.
        preprocess_crop: the same.
        split: its image encoder in two parts; None for models without a grid of transformer tokens.
        runtime: what runs the blocks of its image encoder.
        remarks: what was assumed or left out when it was loaded, for people.
    """

    def __init__(
        self,
        model: Any,
        preprocess: Preprocess,
        tokenizer: Tokenizer | None,
        *,
        name: str,
        digest: str,
        runtime: RuntimeChoice,
        remarks: tuple[str, ...] = (),
    ) -> None:
        self.network = model
        self.runtime = runtime
        self.remarks = remarks
        self.name = name
        self.digest = digest
        self.context_length = int(getattr(tokenizer, "context_length", None) or model.context_length)
        settings = _preprocess_settings(model)
        self.crop_fraction = 1.0 if settings.get("resize_mode", "shortest") == "shortest" else None
        self.split: EncoderSplit | None = _find_split(model.visual)
        self.preprocess = self.preprocess_crop = _preprocessing(preprocess, settings)
        self._tokenizer = tokenizer
        self._cut_encoder = _find_cut_encoder(model)
        parameter = next(model.visual.parameters())
        self.device: torch.device = parameter.device
        self.dtype: torch.dtype = parameter.dtype
        self.grid = self.split.grid if self.split else 0
        self.cheap_windows = self.split is not None and self.split.cls is not None
        self._table = resize_table(self.grid, self.device) if self.split else None
        self.embed_dim = self._measure_embed_dim()
        self.logit_scale = _logit_scale(model)

    @classmethod
    def from_model(
        cls,
        model: Any,
        tokenizer: Tokenizer | None = None,
        *,
        name: str,
        device: str = "cpu",
        dtype: str = "float32",
        runtime: str = "torch",
    ) -> OpenClipModel:
        """Wrap a model that is already in memory.

        Args:
            model: open_clip's CLIP, CustomTextCLIP or CoCa. It is moved, cast and set to eval mode in place.
            tokenizer: texts to ids [n, L]; without one only ``encode_tokens`` encodes texts.
            name: what results call it.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
            dtype: a key of ``DTYPES``; the weights are cast.
            runtime: one of ``RUNTIMES``. Any but ``torch`` takes the weights out of the model's own blocks.

        Raises:
            ModelError: NaN or infinity in the weights.
            UnknownNameError, UsageError, MissingExtraError: as in ``fit_runtime``.
        """
        settings, structure = _preprocess_settings(model), _structure(model)
        whole = None if runtime == "torch" else state_digest(model.float().cpu())
        choice = _settle(
            model, resolve_device(device), resolve_dtype(dtype), subject=f"the weights of {name!r}", runtime=runtime
        )
        weights = state_digest(model) if whole is None or choice.name == "torch" else whole
        return cls(
            model,
            image_transform_v2(PreprocessCfg(**settings), is_train=False),
            tokenizer,
            name=name,
            digest=digest(
                {
                    "weights": weights,
                    "architecture": structure,
                    "preprocess": settings,
                    "dtype": dtype,
                    **choice.digest_part,
                }
            ),
            runtime=choice,
        )

    @torch.no_grad()
    def encode_image(self, pixels: Tensor) -> Tensor:
        """[B, 3, S, S] to [B, d] float32, not normalised."""
        if self.split is None:
            features: Tensor = self.network.encode_image(self._to_model(pixels), normalize=False)
            return features.float()
        return self.pool(self.tokens(pixels))

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """n texts to [n, d] float32, not normalised, in batches. Texts beyond ``context_length`` are cut.

        Raises:
            ModelError: the model has no tokenizer.
        """
        tokenizer = self._need_tokenizer()
        if not texts:
            return torch.zeros(0, self.embed_dim, device=self.device)
        return self.encode_tokens(tokenizer(list(texts)))

    @torch.inference_mode()
    def encode_tokens(self, ids: Tensor) -> Tensor:
        """Token ids [n, L], as the model's tokenizer makes them, to [n, d] float32, not normalised."""
        return _encode_ids(self.network, ids.to(self.device), self._cut_encoder)

    def count_tokens(self, text: str) -> int:
        """How many tokens the whole text has before any cutting, special tokens included.

        Raises:
            ModelError: the model has no tokenizer, or one that cannot count.
        """
        return count_tokens(self._need_tokenizer(), text)

    @torch.no_grad()
    def tokens(self, pixels: Tensor) -> Tensor:
        """[B, 3, S, S] to the input of the last block, [B, P + g*g, w], in the dtype of the weights."""
        return self._need_split().embed(self._to_model(pixels))

    @torch.no_grad()
    def pool(self, tokens: Tensor) -> Tensor:
        """[B, P + g*g, w] to [B, d] float32. A CLS-pooled plain block is finished for its CLS token alone."""
        split = self._need_split()
        if split.cls is None:
            return split.finish(tokens).float()
        return split.head(split.cls(tokens).unsqueeze(1)).float()

    @torch.inference_mode()
    def pool_windows(self, tokens: Tensor, windows: Tensor) -> Tensor:
        """Features of windows int64 [B, N, 4] to [B, N, d] float32; exact and nearly free for CLS-pooled blocks.

        Raises:
            ModelError: the model has no feature windows.
            UsageError: a window is empty or leaves the grid.
        """
        return self._pool_windows(tokens, windows, fast=True)

    @torch.inference_mode()
    def pool_windows_by_block(self, tokens: Tensor, windows: Tensor) -> Tensor:
        """The oracle of ``pool_windows``: the whole last block on every window. Same arguments, result and errors."""
        return self._pool_windows(tokens, windows, fast=False)

    def attention_backends(self) -> Mapping[str, Callable[[], AttentionBackend]]:
        """``self`` where one query makes the feature (CLS or attention pooling), ``norm`` where there are tokens."""
        if self.split is None:
            return {}
        names = ("self", "norm") if self.split.row is not None else ("norm",)
        return {name: partial(self._own_attention, name) for name in names}

    def _own_attention(self, name: str) -> SelfAttention:
        maps = self.query_attention if name == "self" else self.norm_attention
        return SelfAttention(name, maps, grid=self.grid, model_digest=self.digest)

    @torch.inference_mode()
    def query_attention(self, tokens: Tensor) -> Tensor:
        """The attention ``self``: [B, P + g*g, w] to [B, g, g] float32.

        The mean over heads of the feature query's attention to the patches: the last block's CLS row, or the query row
        of the attention-pooling head.

        Raises:
            ModelError: no single query makes the feature.
        """
        split = self._need_split()
        if split.row is None:
            raise ModelError(f"no single query makes the feature of {self.name!r}, so it has no attention 'self'")
        return to_grid(split.row(tokens)[..., split.prefix :].mean(1), self.grid)

    @torch.inference_mode()
    def norm_attention(self, tokens: Tensor) -> Tensor:
        """The attention ``norm``: [B, P + g*g, w] to [B, g, g] float32.

        softmax(z / 0.5) with z the standardised norms of the patch tokens after the last block.
        """
        split = self._need_split()
        norms = split.block(tokens)[:, split.prefix :].float().norm(dim=-1)
        spread = norms.std(-1, unbiased=False, keepdim=True).clamp_min(1e-12)
        return to_grid(((norms - norms.mean(-1, keepdim=True)) / spread / 0.5).softmax(-1), self.grid)

    def default_attention(self) -> str:
        """``dino``, as published; it needs weights of its own."""
        return "dino"

    def _pool_windows(self, tokens: Tensor, windows: Tensor, *, fast: bool) -> Tensor:
        split = self._need_split()
        if self._table is None or windows.shape[:1] != tokens.shape[:1]:
            raise UsageError(f"the windows must be of {len(tokens)} images, got {len(windows)}")
        rows, columns = view_matrices(self._table, windows)
        if windows.shape[1] == 0:
            return torch.zeros(len(tokens), 0, self.embed_dim, device=tokens.device)
        if not fast or split.cls is None:
            return full_views(split.finish, tokens, rows, columns).float()
        finished = fast_views(split.cls, tokens, rows, columns)
        return split.head(finished.flatten(0, 1).unsqueeze(1)).float().reshape(*finished.shape[:2], -1)

    def _to_model(self, pixels: Tensor) -> Tensor:
        return pixels.to(device=self.device, dtype=self.dtype, non_blocking=True)

    def _need_split(self) -> EncoderSplit:
        if self.split is None:
            raise no_feature_views(self.name)
        return self.split

    def _need_tokenizer(self) -> Tokenizer:
        if self._tokenizer is None:
            raise ModelError(
                f"the model {self.name!r} was built without a tokenizer", remedy="Give it one, or use encode_tokens"
            )
        return self._tokenizer

    def _measure_embed_dim(self) -> int:
        """open_clip's own encoders state their size; that of a timm trunk is measured with one blank image."""
        size = getattr(self.network.visual, "output_dim", None)
        if isinstance(size, int):
            return size
        height, width = _image_size(self.network)
        return int(self.encode_image(torch.zeros(1, 3, height, width)).shape[-1])


def _logit_scale(network: Any) -> float:
    """The factor of similarities that a network was trained with; that of CLIP where it has none that can be.

    SigLIP's sigmoid has a factor and a bias, of which the bias does not change a softmax.
    """
    logarithm = getattr(network, "logit_scale", None)
    scale = float(logarithm.detach().float().exp().max()) if isinstance(logarithm, Tensor) else math.nan
    return scale if 1 < scale <= _LARGEST_LOGIT_SCALE else _CLIP_LOGIT_SCALE


def _find_split(visual: nn.Module) -> EncoderSplit | None:
    split = split_image_encoder(visual)
    return split if split and split.grid <= _LARGEST_GRID else None


def load_open_clip_model(
    name: str,
    *,
    device: str,
    dtype: str,
    allow_download: bool,
    runtime: str = "auto",
    remember: Remember | None = None,
) -> OpenClipModel:
    """Load an open_clip model by name (the forms are listed in ``abs_classify.models.open_clip_sources``).

    Args:
        name: ``ARCH/TAG``, ``ARCH/TAG@FILE``, ``ARCH@FILE``, ``hf-hub:ORG/REPO`` or ``local-dir:FOLDER``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
        dtype: a key of ``DTYPES``; the weights are cast, not the arithmetic alone.
        allow_download: whether weights, configuration and tokenizer may be fetched from the hub.
        runtime: what runs the blocks of the image encoder, one of ``RUNTIMES``.
        remember: keeps what ``auto`` chose.

    Raises:
        UnknownNameError: no such architecture, weights, dtype or runtime.
        UsageError, MissingExtraError: as in ``fit_runtime``.
        WeightsError: the weights are not here, cannot be read safely, or are of another architecture.
        ModelError: a QuickGELU mismatch, or NaN in the weights.
    """
    resolved_device, resolved_dtype = resolve_device(device), resolve_dtype(dtype)
    source = find_source(name, allow_download=allow_download)
    with nullcontext() if allow_download else no_downloads():
        (model, left_out), tokenizer = load_network(source), _build_tokenizer(source)
    remarks = (*source.remarks, *(f"left out of {source.checkpoint.name}: {what}" for what in left_out))
    if source.shape is not None:
        remarks += tokenizer_remarks(tokenizer, source.shape)
    for remark in remarks:
        _logger.warning("%s: %s", short_name(name), remark)
    settings = _preprocess_settings(model)
    subject = f"the weights of {name!r}"
    with model_errors("cannot run", name):
        choice = _settle(
            model,
            resolved_device,
            resolved_dtype,
            subject=subject,
            runtime=runtime,
            files=source.files,
            remember=remember,
        )
        return OpenClipModel(
            model,
            image_transform_v2(PreprocessCfg(**settings), is_train=False),
            tokenizer,
            name=name,
            digest=_digest(source, settings, dtype, choice),
            runtime=choice,
            remarks=remarks,
        )


def _digest(source: CheckpointSource, settings: Mapping[str, Any], dtype: str, runtime: RuntimeChoice) -> str:
    parts = {"weights": source.sha256, "architecture": source.config, "preprocess": settings, "dtype": dtype}
    parts |= runtime.digest_part
    if source.shape is not None:
        # a tokenizer of open_clip's is part of the architecture
        parts["tokenizer"] = {path.name: sha256_file(path) for path in source.extras if path.name in TOKENIZER_FILES}
    return digest(parts)


def _build_tokenizer(source: CheckpointSource) -> Tokenizer:
    text = source.config.get("text_cfg", {})
    beside = source.checkpoint.parent
    if source.shape is not None:
        return load_tokenizer(beside, source.shape) or open_clip.SimpleTokenizer(
            context_length=source.shape.context_length
        )
    wanted = text.get("hf_tokenizer_name")
    if wanted:
        require("transformers")
    if wanted and source.configuration is not None:
        # open_clip looks in the folder and in the repository that a stranger's configuration names
        for path in (beside / "tokenizer.json", cached_file(str(wanted), "tokenizer.json")):
            if path is not None and path.is_file():
                check_tokenizer(path)
                check_tokenizer_options(path.parent)
    try:
        if "@" in source.name and text.get("hf_tokenizer_name") and (beside / "tokenizer_config.json").is_file():
            return _tokenizer_from_folder(beside, text)
        # a folder may bring a tokenizer with code in it; it stays unread whatever its files say
        options = {"trust_remote_code": False} if text.get("hf_tokenizer_name") else {}
        tokenizer: Tokenizer = open_clip.get_tokenizer(source.tokenizer, **options)
    except BaseException as error:  # a panic of the tokenizer's Rust code is no Exception
        if isinstance(error, (KeyboardInterrupt, SystemExit, MemoryError, ImportError)):
            raise
        problem = "is not on this machine, or its files are damaged" if wanted else "cannot be built"
        raise WeightsError(
            f"the tokenizer {wanted or source.tokenizer!r} of {source.name!r} {problem}",
            remedy="Put its files beside the checkpoint, or allow the download",
        ) from error
    return tokenizer


def _tokenizer_from_folder(folder: Path, text: dict[str, Any]) -> Tokenizer:
    tokenizer: Tokenizer = HFTokenizer(
        str(folder),
        context_length=text.get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH),
        tokenizer_mode=text.get("tokenizer_mode"),
        trust_remote_code=False,
        **text.get("tokenizer_kwargs", {}),
    )
    return tokenizer


def _settle(
    model: Any,
    device: torch.device,
    dtype: torch.dtype,
    *,
    subject: str,
    runtime: str,
    files: Sequence[Path] = (),
    remember: Remember | None = None,
) -> RuntimeChoice:
    """Freeze, cast and move a model in place and fit a runtime; refuse bad numbers, also those that the cast made."""
    model.eval().requires_grad_(False)
    check_finite(model, subject=subject)
    split = split_image_encoder(model.visual)
    choice = fit_runtime(
        model.visual,
        runtime,
        dtype=dtype,
        device=device,
        image_size=_image_size(model),
        keep_last=split is not None and split.pooling == "token",
        files=files,
        remember=remember,
    )
    if dtype != torch.float32:
        check_finite(model.to(dtype=dtype), subject=subject)
    model.to(dtype=dtype, device=device)
    return choice


def _preprocess_settings(model: Any) -> dict[str, Any]:
    """The preprocessing of a model as JSON values."""
    settings = {"size": list(_image_size(model)), **dict(open_clip.get_model_preprocess_cfg(model))}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}


def _preprocessing(preprocess: Preprocess, settings: Mapping[str, Any]) -> Preprocess:
    """The model's own preprocessing, but it never resizes what the model cannot see; as data, too, unless it pads."""
    size = settings["size"]  # a model may override its own with a single number
    height, width = (size, size) if isinstance(size, int) else size
    mode = settings.get("resize_mode") or "shortest"
    if mode == "longest":
        return lambda image: preprocess(at_least_a_pixel(image, width=width, height=height))
    # open_clip hands the interpolation on only where the input is square or the image is stretched
    bilinear = settings.get("interpolation") == "bilinear" and (height == width or mode == "squash")
    resampling = Resampling.BILINEAR if bilinear else Resampling.BICUBIC
    resizing = Resizing(width, height, resampling, "stretch" if mode == "squash" else "shortest")
    defaults = PreprocessCfg()
    values = normalised_values(settings.get("mean") or defaults.mean, settings.get("std") or defaults.std)
    if mode == "squash":
        return PixelPreprocessing(preprocess, resizing, values)
    return PixelPreprocessing(lambda image: preprocess(central_part(image, resizing)), resizing, values)


def _image_size(model: Any) -> tuple[int, int]:
    size = model.visual.image_size
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _structure(model: nn.Module) -> list[list[Any]]:
    """What a model computes beside its weights: the kind and the plain settings of every module, in order.

    Two models with equal weights and other activations, head counts or epsilons differ here.
    """
    incidental = {"training", "fused_attn", "use_fsdpa", "grad_checkpointing", "name_or_path"}
    return [
        [
            name,
            type(module).__name__,
            {
                key: repr(value)
                for key, value in sorted(vars(module).items())
                if isinstance(value, (bool, int, float, str)) and not key.startswith("_") and key not in incidental
            },
        ]
        for name, module in model.named_modules()
    ]
