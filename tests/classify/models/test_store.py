"""The local store of weights."""

from __future__ import annotations

from pathlib import Path

from abs_classify.models.store import WeightsRecord, WeightsStore


def test_a_record_survives_a_round_trip(tmp_path: Path) -> None:
    file = {"name": "model.safetensors", "sha256": "sha256:" + "a" * 64, "bytes": 3}
    record = WeightsRecord.model_validate({"name": "dino:x", "origin": "imported", "layout": "file", "files": [file]})
    store = WeightsStore(tmp_path)
    stored = store.record(record)
    assert store.find("dino:x") == stored
    assert store.find("dino--x") is None
    assert stored.use == f"dino:x@{tmp_path / 'dino--x' / 'model.safetensors'}"
