"""The names of tensors in checkpoints of training scripts, and the names that a model gives them.

Lightning, DistributedDataParallel, torch.compile, FSDP and averaging put words in front of every name, or put the state
dict inside another dictionary. What belongs to no model, or to a second one, is left out and named.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from abs_core.errors import WeightsError
from abs_core.text import quoted

__all__ = ["NamedTensors", "find_tensors"]

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
