"""Shared by the tests of models: a tiny open_clip model, and the embedded model with the pictures of the demo."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tiny_open_clip import ARCH, CONFIG

from abs_classify.datasets import open_dataset
from abs_classify.images import load_image
from abs_classify.models.embedded import EmbeddedModel, load_embedded_model


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny architecture that open_clip knows by name, and a model of it."""
    folder = tmp_path_factory.mktemp("configs")
    for name, quick in ((ARCH, False), (f"{ARCH}-quickgelu", True)):
        (folder / f"{name}.json").write_text(json.dumps({**CONFIG, "quick_gelu": quick}))
    open_clip.add_model_config(folder)
    torch.manual_seed(5)
    return open_clip.create_model(ARCH).eval()


@pytest.fixture
def checkpoint(tiny: Any, tmp_path: Path) -> Path:
    save_file(tiny.state_dict(), tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty hub cache, and a wall around the machine."""

    def refuse(*args: object) -> None:
        raise AssertionError("a test reached for the network")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("socket.socket.connect", refuse)


@pytest.fixture(scope="session")
def derived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the embedded model keeps what it computes from its weights."""
    return tmp_path_factory.mktemp("derived")


@pytest.fixture(scope="session")
def model(derived: Path) -> EmbeddedModel:
    """The embedded model."""
    model = load_embedded_model(cache_folder=derived)
    model.encode_text(["ready"])
    return model


@pytest.fixture(scope="session")
def photos() -> dict[str, Image.Image]:
    """The pictures of the demo, by class."""
    return {sample.label: load_image(sample.path).pixels for sample in open_dataset("demo").samples}


@pytest.fixture(scope="session")
def pixels(model: EmbeddedModel, photos: dict[str, Image.Image]) -> torch.Tensor:
    """The same as the embedded model takes them."""
    return torch.stack([model.preprocess(image) for image in photos.values()])


@pytest.fixture(scope="module")
def bounded_memory() -> Iterator[None]:
    """Two gigabytes more than this process has, for as long as the tests of a module run."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (2 << 30), hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
