"""`abs models` with CLIP and SigLIP of transformers: folders, the hub cache, and the names that people type."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from model_weights import Machine
from transformers_models import save_clip, save_clip_tokenizer, save_processor, save_siglip, save_siglip_tokenizer

from abs_classify.models.registry import available_models, canonical_name, load_model
from abs_classify.models.transformers_sources import _SAME_WEIGHTS

NAME = "openai/clip-vit-base-patch32"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "saved"
    save_clip(folder)
    save_clip_tokenizer(folder)
    save_processor(folder, "clip")
    return folder


def test_a_saved_folder_is_shown_and_imported_under_a_name_of_ones_own(models: Machine, folder: Path) -> None:
    shown = models("show", f"local-dir:{folder}")
    assert shown.code == 0, shown.err
    for line in (
        "architecture   transformers clip",
        "32 x 32 pixels; bicubic, shortest",
        "a grid of 4 x 4",
        "self, norm",
    ):
        assert line in shown.out
    ran = models("import", folder, "--as", "my-clip")
    assert ran.code == 0, ran.err
    home = models.home / "models" / "my-clip"
    assert ran.out.strip() == f"--model local-dir:{home}"
    assert {path.name for path in home.iterdir()} == {path.name for path in folder.iterdir()} | {"abs-model.json"}
    assert load_model(f"local-dir:{home}", device="cpu").count_tokens("a photo") == 4
    # as weights of an architecture of open_clip the file has other names
    wrong = models("import", folder, "--as", "ViT-B-32-quickgelu/openai")
    assert wrong.code == 2
    assert "local-dir:FOLDER" in wrong.err


def test_a_folder_without_its_tokenizer_is_not_imported(models: Machine, tmp_path: Path) -> None:
    save_siglip(tmp_path / "saved")
    ran = models("import", tmp_path / "saved", "--as", "mine")
    assert (ran.code, "no tokenizer.json" in ran.err) == (2, True), ran.err
    save_siglip_tokenizer(tmp_path / "saved")
    assert models("import", tmp_path / "saved", "--as", "mine").code == 0


def test_the_name_of_a_repository_in_the_hub_cache_loads(models: Machine, folder: Path, tmp_path: Path) -> None:
    missing = models("show", NAME)
    assert missing.code == 2
    assert "Did you mean ViT-B-32-quickgelu/openai" in missing.err
    repository = tmp_path / "hub" / "models--openai--clip-vit-base-patch32"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.parent.mkdir(parents=True)
    shutil.copytree(folder, snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    for name in (NAME, f"hf-hub:{NAME}"):
        assert load_model(name, device="cpu").name == name
        shown = models("show", name, "--json")
        assert shown.code == 0, shown.err
        assert json.loads(shown.out)["use"] == f"hf-hub:{NAME}"
    assert canonical_name(NAME) == f"hf-hub:{NAME}"
    assert f"hf-hub:{NAME}  hub cache" in models("ls", "--here").out
    (snapshot / "config.json").write_text('{"model_type": "bert"}')
    assert NAME not in models("ls", "--here").out


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("google/siglip-base-patch16-224", "ViT-B-16-SigLIP/webli"),
        ("OpenAI/CLIP-ViT-Large-Patch14", "ViT-L-14-quickgelu/openai"),
        ("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "ViT-B-32/laion2b_s34b_b79k"),
    ],
)
def test_names_that_open_clip_has_otherwise(models: Machine, name: str, same: str) -> None:
    ran = models("pull", name)
    assert ran.code == 2
    assert f"Did you mean {same}" in ran.err
    assert f"hf-hub:{name}" in ran.err


def test_other_names_say_how_to_write_them(models: Machine, folder: Path) -> None:
    assert f"Did you mean local-dir:{folder}?" in models("show", folder).err
    assert "Write hf-hub:someone/some-model" in models("show", "someone/some-model").err


def test_every_same_weights_is_a_name_of_open_clip() -> None:
    assert set(_SAME_WEIGHTS.values()) <= set(available_models())
