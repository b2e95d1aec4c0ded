"""Classify images with class descriptions, without training: ABS and the methods it competes with.

The public names are imported when they are first used, so that `import abs_classify` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "Classifier": "abs_classify.classifier",
    "Description": "abs_core.descriptions",
    "LabelSpace": "abs_core.descriptions",
    "METHODS": "abs_classify.methods.table",
    "Method": "abs_classify.methods.table",
    "Prediction": "abs_classify.classifier",
    "Predictions": "abs_classify.classifier",
    "available_models": "abs_classify.models.registry",
    "compare": "abs_classify.evaluation.comparison",
    "evaluate": "abs_classify.evaluation.sweep",
    "get_method": "abs_classify.methods.table",
    "load_model": "abs_classify.models.registry",
    "measure_usage": "abs_classify.usage",
    "register": "abs_classify.methods.table",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
