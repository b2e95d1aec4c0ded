"""Short names: what tables, reports and file names show of models whose files lie anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from abs_classify.models.store import WeightsRecord, WeightsStore, short_name, short_names

FILE = {"name": "model.safetensors", "sha256": "sha256:" + "a" * 64, "bytes": 3}


@pytest.mark.parametrize(
    "name",
    ["embedded", "ViT-B-16/openai", "hf-hub:Org/Repo", "openai/clip-vit-base-patch32", "dino", "dino:vit_x.dino"],
)
def test_names_without_a_path_stay(name: str) -> None:
    assert short_name(name) == name


def test_the_last_part_of_a_path_is_shown() -> None:
    assert short_name("ViT-B-16@/a/very/long/path/mine.pt") == "ViT-B-16@mine.pt"
    assert short_name("local-dir:/data/runs/7/best") == "local-dir:best"
    assert short_name("dino:vit_small@/data/dino.pth") == "dino:vit_small@dino.pth"
    assert short_name("dino:/data/my-dino") == "dino:my-dino"
    assert len(short_name(f"ViT-B-16@/{'x' * 255}")) < 80


@pytest.mark.parametrize(("layout", "name"), [("file", "ViT-B-16/openai"), ("folder", "my-clip"), ("file", "dino:vit")])
def test_an_imported_model_has_the_name_it_was_imported_as(tmp_path: Path, layout: str, name: str) -> None:
    store = WeightsStore(tmp_path / "a home with a long path" / "models")
    stored = store.record(
        WeightsRecord.model_validate({"name": name, "origin": "imported", "layout": layout, "files": [FILE]})
    )
    assert str(tmp_path) in stored.use
    assert short_name(stored.use) == name
    (stored.home / "abs-model.json").write_text("damaged")
    assert short_name(stored.use).endswith(("model.safetensors", "my-clip"))


def test_names_that_would_be_the_same_are_told_apart() -> None:
    names = ["ViT-B-16@/runs/1/best/x.pt", "ViT-B-16@/runs/2/best/x.pt", "ViT-B-32@/runs/1/best/x.pt", "embedded"]
    assert list(short_names(names).values()) == [
        "ViT-B-16@1/best/x.pt",
        "ViT-B-16@2/best/x.pt",
        "ViT-B-32@x.pt",
        "embedded",
    ]
