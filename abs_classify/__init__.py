"""Classify images with class descriptions, without training: ABS and the methods it competes with.

The public names are imported when they are first used, so that `import abs_classify` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from abs_classify.classifier import Classifier, Prediction
    from abs_classify.methods import METHODS, Method, get_method, register
    from abs_classify.phrases import Description
    from abs_classify.towers import available_towers, load_tower

__all__ = [
    "METHODS",
    "Classifier",
    "Description",
    "Method",
    "Prediction",
    "available_towers",
    "get_method",
    "load_tower",
    "register",
]

_HOMES = {
    "Classifier": "classifier",
    "Description": "phrases",
    "METHODS": "methods",
    "Method": "methods",
    "Prediction": "classifier",
    "available_towers": "towers",
    "get_method": "methods",
    "load_tower": "towers",
    "register": "methods",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
