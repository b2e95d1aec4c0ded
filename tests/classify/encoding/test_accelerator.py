"""What a device is asked to do, done by the processor: the same features, in batches of one size."""

from __future__ import annotations

import copy
import json
import logging
import runpy
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from abs_classify.encoding.accelerator import Accelerator, Cut, guarded
from abs_classify.models.base import Model
from abs_classify.models.preprocessing import PixelPreprocessing
from abs_core.errors import ModelError


@pytest.fixture(scope="module")
def cuts(golden_photos: list[Image.Image]) -> list[Cut]:
    """Of two images in turn, with a whole one in the middle."""
    generator = np.random.default_rng(0)
    parts = []
    for image in [*golden_photos[:2], golden_photos[0]]:
        for _ in range(4):
            left, upper = (int(generator.integers(0, side // 2)) for side in image.size)
            parts.append(Cut(image, (left, upper, left + image.width // 2, upper + image.height // 3)))
    return [*parts, Cut(golden_photos[1])]


def one_by_one(model: Any, cuts: list[Cut]) -> Tensor:
    return torch.cat([model.encode_image(model.preprocess_crop(cut.pixels())[None]) for cut in cuts])


@pytest.mark.parametrize("batch_size", [1, 5, 13, 64])
def test_the_pixels_of_batches_have_pillows_bits(
    golden_model: Callable[[int], Any], cuts: list[Cut], batch_size: int
) -> None:
    model, sizes = golden_model(14), []
    assert isinstance(model.preprocess, PixelPreprocessing)

    def network(pixels: Tensor) -> Tensor:
        sizes.append(len(pixels))
        return pixels

    accelerator = Accelerator(model, batch_size, None)
    pixels = accelerator.run(cuts, model.preprocess, network)
    assert torch.equal(pixels, torch.stack([model.preprocess(cut.pixels()) for cut in cuts]))
    assert sizes == [batch_size] * (len(cuts) // batch_size) + [len(cuts) % batch_size] * (len(cuts) % batch_size > 0)
    # a function that is not known as data is done by Pillow, on the CPU
    flipped = accelerator.run(cuts, lambda image: model.preprocess(image).flip(0), network)
    assert torch.equal(flipped, pixels.flip(1))


def test_each_image_is_copied_to_the_device_once(
    golden_model: Callable[[int], Any], cuts: list[Cut], monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[tuple[int, ...]] = []

    def count(tensor: Tensor, device: torch.device) -> Tensor:
        copied.append(tuple(tensor.shape))
        return tensor.to(device)

    monkeypatch.setattr("abs_classify.encoding.accelerator.to_device", count)
    model = golden_model(14)
    assert model.preprocess.works_on(model.device)
    Accelerator(model, 5, None).run(cuts, model.preprocess, model.encode_image)
    # the first image comes back after the second
    assert copied == [(cuts[first].image.height, cuts[first].image.width, 3) for first in (0, 4, 8, 12)]


class _Compiler:
    """Stands for ``torch.compile``: counts what it is asked for, and what shapes come."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.compiled, self.shapes = error, 0, list[tuple[int, ...]]()

    def __call__(self, function: Callable[[Tensor], Tensor], *, dynamic: bool) -> Callable[[Tensor], Tensor]:
        assert dynamic is False
        self.compiled += 1

        def run(batch: Tensor) -> Tensor:
            self.shapes.append(tuple(batch.shape))
            if self.error is not None:
                raise self.error
            return function(batch)

        return run


def test_a_long_run_compiles_once_for_one_shape(
    golden_model: Callable[[int], Any], cuts: list[Cut], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = _Compiler()
    monkeypatch.setattr(torch, "compile", compiler)
    model = copy.copy(golden_model(7))
    expected = one_by_one(model, cuts)
    for _ in range(2):
        features = Accelerator(model, 5, 0.0).run(cuts, model.preprocess_crop, model.encode_image)
        torch.testing.assert_close(features, expected, rtol=0, atol=1e-4)
    assert compiler.compiled == 1
    assert compiler.shapes == [(5, 3, 224, 224)] * 4
    # full images are few
    Accelerator(model, 5, 0.0).run(cuts, model.preprocess, model.tokens)
    assert len(compiler.shapes) == 4


def test_a_short_run_and_a_processor_compile_nothing(
    golden_model: Callable[[int], Any], cuts: list[Cut], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", None)
    model = golden_model(14)
    for accelerator in (Accelerator(model, 2, 1e6), Accelerator(model, 2, None), Accelerator.of(model, 2)):
        assert len(accelerator.run(cuts[:4], model.preprocess_crop, model.encode_image)) == 4


def test_a_model_that_cannot_be_compiled_is_used_as_it_is(
    golden_model: Callable[[int], Any],
    cuts: list[Cut],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    compiler = _Compiler(RuntimeError("no compiler\nand a long trace"))
    monkeypatch.setattr(torch, "compile", compiler)
    model = copy.copy(golden_model(14))
    accelerator = Accelerator(model, 4, 0.0)
    with caplog.at_level(logging.WARNING):
        features = accelerator.run(cuts, model.preprocess_crop, model.encode_image)
    torch.testing.assert_close(features, one_by_one(model, cuts), rtol=0, atol=1e-4)
    assert caplog.messages == [f"{model.name} is used uncompiled: no compiler"]
    assert len(compiler.shapes) == 1


@pytest.mark.slow
@pytest.mark.parametrize("inference", [False, True])
def test_the_network_can_be_compiled(
    golden_model: Callable[[int], Any],
    cuts: list[Cut],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    inference: bool,
) -> None:
    # all of torch.compile but its last step, which needs a C++ compiler and a minute
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager", fullgraph=True))
    model = copy.copy(golden_model(7))
    with caplog.at_level(logging.WARNING), torch.inference_mode(inference):
        features = Accelerator(model, 5, 0.0).run(cuts, model.preprocess_crop, model.encode_image)
    torch.testing.assert_close(features, one_by_one(model, cuts), rtol=0, atol=1e-4)
    assert not caplog.messages


@pytest.mark.slow
def test_the_benchmark_for_gpus_runs_on_a_processor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = Path(__file__).parents[3] / "benchmarks" / "gpu.py"
    monkeypatch.syspath_prepend(str(script.parent))
    monkeypatch.setattr(sys, "argv", [str(script), "--device", "cpu", "--quick", "--json"])
    try:
        runpy.run_path(str(script), run_name="__main__")
    finally:
        logging.disable(logging.NOTSET)
    measured = json.loads(capsys.readouterr().out)
    assert measured["gpu"] is False
    assert measured["crops have the bits of Pillow"] is True
    assert measured["largest difference of unit features, float32, to the CPU"] < 2e-6
    assert 0 < measured["largest 1 - cosine to float32 on the CPU, ViT in bfloat16"] < 1e-3
    assert measured["ABS, float32"] > 0
    assert measured["adaptive, bfloat16"] > 0
    assert measured["  ratio to the authors' structure (goal 10), float32"] > 0
    assert not [value for value in measured.values() if isinstance(value, str) and "failed" in value]


class _SmallDevice:
    """A model on a device that holds five crops at once and no more."""

    name = "small"
    device = torch.device("cpu")

    def preprocess_crop(self, image: Image.Image) -> Tensor:
        return torch.zeros(3, *image.size)

    def encode_image(self, pixels: Tensor) -> Tensor:
        if len(pixels) > 5:
            raise torch.OutOfMemoryError("out of memory")
        return pixels.mean((2, 3))


def test_out_of_memory_names_a_batch_size_that_fits() -> None:
    model = _SmallDevice()
    pixels = torch.zeros(64, 3, 8, 8)
    with pytest.raises(ModelError, match=r"batches of 64 crops\. Use a batch size of 4\."):
        guarded(partial(model.encode_image, pixels), cast("Model", model), 64)
    assert guarded(partial(model.encode_image, pixels[:4]), cast("Model", model), 4).shape == (4, 3)
