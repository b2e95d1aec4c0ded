"""Reading a checkpoint, and whether it fits a model. Nothing here runs code from a file.

A checkpoint is read by safetensors, or by torch with ``weights_only``. OpenAI published its models as TorchScript
archives, which neither can read and which can hold code: one is opened only if its sha256 is one that OpenAI published.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from abs_classify.models.weights import PUBLISHED_TORCHSCRIPT, is_torchscript
from abs_core.errors import ModelError, WeightsError
from abs_core.extras import require
from abs_core.files import sha256_file

__all__ = ["check_finite", "fit_state", "read_checkpoint", "state_digest", "without_advice"]

#: Entries of OpenAI's archives that are facts about the model, not weights.
_FACTS = ("input_resolution", "context_length", "vocab_size")
_SAFE_REMEDY = "Use the model's safetensors file, or save its state dict with torch.save"


@contextmanager
def without_advice() -> Iterator[None]:
    """Inside the block open_clip does not warn that a model is random before its weights are copied in by us."""

    def keep(record: logging.LogRecord) -> bool:
        return "No pretrained weights loaded" not in record.getMessage()

    root = logging.getLogger()
    root.addFilter(keep)
    try:
        yield
    finally:
        root.removeFilter(keep)


def read_checkpoint(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """The tensors of a checkpoint file, by name.

    Args:
        path: a ``.safetensors`` file, a file of ``torch.save``, or an archive of ``PUBLISHED_TORCHSCRIPT``. A nested
            ``state_dict`` and the prefix ``module.`` of training scripts are undone.
        sha256: ``sha256:...`` of the file if it is known already.

    Raises:
        WeightsError: the file is missing, holds anything but tensors, or is a TorchScript archive with an unpublished
            sha256.
    """
    if not path.is_file():
        raise WeightsError(f"there is no weights file {str(path)!r}", remedy="Check the path")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if is_torchscript(path):
        digest = (sha256 or sha256_file(path)).removeprefix("sha256:")
        if digest not in PUBLISHED_TORCHSCRIPT:
            raise WeightsError(
                f"{str(path)!r} is a TorchScript archive, which can hold code, and its sha256 {digest} is not one that "
                "OpenAI published",
                remedy=_SAFE_REMEDY,
            )
        return _read_torchscript(path)
    return _read_pickled_tensors(path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    safetensors = require("safetensors")
    try:
        state: dict[str, Tensor] = require("safetensors.torch").load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{str(path)!r} is not a readable safetensors file: {_line(error)}") from error
    return _plain_state(path, state)


def _read_torchscript(path: Path) -> dict[str, Tensor]:
    with warnings.catch_warnings():
        # torch announces the end of TorchScript; the archives are what they are
        warnings.simplefilter("ignore", FutureWarning)
        module: nn.Module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    state = module.state_dict()
    return {name: tensor for name, tensor in state.items() if name not in _FACTS}


def _read_pickled_tensors(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError, AttributeError) as error:
        raise WeightsError(
            f"{str(path)!r} cannot be read as plain tensors: {_line(error)}", remedy=_SAFE_REMEDY
        ) from error
    return _plain_state(path, state)


def _plain_state(path: Path, state: Any) -> dict[str, Tensor]:
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not state:
        raise WeightsError(f"{str(path)!r} holds no state dict", remedy="Give a checkpoint of the whole model")
    prefix = "module." if all(str(name).startswith("module.") for name in state) else ""
    tensors = {str(name).removeprefix(prefix): value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise WeightsError(f"{str(path)!r} holds no tensors", remedy="Give a checkpoint of the whole model")
    return {name: value for name, value in tensors.items() if name not in _FACTS}


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]


def fit_state(module: nn.Module, state: Mapping[str, Tensor], *, subject: str, optional: Sequence[str] = ()) -> None:
    """Copy a state dict into a module, all of it and nothing else.

    Args:
        module: receives the tensors.
        state: by parameter name.
        subject: names the checkpoint and the architecture in the error.
        optional: names that may be missing, or be in the checkpoint in vain.

    Raises:
        WeightsError: tensors are missing, unknown, or of another shape, so the checkpoint is of another architecture.
    """
    expected = module.state_dict()
    missing = [name for name in expected if name not in state and name not in optional]
    unknown = [name for name in state if name not in expected and name not in optional]
    shapes = [
        f"{name} is {list(state[name].shape)}, not {list(expected[name].shape)}"
        for name in expected
        if name in state and state[name].shape != expected[name].shape
    ]
    problems = [
        f"{len(names)} tensors {problem} (first: {names[0]})"
        for names, problem in ((shapes, "have another shape"), (missing, "are missing"), (unknown, "are unknown"))
        if names
    ]
    if problems:
        raise WeightsError(
            f"{subject} do not fit: {'; '.join(problems)}",
            remedy="Name the architecture that the checkpoint was trained with",
        )
    module.load_state_dict({name: value for name, value in state.items() if name in expected}, strict=False)


def check_finite(module: nn.Module, *, subject: str) -> None:
    """Refuse weights with NaN or infinity in them.

    Args:
        module: its parameters and persistent buffers are checked; attention masks, which hold infinity, are neither.
        subject: names the model in the error.

    Raises:
        ModelError: names the first such tensor.
    """
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            raise ModelError(
                f"{subject} hold NaN or infinity in {name} ({bad} of {tensor.numel()} numbers, {tensor.dtype})",
                remedy="Download the weights again, or use float32 if they overflow float16",
            )


def state_digest(module: nn.Module) -> str:
    """``sha256:`` over names, dtypes, shapes and bytes of a module's state dict, in the order of the names."""
    total = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        data = tensor.detach().cpu().contiguous()
        total.update(f"{name}|{data.dtype}|{list(data.shape)}|".encode())
        total.update(data.reshape(-1).view(torch.uint8).numpy().data)
    return f"sha256:{total.hexdigest()}"
