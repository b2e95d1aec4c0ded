"""Reading a checkpoint, and whether it fits a model. Nothing here runs code from a file.

A checkpoint is read by safetensors, or by torch with ``weights_only``. OpenAI published its models as TorchScript
archives, which neither can read and which can hold code: one is opened only if its sha256 is one that OpenAI published.

Lightning, DistributedDataParallel, torch.compile, FSDP and averaging put words in front of every name, or put the state
dict inside another dictionary. What belongs to no model, or to a second one, is left out and named.
"""

from __future__ import annotations

import hashlib
import logging
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from abs_classify.models.transformers_sources import INDEX_FILES, read_index
from abs_classify.models.weights import (
    PUBLISHED_TORCHSCRIPT,
    STATE_REMEDY,
    check_pickle,
    is_safetensors,
    is_torchscript,
    refuse_foreign,
)
from abs_core.errors import AbsError, ModelError, WeightsError
from abs_core.extras import require
from abs_core.files import sha256_file
from abs_core.text import printable, quoted

__all__ = [
    "NamedTensors",
    "check_finite",
    "find_tensors",
    "fit_state",
    "model_errors",
    "read_checkpoint",
    "state_digest",
    "without_advice",
]

#: Entries of OpenAI's archives that are facts about the model, not weights.
_FACTS = ("input_resolution", "context_length", "vocab_size")

_ADVICE = re.compile(r"No pretrained weights loaded|no CLIP weights found|Multiple checkpoints found")


@contextmanager
def without_advice() -> Iterator[None]:
    """Inside the block open_clip says nothing of weights, which it does not load: they are copied in by us."""

    def keep(record: logging.LogRecord) -> bool:
        return not _ADVICE.search(record.getMessage())

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
    module: nn.Module,
    state: Mapping[str, Tensor],
    *,
    subject: str,
    optional: Sequence[str] = (),
    remedy: str = "",
    copy: bool = True,
) -> None:
    """Copy a state dict into a module, all of it and nothing else.

    Args:
        module: receives the tensors.
        state: by parameter name.
        subject: names the checkpoint and the architecture in the error.
        optional: names that may be missing, or be in the checkpoint in vain.
        remedy: of the error; by default to name another architecture.
        copy: False only compares the names and shapes.

    Raises:
        WeightsError: tensors are missing, unknown, or of another shape, so the checkpoint is of another architecture.
    """
    expected = module.state_dict()
    missing = [name for name in expected if name not in state and name not in optional]
    unknown = [name for name in state if name not in expected and name not in optional]
    both = [name for name in expected if name in state]
    shapes = [
        f"{name} is {list(state[name].shape)}, not {list(expected[name].shape)}"
        for name in both
        if state[name].shape != expected[name].shape
    ]
    floats = [name for name in both if expected[name].is_floating_point()]
    # quantized weights mean nothing without the scales beside them
    whole = [name for name in floats if not (state[name].is_floating_point() or state[name].is_complex())]
    # nothing that is copied into a model in pieces, or would lose a part of each number
    odd = [name for name in both if state[name].layout != torch.strided or state[name].is_complex()]
    problems = [
        f"{len(names)} tensors {problem} (first: {names[0][:160]})"
        for names, problem in (
            (shapes, "have another shape"),
            (missing, "are missing"),
            (unknown, "are unknown"),
            (whole, "are whole numbers"),
            (odd, "are sparse or complex"),
        )
        if names
    ]
    if problems:
        # names of a checkpoint are a stranger's
        raise WeightsError(
            printable(f"{subject} do not fit: {'; '.join(problems)}"), remedy=remedy or _fit_remedy(unknown)
        )
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


#: Where training scripts put the state dict, most wanted first.
_INSIDE = ("state_dict", "model_state_dict", "model", "module", "net", "network", "params", "weights", "student")

#: What stands in front of every name.
_WRAPPERS = frozenset(
    {"module", "_orig_mod", "model", "net", "network", "clip", "clip_model", "siglip", "state_dict", "backbone", "base"}
    | {"student", "teacher", "ema", "ema_model", "model_ema", "averaged_model", "_forward_module"}
)
_AVERAGED = re.compile(r"ema|averag|teacher|swa", re.IGNORECASE)

#: What wrappers put inside a name.
_INNER = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_LORA = re.compile(r"(^|[._])(lora_[a-z]|lora|hada_w\d|lokr_w\d|dora_scale|lora_magnitude_vector)", re.IGNORECASE)
_TRAINING = re.compile(r"optim|sched|scaler|callback|loop|amp|rng", re.IGNORECASE)
_DEEPEST = 8


