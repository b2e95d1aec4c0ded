"""Sentence encoders through onnxruntime: no torch, no sentence-transformers.

The embedded encoder is a graph that ships with the toolkit (``data/all-MiniLM-L6-v2.onnx``, 25 kB, no weights) over
the pinned safetensors that sentence-transformers would read. Its vectors are those of sentence-transformers to about
2e-7, so the criteria's limits hold for both. A user's own model is a folder with an ONNX file that contains its
weights, as many repositories of sentence-transformers on the hub have one in ``onnx/``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abs_core.canonical import digest
from abs_core.errors import ModelError
from abs_core.extras import require
from abs_core.files import sha256_file, storage_errors
from abs_core.packaged_weights import minilm_files, minilm_graph
from abs_core.text import printable
from abs_descriptions.filtering.encoders import (
    EMBEDDED_ENCODER,
    embedded_encoder_folder,
    find_encoder_folder,
    read_config,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ONNX_PREFIX", "OnnxEncoder"]

#: Before the name of an encoder: run it through onnxruntime, whatever else is installed.
ONNX_PREFIX = "onnx:"

_MODELS = ("onnx/model.onnx", "model.onnx")
_MODULES = frozenset(("Transformer", "Pooling", "Normalize"))
_INPUTS = frozenset(("input_ids", "attention_mask", "token_type_ids"))
_TOKEN_OUTPUTS = ("token_embeddings", "last_hidden_state")
_SENTENCE_OUTPUT = "sentence_embedding"

# The files besides the model that determine an embedding.
_CONFIGS = (
    "1_Pooling/config.json",
    "config_sentence_transformers.json",
    "modules.json",
    "sentence_bert_config.json",
    "tokenizer.json",
)
_TEXTS_AT_ONCE = 64
_MAX_TOKENS = 512

# protobuf, and so a model of one file, ends here
_MAX_BYTES = 2**31 - 1


class OnnxEncoder:
    """A sentence encoder on the processor, through onnxruntime.

    Args:
        name: ``EMBEDDED_ENCODER``, a folder with ``tokenizer.json`` and ``onnx/model.onnx`` or ``model.onnx``, or the
            name of such a repository in the hub cache of this machine.
        threads: for onnxruntime; None: OMP_NUM_THREADS, or one for each processor.
    """

    def __init__(self, name: str = EMBEDDED_ENCODER, *, threads: int | None = None) -> None:
        self.name = ONNX_PREFIX + name
        self._model_name = name
        self._threads = threads

    @cached_property
    def digest(self) -> str:
        """See ``Encoder``. Reads every file once. sentence-transformers has another digest for the same model.

        Raises:
            MissingExtraError: the package of the embedded encoder is not installed.
            ModelError: this machine has no such model, or it needs more than onnxruntime.
            WeightsError: a file of the embedded encoder is not the expected one.
            StorageError: a file cannot be read.
        """
        if self._is_embedded:
            embedded_encoder_folder()
            files = {**minilm_files(), "graph": minilm_graph()}
            for file in files.values():
                file.read()
            return digest({path: file.sha256 for path, file in files.items()})
        paths = (self._model_path, *(self._folder / name for name in _CONFIGS))
        return digest(
            {path.relative_to(self._folder).as_posix(): sha256_file(path) for path in paths if path.is_file()}
        )

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See ``Encoder``. Texts beyond the model's limit are truncated.

        Raises:
            MissingExtraError: onnxruntime or tokenizers is not installed. Otherwise as ``digest``.
        """
        import numpy as np

        tokenizer, session = self._tokenizer, self._session
        rows: list[NDArray[np.float32] | None] = [None] * len(texts)
        # texts of similar length are padded little
        order = sorted(range(len(texts)), key=lambda position: (len(texts[position]), position))
        for start in range(0, len(order), _TEXTS_AT_ONCE):
            chosen = order[start : start + _TEXTS_AT_ONCE]
            encodings = tokenizer.encode_batch([texts[position] for position in chosen])
            values = {
                "input_ids": np.array([encoding.ids for encoding in encodings], dtype=np.int64),
                "attention_mask": np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64),
            }
            values["token_type_ids"] = np.zeros_like(values["input_ids"])
            try:
                (output,) = session.run([self._output], {name: values[name] for name in self._inputs})
            except Exception as error:  # onnxruntime's errors have no class of their own above them
                raise self._refused(f"cannot be run: {_first_line(error)}") from error
            for position, row in zip(chosen, self._pooled(output, values["attention_mask"]), strict=True):
                rows[position] = row
        return np.stack([row for row in rows if row is not None]) if texts else np.zeros((0, 0), dtype=np.float32)

    def _pooled(self, output: NDArray[np.float32], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        import numpy as np

        if output.ndim != (2 if self._output == _SENTENCE_OUTPUT else 3) or len(output) != len(mask):
            raise self._refused(f"has an output of the shape {list(output.shape)}")
        if self._output == _SENTENCE_OUTPUT:
            vectors = output
        elif self._pooling == "cls":
            vectors = output[:, 0]
        else:
            vectors = np.einsum("ntd,nt->nd", output, mask.astype(np.float32)) / mask.sum(axis=1, keepdims=True)
        norms = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        unit: NDArray[np.float32] = (vectors / norms).astype(np.float32)
        return unit

    @property
    def _is_embedded(self) -> bool:
        return self._model_name == EMBEDDED_ENCODER

    @cached_property
    def _folder(self) -> Path:
        if self._is_embedded:
            return embedded_encoder_folder()
        folder = find_encoder_folder(self._model_name)
        with storage_errors(folder, "read"):
            if not (folder / "tokenizer.json").is_file():
                raise self._refused("has no tokenizer.json")
            if (folder / "modules.json").is_file():
                self._check_modules(read_config(folder / "modules.json", self._model_name))
            prompts = folder / "config_sentence_transformers.json"
            if prompts.is_file() and _entry(read_config(prompts, self._model_name), "default_prompt_name"):
                raise self._refused("puts a prompt before each text")
        return folder

    def _check_modules(self, modules: Any) -> None:
        types = [str(_entry(module, "type")) for module in modules] if isinstance(modules, list) else [""]
        for kind in types:
            if not kind.startswith("sentence_transformers.") or kind.rpartition(".")[2] not in _MODULES:
                raise self._refused(f"has a module of the type {printable(kind, 100)!r}")

    @cached_property
    def _model_path(self) -> Path:
        for name in _MODELS:
            if (self._folder / name).is_file():
                return self._folder / name
        raise self._refused(f"has no {' or '.join(_MODELS)}")

    @cached_property
    def _pooling(self) -> str:
        """How the vectors of the tokens become one: "mean" or "cls"."""
        path = self._folder / "1_Pooling" / "config.json"
        if not path.is_file():
            return "mean"
        config = read_config(path, self._model_name)
        modes = {key for key in config if key.startswith("pooling_mode_") and config[key]} if config else set()
        named = _entry(config, "pooling_mode")
        names = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
        pooling = named if isinstance(named, str) else names.get(modes.pop(), "") if len(modes) == 1 else ""
        if pooling not in names.values():
            raise self._refused("pools its tokens in another way than by their mean or the first of them")
        return pooling

    @cached_property
    def _tokenizer(self) -> Any:
        tokenizers = require("tokenizers", extra="filter-light")
        try:
            if self._is_embedded:
                tokenizer = tokenizers.Tokenizer.from_str(minilm_files()["tokenizer.json"].read().decode())
            else:
                tokenizer = tokenizers.Tokenizer.from_file(str(self._folder / "tokenizer.json"))
        except Exception as error:  # tokenizers raises Exception itself
            raise self._refused(f"has a tokenizer that cannot be read: {_first_line(error)}") from error
        padding = tokenizer.padding or {}
        tokenizer.enable_padding(pad_id=padding.get("pad_id", 0), pad_token=padding.get("pad_token", "[PAD]"))
        tokenizer.enable_truncation(self._max_tokens(tokenizer))
        return tokenizer

    def _max_tokens(self, tokenizer: Any) -> int:
        path = self._folder / "sentence_bert_config.json"
        limit = _entry(read_config(path, self._model_name), "max_seq_length") if path.is_file() else None
        if not isinstance(limit, int) or limit < 1:
            limit = (tokenizer.truncation or {}).get("max_length", _MAX_TOKENS)
        return limit

    @cached_property
    def _session(self) -> Any:
        assert self.digest  # computing it verifies the files
        runtime = require("onnxruntime", extra="filter-light")
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = self._threads or _threads()
        try:
            if self._is_embedded:
                # onnxruntime reads them where they are, as long as the session lives
                self._weights = _read_safetensors(runtime, minilm_files()["model.safetensors"].read())
                options.add_external_initializers(list(self._weights), list(self._weights.values()))
                model = minilm_graph().read()
            else:
                model = self._read_model()
            session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except ModelError:
            raise
        except Exception as error:  # onnxruntime's errors have no class of their own above them
            raise self._refused(f"cannot be loaded: {_first_line(error)}") from error
        return session

    def _read_model(self) -> bytes:
        with storage_errors(self._model_path, "read"):
            if self._model_path.stat().st_size > _MAX_BYTES:
                raise self._refused("is larger than 2 GiB")
            return self._model_path.read_bytes()

    @cached_property
    def _inputs(self) -> list[str]:
        names = [value.name for value in self._session.get_inputs()]
        if not {"input_ids", "attention_mask"} <= set(names) <= _INPUTS:
            raise self._refused(f"has the inputs {printable(', '.join(names), 200)}")
        return names

    @cached_property
    def _output(self) -> str:
        names = {value.name for value in self._session.get_outputs()}
        for name in (*_TOKEN_OUTPUTS, _SENTENCE_OUTPUT):
            if name in names:
                return name
        raise self._refused(f"has the outputs {printable(', '.join(sorted(names)), 200)}")

    def _refused(self, problem: str) -> ModelError:
        return ModelError(
            f"the sentence encoder {printable(self._model_name, 200)!r} {problem}, so onnxruntime alone cannot run it",
            remedy="Name a folder with tokenizer.json and onnx/model.onnx, or run: pip install 'abs-toolkit[filter]'",
        )


def _read_safetensors(runtime: Any, data: bytes) -> dict[str, Any]:
    """The float32 tensors of a safetensors file as values of onnxruntime, over the bytes that were verified."""
    import numpy as np

    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    values = {}
    for name, entry in header.items():
        if entry.get("dtype") == "F32" and not name.startswith("pooler."):
            start, stop = entry["data_offsets"]
            flat = np.frombuffer(data, np.float32, (stop - start) // 4, 8 + length + start)
            values[name] = runtime.OrtValue.ortvalue_from_numpy(flat.reshape(entry["shape"]))
    return values


def _threads() -> int:
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) else os.cpu_count() or 1


def _entry(config: Any, key: str) -> Any:
    return config.get(key) if isinstance(config, dict) else None


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return printable(text.splitlines()[0] if text else type(error).__name__, 200).rstrip(".")
