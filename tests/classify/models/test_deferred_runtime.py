"""What is known of a model before it is loaded says which runtime its features are of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from block_runtimes import needs_bfloat16
from tiny_open_clip import folder_with_configuration

from abs_classify.encoding.digest_cache import DigestCache
from abs_classify.models import registry, runtime
from abs_classify.models.deferred import DeferredModel
from abs_core.errors import ModelError


@pytest.fixture
def folder(tiny: Any, tmp_path: Path) -> Path:
    return folder_with_configuration(tiny, tmp_path / "model")


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runtimes that models are loaded with."""
    load, runtimes = registry.load_model, []

    def recording(name: str, **settings: Any) -> Any:
        runtimes.append(settings["runtime"])
        return load(name, **settings)

    monkeypatch.setattr(registry, "load_model", recording)
    return runtimes


def deferred(folder: Path, dtype: str, runtime: str = "auto") -> DeferredModel:
    digests = DigestCache(folder.parent / "cache")
    return DeferredModel(f"local-dir:{folder}", "self", "cpu", dtype, digests, None, runtime)


def prefer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"torch": 1.0, "onednn": 0.1 if name == "onednn" else 2.0}
    monkeypatch.setattr(runtime, "_time", lambda *_: (times, []))
    monkeypatch.setattr(runtime, "_SMALLEST", 0)


@needs_bfloat16
def test_in_bfloat16_the_remembered_runtime_is_loaded(
    folder: Path, loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prefer("onednn", monkeypatch)
    first = deferred(folder, "bfloat16")
    assert first.facts.runtime == "onednn"
    assert first.model.digest == first.facts.model
    assert loads == ["auto"]
    prefer("torch", monkeypatch)
    second = deferred(folder, "bfloat16")
    assert second.facts == first.facts
    assert loads == ["auto"]
    assert second.model.digest == first.facts.model
    assert loads == ["auto", "onednn"]


@needs_bfloat16
def test_a_runtime_that_is_gone_is_an_error_where_it_decides_the_features(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefer("onednn", monkeypatch)
    assert deferred(folder, "bfloat16").facts.runtime == "onednn"

    def gone(*_: object) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(runtime, "OneDnnStack", gone)
    with pytest.raises(ModelError, match="ran in onednn when it was first used here") as caught:
        _ = deferred(folder, "bfloat16").model
    assert "--runtime torch" in caught.value.remedy
    assert deferred(folder, "bfloat16", "torch").model.runtime.name == "torch"  # type: ignore[attr-defined]


def test_in_float32_the_facts_are_those_of_torch_whatever_runs(
    folder: Path, loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = deferred(folder, "float32").facts
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert deferred(folder, "float32").facts == facts
    assert loads == ["auto"]
    assert deferred(folder, "float32", "torch").facts.model == facts.model
    assert deferred(folder, "float32", "onednn").facts.model == facts.model


def test_what_is_remembered_in_bfloat16_is_of_this_machine(
    folder: Path, loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _ = deferred(folder, "bfloat16").facts
    _ = deferred(folder, "bfloat16").facts
    assert loads == ["auto"]
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    _ = deferred(folder, "bfloat16").facts
    assert loads == ["auto", "auto"]
