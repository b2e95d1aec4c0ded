"""The arrays of the baselines in tests/golden, and the tolerances that came with them."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from parity import within
from support import GOLDEN
from torch import Tensor

from abs_classify.methods.scoring import (
    ClassTextFeatures,
)

FOLDER = GOLDEN / "rivals"

C = 20


#: file -> largest difference in float32 and in float64
TOLERANCE = {
    "text_baselines": (1e-6, 1e-12), "clipd": (1e-6, 1e-12), "waffle": (1e-6, 1e-12), "wca": (1e-6, 2e-9),
    "mta": (5e-4, 1e-9), "mta_density": (5e-5, 1e-9), "zero": (0.0, 0.0), "tda": (1e-4, 1e-9), "dmn": (3e-5, 1e-9),
    "onzeta": (1e-4, 1e-9),
}  # fmt: skip

SINGLE, DOUBLE = torch.float32, torch.float64

both = pytest.mark.parametrize("dtype", [SINGLE, DOUBLE], ids=["float32", "float64"])


@cache
def load(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{name}.npz") as stored:
        return dict(stored)


def inputs(name: str, dtype: torch.dtype) -> Tensor:
    return torch.tensor(load("inputs")[name]).to(dtype)


def stored(file: str, name: str, dtype: torch.dtype) -> Tensor:
    return torch.tensor(load(file)[name if dtype == SINGLE else f"{name}_f64"]).to(dtype)


def agrees(file: str, name: str, got: Tensor, *, rows_are_scores: bool = True, tolerance: str = "") -> bool:
    want = stored(file, name, got.dtype)
    assert got.shape == want.shape
    precision = "float64" if got.dtype == DOUBLE else "float32"
    allowed = TOLERANCE[tolerance or file][got.dtype == DOUBLE]
    if rows_are_scores:
        assert torch.equal(got.argmax(-1), want.argmax(-1))
    return within(f"baselines, {precision}", f"{file} {name}", float((got - want).abs().max()), allowed)


def texts_of(features: Tensor) -> tuple[Tensor, Tensor]:
    """[C, n, d] as [C * n, d] with class indices."""
    return features.flatten(0, 1), torch.arange(C).repeat_interleave(features.shape[1])


def descriptors(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The unequally many descriptor features of the clip-d arrays."""
    raw, counts = inputs("text_raw", dtype), load("inputs")["n_desc"].tolist()
    class_index = torch.arange(C).repeat_interleave(torch.tensor(counts))
    return torch.cat([raw[c, :n] for c, n in enumerate(counts)]), class_index


def text_case(name: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Raw text features and class indices of a baseline."""
    raw = inputs("text_raw", dtype)
    if name == "clip":
        return inputs("label_text_raw", dtype), torch.arange(C)
    if name == "clip_d":
        return descriptors(dtype)
    if name == "waffle":
        return texts_of(torch.tensor(load("text_baselines")["waffle_text_raw"]).to(dtype))
    return texts_of(raw[:, :4] if name == "clip_e" else raw)


def table(dtype: torch.dtype) -> ClassTextFeatures:
    labels = inputs("label_text", dtype)
    return ClassTextFeatures(labels, torch.arange(C), labels)


def split(views: Tensor) -> dict[str, Tensor]:
    return {"whole": views[:, :1], "random": views[:, 1:]}
