"""Crops through a network on an accelerator: cut and resized there, batch after batch, and nothing is waited for.

Each image is copied to the device once, as 8-bit pixels, and all its crops are made of that copy, with Pillow's bits;
threads read images and plan crops meanwhile. A model whose preprocessing is not known as data, and a device that does
not give Pillow's bits, get crops that were cut on the CPU.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby, islice
from typing import TYPE_CHECKING, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from abs_classify.models.copies import readable_from, to_device
from abs_classify.models.preprocessing import PixelPreprocessing
from abs_classify.models.signal_state import keep_signal_state
from abs_classify.threads import in_threads
from abs_core.errors import ModelError

if TYPE_CHECKING:
    from abs_classify.models.base import Model
    from abs_classify.models.resampling import CropPlan

__all__ = ["Accelerator", "Cut", "Network", "Preprocess", "guarded"]

_logger = logging.getLogger(__name__)

Network: TypeAlias = Callable[[Tensor], Tensor]
Preprocess: TypeAlias = Callable[[Image.Image], Tensor]

Result = TypeVar("Result")

# Compiling takes about a minute and saves perhaps a fifth of the time, so it waits until a run has shown to be long.
_COMPILE_AFTER = 180.0
# what counts, in seconds, of the time between two batches
_LONGEST_PAUSE = 10.0


@dataclass(frozen=True, eq=False)
class Cut:
    """An RGB image, or a part of one.

    Args:
        image: all of it.
        box: left, upper, right, lower in pixels; None for all.
        side: of the square that it is stretched to, bilinearly; None to leave it as it is.
        mirrored: whether left and right are exchanged.
    """

    image: Image.Image
    box: tuple[int, int, int, int] | None = None
    side: int | None = None
    mirrored: bool = False

    def pixels(self) -> Image.Image:
        """The part as an image of its own."""
        pixels = self.image if self.box is None else self.image.crop(self.box)
        if self.side is not None:
            pixels = pixels.resize((self.side, self.side), Image.Resampling.BILINEAR)
        return pixels.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if self.mirrored else pixels


class Accelerator:
    """Runs the networks of a model on its device.

    Args:
        model: the model.
        batch_size: most images or crops that a network gets at once.
        compile_after: seconds of encoding after which ``torch.compile`` makes the network that crops go through; None
            for never.
    """

    def __init__(self, model: Model, batch_size: int, compile_after: float | None) -> None:
        self._model, self._batch_size, self._compile_after = model, batch_size, compile_after
        self._compilation = _COMPILATIONS.setdefault(model, _Compilation())

    @classmethod
    def of(cls, model: Model, batch_size: int) -> Accelerator:
        """What a run uses: only for a GPU code is compiled."""
        return cls(model, batch_size, _COMPILE_AFTER if model.device.type == "cuda" else None)

    def run(self, cuts: Sequence[Cut], preprocess: Preprocess, network: Network) -> Tensor:
        """Cuts through a network: [cuts, ...], on the device. The work is begun; on a GPU it is not waited for.

        Raises:
            ModelError: the device is out of memory; the remedy names a batch size that fits.
        """
        batches, done = self._batches(cuts, preprocess), []
        while (batch := self._guarded(lambda: next(batches, None))) is not None:
            done.append(self._guarded(partial(self._compiled(network, batch), batch)))
        return torch.cat(done)

    def _guarded(self, run: Callable[[], Result]) -> Result:
        return guarded(run, self._model, self._batch_size)

    def _batches(self, cuts: Sequence[Cut], preprocess: Preprocess) -> Iterator[Tensor]:
        device = self._model.device
        is_plain = all(cut.side is None and not cut.mirrored for cut in cuts)
        if is_plain and isinstance(preprocess, PixelPreprocessing) and preprocess.works_on(device):
            crops = _resized_on(device, cuts, preprocess)
            yield from map(preprocess.normalise, _regrouped(crops, self._batch_size))
            return
        ready = in_threads(lambda cut: preprocess(cut.pixels()), cuts, ahead=2 * self._batch_size)
        while batch := list(islice(ready, self._batch_size)):
            yield to_device(torch.stack(batch), device)

    def _compiled(self, network: Network, batch: Tensor) -> Network:
        """The network, compiled if that pays: of one shape, so that it is compiled once."""
        compilation, now = self._compilation, time.monotonic()
        compilation.worked += min(now - compilation.latest, _LONGEST_PAUSE)
        compilation.latest = now
        is_due = self._compile_after is not None and compilation.worked >= self._compile_after
        # batches that are not full are few
        if not is_due or len(batch) < self._batch_size or network != self._model.encode_image:
            return network
        return partial(compilation.run, self._model)


def guarded(run: Callable[[], Result], model: Model, batch_size: int) -> Result:
    """Run a pass; if the device is out of memory, find and name a batch size that fits."""
    try:
        return run()
    except torch.OutOfMemoryError as error:
        fits = _batch_that_fits(model, batch_size)
        remedy = f"Use a batch size of {fits}" if fits else "Use a smaller model, a smaller dtype or another device"
        raise ModelError(
            f"{model.device} ran out of memory with batches of {batch_size} crops", remedy=remedy
        ) from error


def _batch_that_fits(model: Model, batch_size: int) -> int:
    sample = model.preprocess_crop(Image.new("RGB", (32, 32)))
    size = batch_size // 2
    while size:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            model.encode_image(sample.expand(size, *sample.shape).to(model.device))
        except torch.OutOfMemoryError:
            size //= 2
        else:
            return size
    return 0


@dataclass(eq=False)
class _Compilation:
    """The compiled network of a model, which all runs in this process share.

    Args:
        worked: seconds for which batches were encoded.
        latest: when one was.
        network: the compiled network, or the model's own where it cannot be compiled.
    """

    worked: float = 0.0
    latest: float = field(default_factory=time.monotonic)
    network: Network | None = None

    def run(self, model: Model, batch: Tensor) -> Tensor:
        # in inference mode torch 2.14 cannot compile a network that takes views of its weights
        with torch.inference_mode(False), torch.no_grad():
            if self.network is not None:
                return self.network(batch)
            _logger.info("compiling %s for %s, which takes about a minute", model.name, model.device)
            try:
                compiled: Network = torch.compile(model.encode_image, dynamic=False)
                with keep_signal_state():
                    features = compiled(batch)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # a compiler can raise anything
                _logger.warning("%s is used uncompiled: %s", model.name, str(error).partition("\n")[0])
                self.network = model.encode_image
                return self.network(batch)
            self.network = compiled
            return features


_COMPILATIONS: WeakKeyDictionary[Model, _Compilation] = WeakKeyDictionary()


def _resized_on(device: torch.device, cuts: Sequence[Cut], preprocess: PixelPreprocessing) -> Iterator[Tensor]:
    """The crops of each image, uint8 [n, 3, height, width], on the device; threads read and plan the next ones."""

    def prepare(cuts: list[Cut]) -> tuple[Tensor, CropPlan]:
        image = cuts[0].image
        boxes = np.array([cut.box or (0, 0, *image.size) for cut in cuts])
        return readable_from(device, torch.from_numpy(np.array(image))), preprocess.resizing.plan(boxes)

    images = [list(group) for _, group in groupby(cuts, key=lambda cut: id(cut.image))]
    for pixels, plan in in_threads(prepare, images, ahead=2 * torch.get_num_threads()):
        yield preprocess.crops(to_device(pixels, device).permute(2, 0, 1).contiguous(), plan)


def _regrouped(parts: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """The rows of tensors [n, ...] in tensors of ``size`` rows, and the rest."""
    waiting: list[Tensor] = []
    for part in parts:
        waiting.append(part)
        while sum(map(len, waiting)) >= size:
            joined = torch.cat(waiting)
            yield joined[:size]
            waiting = [joined[size:]]
    if sum(map(len, waiting)):
        yield torch.cat(waiting)
