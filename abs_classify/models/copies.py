"""Copies between the host and a device that are begun and not waited for, so that both go on with their work."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["readable_from", "to_device", "to_host"]


def readable_from(device: torch.device, tensor: Tensor) -> Tensor:
    """A tensor in memory that a GPU reads by itself; for a thread that has time to copy it there."""
    return tensor.pin_memory() if device.type == "cuda" and tensor.device.type == "cpu" else tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; the copy to a GPU is begun."""
    return readable_from(device, tensor).to(device, non_blocking=True)


def to_host(tensor: Tensor) -> Callable[[], Tensor]:
    """Begin to copy a tensor to the CPU; what is returned waits for that copy alone, not for work begun after it."""
    if tensor.device.type != "cuda":
        on_host = tensor.cpu()
        return lambda: on_host
    on_host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(tensor.device))

    def wait() -> Tensor:
        event.synchronize()
        return on_host

    return wait
