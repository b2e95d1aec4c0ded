"""`abs models ls`, `show` and `verify`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from model_weights import (
    Machine,
    run_python,
    save_torchscript,
)

from abs_classify.models.registry import DINO, known_entries
from abs_classify.models.store import RECORD_FILE, read_record
from abs_core.errors import WeightsError


def test_the_list_names_every_published_weight_with_a_licence(models: Machine) -> None:
    import open_clip
    import timm

    entries = {entry.name: entry for entry in known_entries()}
    assert next(iter(entries)) == "embedded"
    assert len(entries) > 150
    assert [name for name, entry in entries.items() if entry.license is None] == []
    assert entries["ViT-B-16-quickgelu/openai"].repository == "timm/vit_base_patch16_clip_224.openai"
    assert entries["ViTamin-S/datacomp1b"].files == ("pytorch_model.safetensors", "pytorch_model.bin")
    assert "ViT-B-16/openai" not in entries  # a QuickGELU mismatch
    for name in set(entries) - {"embedded"} - {f"dino:{spec}" for spec in DINO}:
        arch, _, tag = name.rpartition("/")
        assert tag in open_clip.list_pretrained_tags_by_model(arch)
    for spec in DINO:
        assert timm.models.get_pretrained_cfg(spec).hf_hub_id == entries[f"dino:{spec}"].repository
    ran = models("ls")
    assert ran.code == 0
    assert ran.out.splitlines()[0].split() == ["embedded", "package", "110.2", "MB", "Apache-2.0"]
    assert len(ran.out.splitlines()) == len(entries)
    assert all("siglip2" in line.lower() for line in models("ls", "SigLIP2").out.splitlines())


def test_what_is_here_is_listed_without_open_clip(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom abs_cli.main import main\n"
        f"try: main(['--home', {str(tmp_path)!r}, 'models', 'ls', '--here', '--json'])\n"
        "except SystemExit as end: assert not end.code\n"
        "print([name for name in ('torch', 'open_clip', 'timm') if name in sys.modules])\n"
    )
    done = run_python(code, HF_HOME=str(tmp_path))
    rows, heavy = done.stdout.splitlines()
    assert heavy == "[]"
    (row,) = json.loads(rows)
    assert (row["name"], row["place"], row["bytes"] > 10**8) == ("embedded", "package", True)


def test_show_tells_a_model_from_its_configuration(models: Machine) -> None:
    shown = json.loads(models("show", "ViT-B/16-quickgelu/openai", "--json").out)
    assert shown["name"] == "ViT-B-16-quickgelu/openai"
    assert (shown["grid"], shown["embed_dim"], shown["context_length"], shown["quick_gelu"]) == (14, 512, 77, True)
    assert (shown["pooling"], shown["attention"], shown["default_attention"]) == ("token", ["self", "norm"], "dino")
    assert shown["parameters"] == 149_620_737
    assert shown["preprocess"]["size"] == [224, 224]
    assert (shown["place"], shown["files"]) == (None, [])
    text = models("show", "ViT-B-16-quickgelu/openai").out
    for piece in (
        "a grid of 14 x 14",
        "without the weights",
        "MIT: https://github.com/openai/CLIP",
        "abs models pull",
    ):
        assert piece in text


def test_show_says_which_models_have_no_feature_windows(models: Machine) -> None:
    resnet = models("show", "RN50-quickgelu/openai").out
    assert "no, crops only" in resnet
    siglip = json.loads(models("show", "ViT-B-16-SigLIP/webli", "--json").out)
    assert (siglip["grid"], siglip["pooling"], siglip["context_length"]) == (14, "attention", 64)
    assert siglip["preprocess"]["mean"] == [0.5, 0.5, 0.5]


def test_show_says_what_the_configuration_of_a_text_model_hides(models: Machine) -> None:
    hidden = models("show", "xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k").out
    assert "xlm-roberta-base, which is not here" in hidden
    assert "feature windows" not in hidden.split("note")[0]


def test_show_of_the_embedded_model_and_of_dino(models: Machine) -> None:
    embedded = models("show", "embedded").out
    assert "pinned in this toolkit" in embedded
    assert "a grid of 7 x 7" in embedded
    dino = json.loads(models("show", "dino", "--json").out)
    assert (dino["name"], dino["grid"]) == ("dino:vit_base_patch16_224.dino", 14)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("ViT-B-16/openai", "QuickGELU mismatch"),
        ("ViT-B-99/openai", "unknown "),
        ("ViT-B-16/nothing", "unknown ViT-B-16 weights"),
        ("dino:nothing", "unknown vision transformer"),
        ("dino:/nowhere/file.pth", "no file or folder"),
        ("hf-hub:nothing", "Write hf-hub:ORG/REPO"),
        ("local-dir:/nowhere", "no open_clip_config.json"),
    ],
)
def test_a_wrong_name_is_one_line_and_exit_code_2(models: Machine, name: str, complaint: str) -> None:
    ran = models("show", name)
    assert (ran.code, ran.out) == (2, "")
    assert complaint in ran.err
    assert len(ran.err.splitlines()) == 1


def test_verify_finds_what_changed(models: Machine, tiny: Path) -> None:
    models("import", tiny, "--as", "mine")
    sound = models("verify", "mine")
    assert (sound.code, sound.out.count("ok ")) == (0, 2)
    weights = models.home / "models" / "mine" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    changed = models("verify")
    assert changed.code == 1
    assert f"differs    {weights}" in changed.out
    weights.unlink()
    gone = models("verify", "mine")
    assert gone.code == 1
    assert f"missing    {weights}" in gone.out


def test_verify_compares_the_embedded_model_with_pinned_digests(models: Machine) -> None:
    ran = models("verify", "embedded")
    assert (ran.code, ran.out.count("pinned in this toolkit")) == (0, 4)


def test_verify_says_when_there_is_nothing_to_compare_with(models: Machine, tiny: Path) -> None:
    ran = models("verify", f"local-dir:{tiny}")
    assert ran.code == 0
    assert "unrecorded" in ran.out
    assert models("verify", "dino").code == 2


def test_verify_doubts_a_torchscript_archive_that_openai_did_not_publish(models: Machine, tmp_path: Path) -> None:
    script = save_torchscript(tmp_path / "ViT-B-32.pt")
    ran = models("verify", f"ViT-B-32@{script}")
    assert ran.code == 1
    assert "one that OpenAI published" in ran.out


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": "abs-model/2"}',
        '{"format":"abs-model/1","name":"x","origin":"imported","layout":"file","files":[{"name":"../../etc/passwd",'
        '"sha256":"sha256:' + "0" * 64 + '","bytes":1}]}',
        '{"format":"abs-model/1","name":"x","origin":"imported","layout":"file","files":[]}',
        " " * 70_000,
    ],
)
def test_a_damaged_record_is_named(models: Machine, tmp_path: Path, text: str) -> None:
    record = models.home / "models" / "x" / RECORD_FILE
    record.parent.mkdir(parents=True)
    record.write_text(text)
    with pytest.raises(WeightsError, match="is damaged"):
        read_record(record)
    ran = models("ls", "--here")
    assert ran.code == 2
    assert str(record) in ran.err
