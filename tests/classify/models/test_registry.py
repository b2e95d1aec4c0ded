"""Names of models, their licences, and which of them are imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from abs_classify.models.registry import DINO, canonical_name, license_of, local_names
from abs_classify.models.store import WeightsRecord, WeightsStore


@pytest.mark.parametrize(
    ("repository", "licence"),
    [
        ("timm/vit_large_patch14_clip_336.openai", "MIT"),
        ("laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K", "MIT"),
        ("timm/eva_giant_patch14_clip_224.laion400m_s11b_b41k", "MIT"),
        ("timm/vit_huge_patch14_clip_224.metaclip2_worldwide", "CC-BY-NC-4.0"),
        ("visheratin/nllb-clip-base-siglip", "CC-BY-NC-4.0"),
        ("timm/ViT-B-16-SigLIP2", "Apache-2.0"),
        ("timm/MobileCLIP2-S0-OpenCLIP", "apple-amlr"),
        ("timm/vit_base_patch16_224.dino", "Apache-2.0"),
    ],
)
def test_licences_go_by_family(repository: str, licence: str) -> None:
    found = license_of(repository)
    assert found is not None
    assert found.name == licence
    assert found.source


def test_an_unknown_publisher_has_no_licence_here() -> None:
    assert license_of("someone/something") is None


def test_auto_stands_for_an_imported_dino(tmp_path: Path) -> None:
    store = WeightsStore(tmp_path)
    file = {"name": "model.safetensors", "sha256": "sha256:" + "a" * 64, "bytes": 3}
    name = canonical_name("dino")
    store.record(WeightsRecord.model_validate({"name": name, "origin": "imported", "layout": "file", "files": [file]}))
    use = f"{name}@{store.folder(name) / 'model.safetensors'}"
    assert local_names(store, "ViT-B-32-quickgelu/openai", "auto") == ("ViT-B-32-quickgelu/openai", use)
    assert local_names(store, "embedded", "auto") == ("embedded", "auto")
    assert local_names(store, "embedded", "dino") == ("embedded", use)


def test_names_have_one_spelling() -> None:
    assert canonical_name("dino") == f"dino:{DINO[0]}"
    assert canonical_name("ViT-B/16/LAION2B-s34b-b88k") == "ViT-B-16/laion2b_s34b_b88k"
    for name in ("embedded", "hf-hub:Org/Repo", "ViT-B-16", "ViT-B-16/openai@/a/File-1.pt"):
        assert canonical_name(name) == name


# --- with a hub ---
