"""What is said of a model without its weights, and what of it is remembered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_open_clip import ARCH

from abs_classify.encoding.digest_cache import DigestCache
from abs_classify.models import info
from abs_classify.models.info import ModelInfo, read_model_info
from abs_classify.models.registry import entry_of
from abs_classify.models.runtime_names import RUNTIMES

DINO = "dino:vit_small_patch16_224.dino"
MISSING = "xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k"


def describe(name: str, folder: Path) -> ModelInfo:
    return read_model_info(entry_of(name), name, remember=DigestCache(folder).derived)


@pytest.fixture
def nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> Any:
    def build(*_: object) -> ModelInfo:
        raise AssertionError("a model was built")

    return lambda: monkeypatch.setattr(info, "_build", build)


def test_what_was_found_is_remembered(tmp_path: Path, nothing_is_built: Any) -> None:
    first = describe(DINO, tmp_path)
    assert (first.grid, first.pooling) == (14, "token")
    assert first == read_model_info(entry_of(DINO), DINO)
    nothing_is_built()
    assert describe(DINO, tmp_path) == first
    with pytest.raises(AssertionError, match="was built"):
        describe(DINO, tmp_path / "elsewhere")


def test_a_changed_file_is_described_anew(tiny: Any, checkpoint: Path, tmp_path: Path, nothing_is_built: Any) -> None:
    name = f"{ARCH}@{checkpoint}"
    assert describe(name, tmp_path).parameters == sum(parameter.numel() for parameter in tiny.parameters())
    checkpoint.write_bytes(checkpoint.read_bytes() + b" ")
    nothing_is_built()
    with pytest.raises(AssertionError, match="was built"):
        describe(name, tmp_path)


def test_what_could_not_be_found_is_not_remembered(tmp_path: Path, nothing_is_built: Any, no_network: None) -> None:
    assert "xlm-roberta-base, which is not here" in describe(MISSING, tmp_path).remark
    nothing_is_built()
    with pytest.raises(AssertionError, match="was built"):
        describe(MISSING, tmp_path)


def test_the_embedded_model_is_never_built(tmp_path: Path, nothing_is_built: Any) -> None:
    nothing_is_built()
    assert describe("embedded", tmp_path).grid == 7


@pytest.mark.parametrize(
    ("name", "runtimes"),
    [
        ("ViT-B-16/laion2b_s34b_b88k", RUNTIMES[1:]),
        (DINO, RUNTIMES[1:]),
        ("RN50-quickgelu/openai", ("torch",)),
        ("EVA02-B-16/merged2b_s8b_b131k", ("torch",)),
    ],
)
def test_the_runtimes_follow_from_the_blocks(name: str, runtimes: tuple[str, ...], tmp_path: Path) -> None:
    assert describe(name, tmp_path).runtimes == describe(name, tmp_path).runtimes == runtimes
