"""Writes data/all-MiniLM-L6-v2.onnx: what BERT computes with the weights of all-MiniLM-L6-v2, without the weights.

python data/sources/minilm_graph.py FOLDER OUTPUT     FOLDER has model.safetensors; needs the package onnx

Each weight is named by its tensor in model.safetensors and refers to its place in that file (ONNX external data), so
the graph is also a valid model where it lies beside it. Inputs: input_ids and attention_mask [n, t], int64. Output:
last_hidden_state [n, t, 384], before pooling. BERT: Devlin et al. 2019, arXiv 1810.04805; MiniLM: Wang et al. 2020,
arXiv 2002.10957.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

LAYERS, WIDTH, HEADS = 6, 384, 12
_WEIGHTS = "model.safetensors"
# Gelu is an operator since 20
_OPSET, _IR_VERSION = 20, 9
# added to the attention to padding; far below any logit
_MASKED = -1e9


class GraphBuilder:
    """Nodes and weights of a graph, in the order in which they are computed."""

    def __init__(self, safetensors: bytes) -> None:
        self._start = 8 + int.from_bytes(safetensors[:8], "little")
        self._header: dict[str, Any] = json.loads(safetensors[8 : self._start])
        self.nodes: list[NodeProto] = []
        self.tensors: dict[str, TensorProto] = {}

    def weight(self, name: str) -> str:
        """A tensor of the safetensors file."""
        if name not in self.tensors:
            entry = self._header[name]
            start, stop = entry["data_offsets"]
            tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=entry["shape"])
            tensor.data_location = TensorProto.EXTERNAL
            place = {"location": _WEIGHTS, "offset": str(self._start + start), "length": str(stop - start)}
            for key, value in place.items():
                tensor.external_data.add(key=key, value=value)
            self.tensors[name] = tensor
        return name

    def constant(self, name: str, value: Any, dtype: Any = np.int64) -> str:
        """A small tensor within the graph."""
        self.tensors.setdefault(name, numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """The output of a new node."""
        output = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def linear(self, rows: str, name: str) -> str:
        """torch's Linear, on rows [n * t, width]."""
        return self.add("Gemm", rows, self.weight(f"{name}.weight"), self.weight(f"{name}.bias"), transB=1)

    def layer_norm(self, rows: str, name: str) -> str:
        """torch's LayerNorm."""
        names = (self.weight(f"{name}.weight"), self.weight(f"{name}.bias"))
        return self.add("LayerNormalization", rows, *names, epsilon=1e-12)


def build_graph(safetensors: bytes) -> ModelProto:
    """The model.

    Args:
        safetensors: the file's bytes, of which only the header is read.
    """
    build = GraphBuilder(safetensors)
    shape = build.add("Shape", "input_ids")
    rows = _embeddings(build, shape)
    heads = build.add("Concat", shape, build.constant("heads", [HEADS, WIDTH // HEADS]), axis=0)
    for layer in range(LAYERS):
        rows = _layer(build, rows, heads, _mask(build) if layer == 0 else "mask", f"encoder.layer.{layer}")
    whole = build.add("Concat", shape, build.constant("width", [WIDTH]), axis=0)
    build.add("Reshape", rows, whole, output="last_hidden_state")
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "t"]) for name in ("input_ids", "attention_mask")
    ]
    outputs = [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["n", "t", WIDTH])]
    graph = helper.make_graph(build.nodes, "all-MiniLM-L6-v2", inputs, outputs, list(build.tensors.values()))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)


def _embeddings(build: GraphBuilder, shape: str) -> str:
    zero, one = build.constant("zero", 0), build.constant("one", 1)
    places = build.add("Range", zero, build.add("Gather", shape, one), one)
    words = build.add("Gather", build.weight("embeddings.word_embeddings.weight"), "input_ids")
    positions = build.add("Gather", build.weight("embeddings.position_embeddings.weight"), places)
    types = build.add("Gather", build.weight("embeddings.token_type_embeddings.weight"), zero)
    total = build.add("Add", build.add("Add", words, positions), types)
    normed = build.layer_norm(total, "embeddings.LayerNorm")
    return build.add("Reshape", normed, build.constant("rows", [-1, WIDTH]))


def _mask(build: GraphBuilder) -> str:
    padding = build.add("Sub", build.constant("one", 1), "attention_mask")
    numbers = build.add("Cast", padding, to=TensorProto.FLOAT)
    masked = build.add("Mul", numbers, build.constant("masked", _MASKED, np.float32))
    return build.add("Unsqueeze", masked, build.constant("axes", [1, 2]), output="mask")


def _layer(build: GraphBuilder, rows: str, heads: str, mask: str, name: str) -> str:
    split = {
        part: build.add("Reshape", build.linear(rows, f"{name}.attention.self.{part}"), heads)
        for part in ("query", "key", "value")
    }
    query = build.add("Transpose", split["query"], perm=[0, 2, 1, 3])
    key = build.add("Transpose", split["key"], perm=[0, 2, 3, 1])
    value = build.add("Transpose", split["value"], perm=[0, 2, 1, 3])
    scale = build.constant("scale", 1 / math.sqrt(WIDTH // HEADS), np.float32)
    logits = build.add("Add", build.add("Mul", build.add("MatMul", query, key), scale), mask)
    mixed = build.add("MatMul", build.add("Softmax", logits, axis=-1), value)
    joined = build.add("Reshape", build.add("Transpose", mixed, perm=[0, 2, 1, 3]), build.constant("rows", [-1, WIDTH]))
    attended = build.add("Add", rows, build.linear(joined, f"{name}.attention.output.dense"))
    rows = build.layer_norm(attended, f"{name}.attention.output.LayerNorm")
    inner = build.add("Gelu", build.linear(rows, f"{name}.intermediate.dense"))
    outer = build.add("Add", rows, build.linear(inner, f"{name}.output.dense"))
    return build.layer_norm(outer, f"{name}.output.LayerNorm")


def main() -> None:
    """Write the file."""
    folder, output = map(Path, sys.argv[1:])
    output.write_bytes(build_graph((folder / _WEIGHTS).read_bytes()).SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
