"""Fixtures of the command line's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gen_descriptions_command import ChatScript, Generate
from model_weights import CONFIG, SMALL_DINO, Machine, save_clip, save_zeros
from servers import serving
from support import Abs, colour


@pytest.fixture
def abs_command(tmp_path: Path, shared_cache: Path, capsys: pytest.CaptureFixture[str]) -> Abs:
    return Abs(tmp_path / "home", shared_cache, capsys)


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Builds an image folder: class name -> list of file names."""

    def build(**classes: list[str]) -> Path:
        root = tmp_path / "photos"
        for number, (label, names) in enumerate(classes.items()):
            for at, name in enumerate(names):
                path = root / label / name
                path.parent.mkdir(parents=True, exist_ok=True)
                colour(100 * number + at).save(path, "PNG")
        return root

    return build


@pytest.fixture
def models(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Machine:
    # where the hub client keeps its cache is a constant of its own, read from HF_HOME when it is first imported
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return Machine(tmp_path / "home", capsys)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as open_clip saves one: a small CLIP with random weights."""
    return save_clip(tmp_path_factory.mktemp("tiny"), CONFIG)


@pytest.fixture(scope="session")
def small_dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import timm
    import torch

    with torch.device("meta"):
        model = timm.create_model(SMALL_DINO, pretrained=False, num_classes=0)
    return save_zeros(model, tmp_path_factory.mktemp("dino") / "dino.safetensors")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatScript]:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with serving(ChatScript()) as state:
        yield state


@pytest.fixture
def generate(abs_command: Abs, server: ChatScript, tmp_path: Path) -> Generate:
    return Generate(abs_command, server, tmp_path)
