"""A key-value cache that is written in place.

The dynamic cache of ``transformers`` copies all keys and values of a batch for each token: a third of the time of a
small model with a long prompt. Here a layer keeps a buffer with room for what is still to come. Layers of other kinds
(sliding windows, linear attention) stay as they are.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["growing_cache"]


def growing_cache(config: Any, room: int) -> Any:
    """An empty cache for a model.

    Args:
        config: the model's configuration.
        room: how many tokens to leave room for whenever a layer's buffer is made anew.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    built = DynamicCache(config=config)
    # Only the plain kind: its subclasses and siblings have states of their own.
    built.layers = [_layer_class()(room) if type(layer) is DynamicLayer else layer for layer in built.layers]
    return built


@cache
def _layer_class() -> Any:
    """The class is made on first use, because its base class takes seconds to import."""
    from transformers.cache_utils import DynamicLayer

    class GrowingLayer(DynamicLayer):  # type: ignore[misc, unused-ignore]
        """``keys`` and ``values`` [B, heads, T, width] are views of the buffers' first T places."""

        keys: Any
        values: Any

        def __init__(self, room: int) -> None:
            super().__init__()
            self._room = room
            self._buffers: tuple[torch.Tensor, torch.Tensor] | None = None
            self._views: tuple[Any, Any] = (None, None)

        def update(self, keys: Any, values: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
            """Append keys and values [B, heads, t, width]; all of them come back."""
            if not self.is_initialized:
                self.lazy_initialization(keys, values)
            start = self.get_seq_length()
            end = start + keys.shape[-2]
            # Whoever selects or repeats rows puts new tensors in place of the views.
            stale = self._buffers is None or self.keys is not self._views[0] or end > self._buffers[0].shape[-2]
            if stale:
                self._buffers = (_grown(self.keys, keys, self._room), _grown(self.values, values, self._room))
            assert self._buffers is not None
            for buffer, new in zip(self._buffers, (keys, values), strict=True):
                buffer[:, :, start:end] = new
            self.keys, self.values = (buffer[:, :, :end] for buffer in self._buffers)
            self._views = (self.keys, self.values)
            return self._views

    return GrowingLayer


def _grown(old: torch.Tensor, new: torch.Tensor, room: int) -> torch.Tensor:
    """An empty buffer for ``old`` [B,h,T,w] or nothing, ``new`` [B,h,t,w] and ``room``, with ``old`` copied into it."""
    length = old.shape[-2] if old.numel() else 0
    batch, heads, more, width = new.shape
    buffer = new.new_empty(batch, heads, length + more + room, width)
    if length:
        buffer[:, :, :length] = old
    return buffer
