"""Texts through an open_clip model: counting tokens, and encoding without the padding.

In a causal text tower that reads its feature at the end token, nothing behind that token is seen. Most descriptions
fill a quarter of the context, so cutting each batch behind its last end token saves most of the work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from abs_classify.threads import in_threads
from abs_core.errors import ModelError

__all__ = ["count_tokens", "encode_ids", "find_cut_encoder"]

# Enough to keep a GPU busy; on a CPU, batches whose activations stay in its caches are a quarter faster.
_TEXTS_AT_ONCE = {"cuda": 256, "cpu": 64}

Encoder = Callable[[Tensor], Tensor]


def encode_ids(model: Any, ids: Tensor, cut: Encoder | None) -> Tensor:
    """Encode token ids in batches.

    Args:
        model: an open_clip model.
        ids: int64 [n, L], as its tokenizer makes them, on its device.
        cut: from ``find_cut_encoder``; texts are then encoded in the order of their lengths.

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


def find_cut_encoder(model: Any) -> Encoder | None:
    """A text encoder that leaves the padding out: [n, L] ids to [n, d]; None where padding can be seen.

    Args:
        model: open_clip's CLIP, or a model whose ``text`` is open_clip's TextTransformer.
    """
    from open_clip.model import CLIP
    from open_clip.transformer import TextTransformer

    text = model if isinstance(model, CLIP) else getattr(model, "text", None)
    pooling = getattr(text, "text_pool_type" if text is model else "pool_type", None)
    seen = getattr(text, "use_pad_mask", False) or getattr(text, "cls_emb", None) is not None
    if not isinstance(text, (CLIP, TextTransformer)) or pooling != "argmax" or text.attn_mask is None or seen:
        return None
    tower: Any = text

    def encode(ids: Tensor) -> Tensor:
        end = ids.argmax(-1)
        length = int(end.max()) + 1
        x = tower.token_embedding(ids[:, :length]) + tower.positional_embedding[:length]
        x = tower.transformer(x, attn_mask=tower.attn_mask[:length, :length])
        pooled = tower.ln_final(x[torch.arange(len(ids), device=ids.device), end])
        projection = tower.text_projection
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
