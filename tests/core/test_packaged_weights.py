"""The graph that ships for packaged weights is the one that its source writes."""

from __future__ import annotations

import runpy

import pytest

from abs_core.files import data_folder
from abs_core.packaged_weights import minilm_files, minilm_graph

onnx = pytest.importorskip("onnx")


def test_the_graph_of_the_sentence_encoder_is_what_its_source_writes() -> None:
    source = runpy.run_path(str(data_folder() / "sources" / "minilm_graph.py"))
    built = source["build_graph"](minilm_files()["model.safetensors"].read())
    shipped = onnx.load_from_string(minilm_graph().read())
    assert built == shipped
    assert {opset.domain for opset in shipped.opset_import} == {""}
