"""Classify images with class descriptions, without training: ABS and the methods it competes with.

The public names are imported when they are first used, so that `import abs_classify` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "Classifier": "classifier",
    "Description": "methods.class_texts",
    "METHODS": "methods.table",
    "Method": "methods.table",
    "Prediction": "classifier",
    "available_models": "models.registry",
    "compare": "evaluation.comparison",
    "evaluate": "evaluation.sweep",
    "get_method": "methods.table",
    "load_model": "models.registry",
    "register": "methods.table",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