@dataclass(frozen=True)
class NamedTensors:
    """The tensors of a checkpoint.

    Attributes:
        tensors: by the names that the model gives them.
        left_out: what else it holds, for people; empty if nothing.
    """

    tensors: dict[str, Tensor]
    left_out: tuple[str, ...] = ()


def find_tensors(subject: str, content: Any) -> NamedTensors:
    """The state dict in what a checkpoint file holds.

    Args:
        subject: names the file in errors.
        content: what was read: a dictionary of tensors, or of dictionaries.

    Raises:
        WeightsError: it holds no tensors, several models, or LoRA tensors that are not merged.
    """
    state, left_out = _descend(subject, content)
    tensors = {_INNER.sub("", name): value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise WeightsError(f"{subject} holds no tensors", remedy="Give a checkpoint of the whole model")
    _refuse_lora(subject, tensors)
    prefix = _prefix(tensors)
    kept = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    others = [name for name in tensors if not name.startswith(prefix)]
    if others:
        left_out += (
            f"{len(others)} tensors whose names do not begin with {prefix!r} (first: {quoted(others[0], 80)})",
        )
    return NamedTensors(kept, left_out)


def _descend(subject: str, content: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    left_out: tuple[str, ...] = ()
    for _ in range(_DEEPEST):
        if not isinstance(content, Mapping) or not content:
            raise WeightsError(f"{subject} holds no state dict", remedy="Give a checkpoint of the whole model")
        # names of other types can be built to print without end
        content = {name: value for name, value in content.items() if isinstance(name, str)}
        inner = {name: value for name, value in content.items() if _holds_tensors(value)}
        if not inner or sum(isinstance(value, Tensor) for value in content.values()) > len(inner):
            return content, left_out
        name = _choose(subject, inner)
        others = [other for other in inner if other != name and not _TRAINING.search(other)]
        if others:
            left_out += (
                f"the tensors under {', '.join(quoted(other) for other in others[:3])}, beside {quoted(name)}",
            )
        content = inner[name]
    raise WeightsError(f"{subject} holds no state dict", remedy="Give a checkpoint of the whole model")


def _choose(subject: str, inner: Mapping[str, Any]) -> str:
    for name in _INSIDE:
        if name in inner:
            return name
    names = [name for name in inner if not _TRAINING.search(name)] or list(inner)
    single = [name for name in names if not _AVERAGED.search(name)] or names
    if len(single) != 1:
        listing = ", ".join(quoted(name) for name in single[:4])
        raise WeightsError(
            f"{subject} holds the tensors of several models: {listing}", remedy="Save the state dict of one of them"
        )
    return single[0]


def _holds_tensors(value: Any, depth: int = 0) -> bool:
    if not isinstance(value, Mapping) or depth > _DEEPEST:
        return False
    # one level at a time: what refers to itself has no end
    values = list(value.values())[:10_000]
    if any(isinstance(item, Tensor) for item in values):
        return True
    return depth < 2 and any(_holds_tensors(item, depth + 1) for item in values[:100])


def _refuse_lora(subject: str, tensors: Mapping[str, Tensor]) -> None:
    names = [name for name in tensors if _LORA.search(name)]
    if not names:
        return
    if len(names) == len(tensors):
        raise WeightsError(
            f"{subject} is a LoRA adapter, not a model: all its {len(names)} tensors are differences to one",
            remedy="Merge it into the model that it was trained on (peft: model.merge_and_unload()), and save that",
        )
    raise WeightsError(
        f"{subject} holds {len(names)} LoRA tensors that are not merged into the weights "
        f"(first: {quoted(names[0], 100)})",
        remedy="Merge them (peft: model.merge_and_unload()), and save the state dict again",
    )


def _prefix(tensors: Mapping[str, Tensor]) -> str:
    """What stands in front of the names of the model: the prefix of most tensors, of an averaged copy only if alone."""
    counts: Counter[str] = Counter()
    for name in tensors:
        parts, end = name.split("."), 0
        while end < len(parts) - 1 and parts[end] in _WRAPPERS:
            end += 1
        counts[".".join(parts[:end]) + "." if end else ""] += 1
    # a wrapper with a name of its own: every CLIP has one tensor of this name
    marks = [name for name in tensors if name.endswith(".logit_scale") and name.split(".", 1)[0] not in _WRAPPERS]
    for prefix in {name.removesuffix("logit_scale") for name in marks}:
        counts[prefix] = sum(name.startswith(prefix) for name in tensors)
        counts[""] -= counts[prefix]
    most = max(counts.values())
    prefixes = sorted(counts, key=lambda prefix: (bool(_AVERAGED.search(prefix)), -counts[prefix]))
    return next(prefix for prefix in prefixes if 2 * counts[prefix] >= most)
