"""`abs models import`: what is copied, what is refused, and what is never run."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from model_weights import (
    GOLDEN_DINO,
    SMALL_DINO,
    Machine,
    save_torchscript,
    save_worded_clip,
    save_zeros,
)

from abs_classify.models.registry import local_name, local_names
from abs_classify.models.store import RECORD_FILE, WeightsStore, read_record


def test_import_copies_a_folder_and_the_printed_name_loads_it(models: Machine, tiny: Path) -> None:
    from abs_classify.models.registry import load_model

    ran = models("import", tiny, "--as", "mine")
    assert ran.code == 0
    folder = models.home / "models" / "mine"
    assert ran.out.strip() == f"--model local-dir:{folder}"
    assert sorted(path.name for path in folder.iterdir()) == [
        RECORD_FILE,
        "model.safetensors",
        "open_clip_config.json",
    ]
    digest = hashlib.sha256((tiny / "open_clip_model.safetensors").read_bytes()).hexdigest()
    assert read_record(folder / RECORD_FILE).files[0].sha256 == f"sha256:{digest}"
    model = load_model(f"local-dir:{folder}", device="cpu")
    assert (model.grid, model.embed_dim) == (4, 16)
    store = WeightsStore(models.home / "models")
    assert local_name(store, "mine") == f"local-dir:{folder}"
    assert local_name(store, "theirs") == "theirs"
    assert "local-dir" in models("show", "mine").out
    (row,) = json.loads(models("ls", "--here", "--json", "mine").out)
    assert (row["place"], row["use"]) == ("imported", f"local-dir:{folder}")


def test_import_takes_a_name_once(models: Machine, tiny: Path) -> None:
    assert models("import", tiny, "--as", "mine").code == 0
    again = models("import", tiny, "--as", "mine")
    assert again.code == 2
    assert "is already imported" in again.err


def test_import_of_a_file_for_a_named_architecture(models: Machine, tmp_path: Path) -> None:
    import open_clip
    import torch

    with torch.device("meta"):
        model = open_clip.create_model("ViT-S-32-alt", load_weights=False, device="meta")
    file = save_zeros(model, tmp_path / "any name.safetensors")
    ran = models("import", file, "--as", "ViT-S-32-alt")
    assert ran.code == 0, ran.err
    use = ran.out.strip()
    assert use == f"--model ViT-S-32-alt@{models.home / 'models' / 'ViT-S-32-alt' / 'model.safetensors'}"
    assert models("show", "ViT-S-32-alt").out.count("recorded when it was imported") == 1


def test_import_refuses_weights_of_another_architecture(models: Machine, tiny: Path, tmp_path: Path) -> None:
    bare = tmp_path / "clip.safetensors"
    shutil.copy(tiny / "open_clip_model.safetensors", bare)
    ran = models("import", bare, "--as", "ViT-S-32-alt")
    assert ran.code == 2
    assert "do not fit" in ran.err
    assert str(bare) in ran.err
    assert not (models.home / "models" / "ViT-S-32-alt").exists()


def test_import_runs_no_code_from_a_file(models: Machine, tmp_path: Path) -> None:
    import pickle

    import torch

    class Malicious:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.mkdir, (str(tmp_path / "executed"),)

    pickled = tmp_path / "pickled.pt"
    pickled.write_bytes(pickle.dumps({"state_dict": Malicious()}, protocol=2))
    zipped = tmp_path / "zipped.pt"
    torch.save({"state_dict": Malicious()}, zipped)
    script = save_torchscript(tmp_path / "script.pt")
    for file, complaint in ((pickled, "besides tensors"), (zipped, "besides tensors"), (script, "not one that OpenAI")):
        ran = models("import", file, "--as", "ViT-S-32-alt")
        assert (ran.code, complaint in ran.err) == (2, True), ran.err
    assert not (tmp_path / "executed").exists()
    assert not list(models.home.rglob("*.bin"))


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        (None, "does not say which model"),
        ("embedded", "comes in Python packages"),
        ("local-dir:/x", "cannot be imported as"),
        ("ViT-B-32@x", "cannot be imported as"),
        ("dino:../x", "cannot be imported as"),
        ("ViT-B-16-quickgelu/openai", "QuickGELU mismatch"),
    ],
)
def test_import_refuses_names_that_cannot_be(models: Machine, tiny: Path, name: str | None, complaint: str) -> None:
    ran = models("import", tiny, *(["--as", name] if name else []))
    assert ran.code == 2
    assert complaint in ran.err
    assert not list(models.home.rglob(RECORD_FILE))


def test_import_names_a_missing_or_ambiguous_file(models: Machine, tmp_path: Path) -> None:
    assert "no file or folder" in models("import", tmp_path / "nothing", "--as", "dino").err
    for name in ("a.bin", "b.bin"):
        (tmp_path / name).write_bytes(b"x")
    assert "found: a.bin, b.bin" in models("import", tmp_path, "--as", "dino").err


def test_dino_is_imported_by_its_timm_name(models: Machine, small_dino: Path) -> None:
    from abs_classify.models.attention import DinoAttention

    ran = models("import", small_dino, "--as", f"dino:{SMALL_DINO}")
    assert ran.code == 0, ran.err
    option, use = ran.out.split()
    assert option == "--attention"
    assert DinoAttention(use.removeprefix("dino:")).grid == 14
    store = WeightsStore(models.home / "models")
    assert local_names(store, "embedded", f"dino:{SMALL_DINO}") == ("embedded", use)
    assert local_names(store, "ViT-B-16-quickgelu/openai", "auto") == ("ViT-B-16-quickgelu/openai", "auto")
    (row,) = json.loads(models("ls", "--here", "--json", SMALL_DINO).out)
    assert row["use"] == use
    assert row["licence"]["name"] == "Apache-2.0"


def test_a_hugging_face_dino_must_be_the_model_it_is_imported_as(models: Machine) -> None:
    from abs_classify.models.attention import DinoAttention

    wrong = models("import", GOLDEN_DINO, "--as", "dino")
    assert wrong.code == 2
    assert "their shapes differ" in wrong.err
    right = models("import", GOLDEN_DINO, "--as", "dino:small-golden")
    assert right.code == 0, right.err
    assert DinoAttention(right.out.split()[1].removeprefix("dino:")).grid == 14


@pytest.mark.parametrize("with_option", [True, False])
def test_code_in_a_model_folder_is_never_run(models: Machine, tmp_path: Path, with_option: bool) -> None:
    """A tokenizer may name a Python file beside it; with trust_remote_code, transformers would run it."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    save_worded_clip(folder)
    mark = tmp_path / "ran"
    config = json.loads((folder / "open_clip_config.json").read_text())
    if with_option:
        config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"trust_remote_code": True}
        (folder / "open_clip_config.json").write_text(json.dumps(config))
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer |= {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}, "tokenizer_class": "Evil"}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (folder / "evil.py").write_text(
        f"import pathlib; pathlib.Path({str(mark)!r}).write_text('x')\n"
        "from transformers import PreTrainedTokenizerFast\n"
        "class Evil(PreTrainedTokenizerFast): pass\n"
    )
    ran = models("import", folder, "--as", "hostile")
    assert not mark.exists()
    if with_option:
        assert ran.code == 2
        assert "trust_remote_code" in ran.err
