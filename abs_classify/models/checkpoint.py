"""Reading a checkpoint, and whether it fits a model. Nothing here runs code from a file.

A checkpoint is read by safetensors, or by torch with ``weights_only``. OpenAI published its models as TorchScript
archives, which neither can read and which can hold code: one is opened only if its sha256 is one that OpenAI published.
"""

from __future__ import annotations

import hashlib
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from abs_classify.models.state_names import NamedTensors, find_tensors
from abs_classify.models.transformers_sources import INDEX_FILES, read_index
from abs_classify.models.weights import PUBLISHED_TORCHSCRIPT, is_torchscript
from abs_classify.models.weights_formats import STATE_REMEDY, check_pickle, is_safetensors, refuse_foreign
from abs_core.errors import AbsError, ModelError, WeightsError
from abs_core.extras import require
from abs_core.files import sha256_file
from abs_core.text import printable

__all__ = ["check_finite", "fit_state", "model_errors", "read_checkpoint", "state_digest", "without_advice"]

#: Entries of OpenAI's archives that are facts about the model, not weights.
_FACTS = ("input_resolution", "context_length", "vocab_size")


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


@contextmanager
def model_errors(action: str, name: str) -> Iterator[None]:
    """Turns whatever open_clip, timm and torch raise for a configuration into one line.

    Raises:
        ModelError: ``ACTION NAME: ...``, with the first line of what they said.
        OSError: a file or a repository that they need is not there.
    """
    try:
        yield
    except (AbsError, OSError):
        raise
    except Exception as error:  # a configuration may be wrong in any way, and fails wherever it is first used
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ModelError(
            f"{action} {name!r}: {printable(reason, 200)}",
            remedy="Compare its configuration with the one that was saved with the weights",
        ) from error


def read_checkpoint(path: Path, sha256: str | None = None) -> NamedTensors:
    """The tensors of a checkpoint, by name.

    Args:
        path: a ``.safetensors`` file, a file of ``torch.save``, an archive of ``PUBLISHED_TORCHSCRIPT``, or the index
            of a checkpoint in several files. Nested dictionaries and the prefixes of training scripts are undone.
        sha256: ``sha256:...`` of the file if it is known already.

    Raises:
        WeightsError: the file is missing, holds anything but tensors, or is a TorchScript archive with an unpublished
            sha256.
    """
    if path.name in INDEX_FILES:
        shards = [_read_file(shard) for shard in read_index(path)]
        return find_tensors(repr(str(path)), {name: tensor for shard in shards for name, tensor in shard.items()})
    if not path.is_file():
        raise WeightsError(f"there is no weights file {str(path)!r}", remedy="Check the path")
    if is_torchscript(path):
        digest = (sha256 or sha256_file(path)).removeprefix("sha256:")
        if digest not in PUBLISHED_TORCHSCRIPT:
            raise WeightsError(
                f"{str(path)!r} is a TorchScript archive, which can hold code, and its sha256 {digest} is not one that "
                "OpenAI published",
                remedy=STATE_REMEDY,
            )
        return NamedTensors(_read_torchscript(path))
    named = find_tensors(repr(str(path)), _read_file(path))
    return NamedTensors({name: value for name, value in named.tensors.items() if name not in _FACTS}, named.left_out)


def _read_file(path: Path) -> Any:
    head = refuse_foreign(path)
    # names lie: many a .bin holds safetensors
    if path.suffix == ".safetensors" or is_safetensors(head):
        return _read_safetensors(path)
    return _read_pickled_tensors(path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    load_file = require("safetensors.torch").load_file
    try:
        state: dict[str, Tensor] = load_file(path)
    except Exception as error:  # sizes beyond the machine's integers fail in safetensors, in torch or in between
        raise WeightsError(
            f"{str(path)!r} is not a readable safetensors file: {_line(error)}", remedy=_safetensors_remedy(path)
        ) from error
    return state


def _safetensors_remedy(path: Path) -> str:
    with path.open("rb") as stream:
        is_pickled = stream.read(4).startswith((b"PK\3\4", b"\x80"))
    return "It was written by torch.save: rename it to .bin" if is_pickled else "Fetch the file again, whole"


def _read_torchscript(path: Path) -> dict[str, Tensor]:
    with warnings.catch_warnings():
        # torch announces the end of TorchScript; the archives are what they are
        warnings.simplefilter("ignore", FutureWarning)
        module: nn.Module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    state = module.state_dict()
    return {name: tensor for name, tensor in state.items() if name not in _FACTS}


def _read_pickled_tensors(path: Path) -> Any:
    check_pickle(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle fails wherever its last byte happened to lead
        raise WeightsError(
            f"{str(path)!r} cannot be read as plain tensors{_own_words(error)}", remedy=STATE_REMEDY
        ) from error


def _own_words(error: Exception) -> str:
    """What torch says, unless it is its advice to read the file unsafely."""
    line = _line(error)
    if not re.search(r"[A-Za-z]{3}", line):
        return ": it is damaged"
    return "" if re.search(r"weights.?only", line, re.IGNORECASE) else f": {line}"


def _line(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return printable(line, 200)


def fit_state(
    module: nn.Module, state: Mapping[str, Tensor], *, subject: str, optional: Sequence[str] = (), copy: bool = True
) -> None:
    """Copy a state dict into a module, all of it and nothing else.

    Args:
        module: receives the tensors.
        state: by parameter name.
        subject: names the checkpoint and the architecture in the error.
        optional: names that may be missing, or be in the checkpoint in vain.
        copy: False only compares the names and shapes.

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
    # quantized weights mean nothing without the scales beside them
    whole = [
        name
        for name in expected
        if name in state and expected[name].is_floating_point() and not state[name].is_floating_point()
    ]
    problems = [
        f"{len(names)} tensors {problem} (first: {names[0][:160]})"
        for names, problem in (
            (shapes, "have another shape"),
            (missing, "are missing"),
            (unknown, "are unknown"),
            (whole, "are whole numbers"),
        )
        if names
    ]
    if problems:
        # names of a checkpoint are a stranger's
        raise WeightsError(printable(f"{subject} do not fit: {'; '.join(problems)}"), remedy=_fit_remedy(unknown))
    if copy:
        module.load_state_dict({name: value for name, value in state.items() if name in expected}, strict=False)


def _fit_remedy(unknown: Sequence[str]) -> str:
    if any(name.startswith(("vision_model.", "text_model.")) for name in unknown):
        return "These are transformers' names: use local-dir:FOLDER with its config.json beside the weights"
    return "Name the architecture that the checkpoint was trained with"


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
