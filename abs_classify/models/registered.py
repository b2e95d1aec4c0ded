"""Models that a program or plugin registered, by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from abs_classify.plugins import entry_source, failure_text, record_entry
from abs_core.errors import AbsError, ModelError, UsageError

if TYPE_CHECKING:
    from abs_classify.models.base import Model

__all__ = ["ModelLoader", "is_registered", "load_registered", "register_model", "registered_models"]

#: A torch device such as ``cpu`` or ``cuda:1`` to a model there.
ModelLoader = Callable[[str], "Model"]

_LOADERS: dict[str, ModelLoader] = {}


def register_model(name: str, loader: ModelLoader) -> None:
    """Make a model known by name to everything that takes one. Registering the same loader again does nothing.

    Args:
        name: letters, digits and ``. _ + -``; no name of another model, which have a ``/``, ``:`` or ``@``.
        loader: gives the model on a device; called once for each run that must compute something, or ask its digest.

    Raises:
        UsageError: a name of another form, or that is taken.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", name, re.ASCII):
        raise UsageError(f"{name!r} is no name of a model", remedy="Use letters, digits and . _ + -")
    if name == "embedded" or _LOADERS.get(name, loader) is not loader:
        taken = f"is already registered, for a model{entry_source('model', name)}"
        raise UsageError(f"the model name {name!r} {taken}", remedy="Choose another name")
    if name not in _LOADERS:
        record_entry("model", name, lambda: _LOADERS.pop(name))
    _LOADERS[name] = loader


def registered_models() -> tuple[str, ...]:
    """The names that were registered, in order."""
    return tuple(_LOADERS)


def is_registered(name: str) -> bool:
    """Whether a model was registered under this name."""
    return name in _LOADERS


def load_registered(name: str, device: str, dtype: str) -> Model:
    """Load a registered model.

    Raises:
        UsageError: the device cannot be used, or a dtype is asked for, which is the loader's choice.
        ModelError: the loader fails, or gives no model.
    """
    from abs_classify.models.base import Model, resolve_device

    if dtype != "float32":
        raise UsageError(
            f"the dtype of the registered model {name!r} is chosen by its loader, and {dtype} is asked for",
            remedy="Leave out --dtype, or register one model for each dtype",
        )
    where = str(resolve_device(device))
    try:
        model: object = _LOADERS[name](where)
    except AbsError:
        raise
    except Exception as error:
        raise ModelError(
            f"the loader of {name!r}{failure_text('model', name, error)}", remedy="Mend the loader"
        ) from error
    if not isinstance(model, Model):
        lacking = [part for part in _PARTS if not hasattr(model, part)]
        raise ModelError(
            f"the loader of {name!r}{entry_source('model', name)} gave {type(model).__name__}, which lacks "
            f"{', '.join(lacking)}",
            remedy="Return what abs_classify.wrap(...) gives, or follow abs_classify.models.base.Model",
        )
    return model


_PARTS = (
    "name", "digest", "embed_dim", "logit_scale", "grid", "cheap_windows", "crop_fraction", "device", "context_length",
    "preprocess", "preprocess_crop", "encode_image", "encode_text", "count_tokens", "tokens", "pool", "pool_windows",
    "attention_backends", "default_attention",
)  # fmt: skip
