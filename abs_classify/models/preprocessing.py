"""Preprocessing that is known as data, so that a device can do it for all crops of an image from one copy of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from abs_classify.models.copies import to_device
from abs_classify.models.resampling import CropPlan, Resizing
from abs_classify.models.signal_state import keep_signal_state

__all__ = ["PixelPreprocessing", "normalised_values"]

_logger = logging.getLogger(__name__)

# width and height of the noise, and boxes of it: all, enlarged, reduced, wide, tall, a pixel
_PROBE = (331, 250)
_PROBE_BOXES = ((0, 0, 331, 250), (40, 30, 71, 99), (0, 7, 331, 50), (100, 0, 131, 250), (9, 9, 10, 10))


@dataclass(frozen=True, eq=False)
class PixelPreprocessing:
    """A model's preprocessing: a function, done with Pillow, and what it does as data.

    Args:
        with_pillow: an RGB image to [3, height, width] float32 on the CPU. It decides what is right.
        resizing: how it resizes.
        values: what becomes of the 8-bit values of each channel: float32 [3, 256].
    """

    with_pillow: Callable[[Image.Image], Tensor]
    resizing: Resizing
    values: Tensor
    _ways: dict[torch.device, bool | None] = field(default_factory=dict, init=False, repr=False)

    def __call__(self, image: Image.Image) -> Tensor:
        """An RGB image to [3, height, width] float32, by Pillow."""
        return self.with_pillow(image)

    def crops(self, image: Tensor, plan: CropPlan) -> Tensor:
        """Crops of an image uint8 [3, H, W], resized on its device, where that works: uint8 [N, 3, height, width]."""
        return plan.apply(image, fused=self._ways.get(image.device) is True)

    def normalise(self, crops: Tensor) -> Tensor:
        """What becomes of resized crops uint8 [N, 3, height, width]: float32, with the same bits on any device."""
        # a table, since devices divide in ways of their own
        channel = 256 * torch.arange(3, dtype=torch.int32, device=crops.device).view(3, 1, 1)
        values = to_device(self.values, crops.device).flatten()
        return values.index_select(0, (crops + channel).flatten()).view(crops.shape)

    def works_on(self, device: torch.device) -> bool:
        """Whether a device gives the bits of Pillow, found by trying it on an image of noise, once.

        Where it does not, or cannot compute it, a warning says so.
        """
        if device not in self._ways:
            self._ways[device] = self._find_way(device)
        return self._ways[device] is not None

    def _find_way(self, device: torch.device) -> bool | None:
        """Whether crops are resized by kernels or by torch's own operations; None for Pillow."""
        for fused in (True, False) if device.type == "cuda" else (False,):
            problem = self._try(device, fused)
            if not problem:
                return fused
            if fused:
                _logger.info("crops are resized without kernels on %s: %s", device, problem)
        _logger.warning("crops are resized on the CPU; %s cannot do it exactly: %s", device, problem)
        return None

    def _try(self, device: torch.device, fused: bool) -> str:
        """What is wrong with the crops of a device; empty if they are right."""
        noise = np.random.default_rng(0).integers(0, 256, (_PROBE[1], _PROBE[0], 3), dtype=np.uint8)
        image = Image.fromarray(noise)
        expected = torch.stack([self(image.crop(box)) for box in _PROBE_BOXES])
        plan = self.resizing.plan(np.array(_PROBE_BOXES))
        try:
            pixels = to_device(torch.from_numpy(noise), device).permute(2, 0, 1).contiguous()
            with keep_signal_state():
                crops = self.normalise(plan.apply(pixels, fused=fused)).cpu()
        except Exception as error:  # whatever a device or a compiler lacks
            return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        differing = int((crops != expected).sum())
        return f"{differing} of {expected.numel()} values differ from Pillow's" if differing else ""


def normalised_values(mean: Sequence[float] | float, std: Sequence[float] | float) -> Tensor:
    """What becomes of the 8-bit values of each channel, scaled to [0, 1], less mean, over std: float32 [3, 256]."""
    # the operations of torchvision's ToTensor and Normalize, in float32
    scaled = torch.arange(256, dtype=torch.float32).div(255).expand(3, 256)
    return (scaled - torch.tensor(mean).view(-1, 1)) / torch.tensor(std).view(-1, 1)
