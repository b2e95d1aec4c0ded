"""Names of open_clip models, and what they stand for: folders, repositories, files beside each other, mismatches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_open_clip import ARCH, CONFIG, check_squashed, folder_with_configuration, load

from abs_classify.models.open_clip_sources import find_source
from abs_classify.models.registry import available_models, load_model, model_files
from abs_core.errors import ModelError, UnknownNameError, UsageError, WeightsError

pytestmark = pytest.mark.usefixtures("no_network")


def test_a_local_folder_brings_its_preprocessing(tiny: Any, tmp_path: Path) -> None:
    folder = folder_with_configuration(tiny, tmp_path / "folder")
    check_squashed(load(f"local-dir:{folder}"))
    # a checkpoint that is named with its architecture uses the configuration beside it
    check_squashed(load(f"{ARCH}@{folder / 'open_clip_model.safetensors'}"))
    assert len(model_files(f"local-dir:{folder}")) == 2


def test_a_repository_in_the_hub_cache(tiny: Any, tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--org--tiny"
    folder_with_configuration(tiny, repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    check_squashed(load("hf-hub:org/tiny"))


def test_nothing_is_downloaded_unasked() -> None:
    for name in ("ViT-B-16-quickgelu/openai", "ViT-SO400M-14-SigLIP2/webli", "hf-hub:org/nothing"):
        with pytest.raises(WeightsError, match="are not downloaded automatically") as caught:
            load_model(name)
        assert f"abs models pull {name}" in caught.value.remedy


def test_a_missing_tokenizer_is_named(tiny: Any, tmp_path: Path) -> None:
    text = {**CONFIG["text_cfg"], "hf_tokenizer_name": "org/words"}
    folder = folder_with_configuration(tiny, tmp_path / "folder", text_cfg=text)
    with pytest.raises(WeightsError, match="tokenizer 'org/words'"):
        load_model(f"local-dir:{folder}")


def test_a_tokenizer_beside_the_checkpoint(tiny: Any, tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    text = {**CONFIG["text_cfg"], "hf_tokenizer_name": "org/words"}
    folder = folder_with_configuration(tiny, tmp_path / "folder", text_cfg=text)
    words = Tokenizer(WordLevel({"[UNK]": 0, "[PAD]": 1, "a": 2, "cat": 3}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    model = load(f"local-dir:{folder}")
    assert model.count_tokens("a cat a cat") == 4
    assert model.count_tokens("cat " * 40) == 40
    assert model.encode_text(["a cat", "cat " * 40]).shape == (2, 24)


@pytest.mark.parametrize(
    ("name", "twin"),
    [
        ("ViT-B-16/openai", "ViT-B-16-quickgelu"),
        ("ViT-L-14/dfn2b", "ViT-L-14-quickgelu"),
        ("ViT-B-32/metaclip_400m@some.pt", "ViT-B-32-quickgelu"),
    ],
)
def test_a_quickgelu_mismatch_is_an_error(name: str, twin: str) -> None:
    with pytest.raises(ModelError, match="QuickGELU mismatch") as caught:
        load_model(name)
    assert twin in caught.value.remedy


def test_all_names_of_open_clip_are_known_or_refused_for_a_counterpart_that_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    open_clip, known = pytest.importorskip("open_clip"), set(available_models())
    pairs = open_clip.list_pretrained()
    assert len(pairs) > 100
    refused = {pair for pair in pairs if "/".join(pair) not in known}
    for arch, tag in pairs:
        with pytest.raises(ModelError) as caught:  # the weights are not here
            find_source(f"{arch}/{tag}", allow_download=False)
        is_mismatch = "QuickGELU mismatch" in caught.value.message
        assert is_mismatch == ((arch, tag) in refused) == (not isinstance(caught.value, WeightsError))
        if is_mismatch:
            assert caught.value.remedy == f"Use {arch}-quickgelu"
            assert f"{arch}-quickgelu/{tag}" in known


def test_an_architecture_without_a_counterpart_computes_its_own_activation(tmp_path: Path) -> None:
    file = tmp_path / "weights.bin"
    file.write_bytes(b"")
    name = "roberta-ViT-B-32/laion2b_s12b_b32k"
    source = find_source(f"{name}@{file}", allow_download=False)
    assert source.config["quick_gelu"]
    (remark,) = source.remarks
    assert "does not say that laion2b_s12b_b32k needs the QuickGELU" in remark
    assert name in available_models()


def test_a_quickgelu_mismatch_with_the_configuration_beside(tiny: Any, tmp_path: Path) -> None:
    folder = folder_with_configuration(tiny, tmp_path / "folder", quick_gelu=True)
    with pytest.raises(ModelError, match="QuickGELU mismatch") as caught:
        load_model(f"{ARCH}@{folder / 'open_clip_model.safetensors'}")
    assert f"{ARCH}-quickgelu" in caught.value.remedy


def test_names() -> None:
    names = available_models()
    assert names[0] == "embedded"
    assert {"ViT-B-16-quickgelu/openai", "ViT-H-14/laion2b_s32b_b79k", "ViT-B-16-SigLIP2/webli"} <= set(names)
    assert "ViT-B-16/openai" not in names
    for name, expected in (
        ("nonsense", "embedded, coca_base"),
        ("ViT-B-17/openai", "ViT-B-16"),
        ("ViT-B-16", "ViT-B-16-quickgelu/openai"),
        ("ViT-B-16-quickgelu/nobody", "dfn2b"),
        ("ViT-B-16", r"ViT-B-16/\w+, .* and \d+ more. Name the weights too, see `abs models ls ViT-B-16`"),
    ):
        with pytest.raises(UnknownNameError, match=expected):
            load_model(name)
    with pytest.raises(UnknownNameError, match="bfloat16"):
        load_model("embedded", dtype="float8")
    for device in ("banana", "cuda:99"):
        with pytest.raises(UsageError, match=device):
            load_model("ViT-B-16-quickgelu/openai", device=device)


def test_a_bare_checkpoint_of_an_architecture_with_two_preprocessings(checkpoint: Path) -> None:
    with pytest.raises(ModelError, match="differ in their preprocessing") as caught:
        load_model(f"ViT-L-14@{checkpoint}")
    assert "ViT-L-14/TAG@FILE" in caught.value.remedy


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "not JSON"), ("[]", "not a JSON object"), ('{"model_cfg": {"embed_dim": 3}}', "cannot build")],
)
def test_configurations_that_are_broken(tiny: Any, tmp_path: Path, content: str, message: str) -> None:
    folder = folder_with_configuration(tiny, tmp_path / "folder")
    (folder / "open_clip_config.json").write_text(content)
    with pytest.raises(ModelError, match=message):
        load_model(f"local-dir:{folder}")


def test_folders_of_libraries_around_transformers(tmp_path: Path) -> None:
    for name, inner, message in (
        ("adapter", "adapter_config.json", "LoRA adapter"),
        ("sentences", "0_CLIPModel/config.json", "0_CLIPModel"),
    ):
        folder = tmp_path / name
        (folder / inner).parent.mkdir(parents=True)
        (folder / inner).write_text("{}")
        (folder / "modules.json").write_text("[]")
        with pytest.raises(WeightsError, match=message):
            load_model(f"local-dir:{folder}")


def test_a_folder_with_two_weights_files(tiny: Any, tmp_path: Path) -> None:
    folder = folder_with_configuration(tiny, tmp_path / "folder")
    (folder / "other.safetensors").write_bytes(b"")
    with pytest.raises(WeightsError, match="one weights file"):
        load_model(f"local-dir:{folder}")
    with pytest.raises(WeightsError, match=r"no open_clip_config\.json"):
        load_model(f"local-dir:{tmp_path / 'nowhere'}")
