"""Classify images with class descriptions, without training: ABS and the methods it competes with.

    from abs_classify import Classifier, compare, evaluate

The public names are imported when they are first used, so that `import abs_classify` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from abs_classify.classifier import Classifier, Prediction, Predictions
    from abs_classify.datasets.registry import register_dataset
    from abs_classify.evaluation.attribution_run import AttributionResults, attribute_gain
    from abs_classify.evaluation.bundle_comparison import BundleComparison, compare_bundles
    from abs_classify.evaluation.bundle_scoring import score_bundle
    from abs_classify.evaluation.class_accuracy import ClassTable, class_table
    from abs_classify.evaluation.comparison import compare
    from abs_classify.evaluation.confusions import ImageJudge
    from abs_classify.evaluation.evaluation_results import EvaluationResults
    from abs_classify.evaluation.figures import write_figures
    from abs_classify.evaluation.model_check import ModelCheck, check_model
    from abs_classify.evaluation.paper_table import ResultTable, result_table
    from abs_classify.evaluation.result_merging import merge_results
    from abs_classify.evaluation.robustness_run import RobustnessResults, RobustnessSettings, measure_robustness
    from abs_classify.evaluation.sweep import EvaluationObserver, evaluate
    from abs_classify.explanation import Explanation, RankedClass
    from abs_classify.features import EncodedBatches, EncodedSet, encode, encode_batches
    from abs_classify.labelling.run import LabelRun, label
    from abs_classify.labelling.share_merging import merge_labels
    from abs_classify.methods.adaptive import AdaptiveViews
    from abs_classify.methods.table import METHODS, Method, get_method, register
    from abs_classify.models.registered import register_model
    from abs_classify.models.registry import available_models, load_model
    from abs_classify.models.wrapped import TokenGrid, WrappedModel, wrap
    from abs_classify.plugins import load_plugins
    from abs_classify.usage import filter_by_use, measure_usage
    from abs_core.descriptions import Description, LabelSpace

__all__ = [
    "METHODS",
    "AdaptiveViews",
    "AttributionResults",
    "BundleComparison",
    "ClassTable",
    "Classifier",
    "Description",
    "EncodedBatches",
    "EncodedSet",
    "EvaluationObserver",
    "EvaluationResults",
    "Explanation",
    "ImageJudge",
    "LabelRun",
    "LabelSpace",
    "Method",
    "ModelCheck",
    "Prediction",
    "Predictions",
    "RankedClass",
    "ResultTable",
    "RobustnessResults",
    "RobustnessSettings",
    "TokenGrid",
    "WrappedModel",
    "attribute_gain",
    "available_models",
    "check_model",
    "class_table",
    "compare",
    "compare_bundles",
    "encode",
    "encode_batches",
    "evaluate",
    "filter_by_use",
    "get_method",
    "label",
    "load_model",
    "load_plugins",
    "measure_robustness",
    "measure_usage",
    "merge_labels",
    "merge_results",
    "register",
    "register_dataset",
    "register_model",
    "result_table",
    "score_bundle",
    "wrap",
    "write_figures",
]

_MODULES = {
    "METHODS": "abs_classify.methods.table",
    "AdaptiveViews": "abs_classify.methods.adaptive",
    "AttributionResults": "abs_classify.evaluation.attribution_run",
    "BundleComparison": "abs_classify.evaluation.bundle_comparison",
    "ClassTable": "abs_classify.evaluation.class_accuracy",
    "Classifier": "abs_classify.classifier",
    "Description": "abs_core.descriptions",
    "EncodedBatches": "abs_classify.features",
    "EncodedSet": "abs_classify.features",
    "EvaluationObserver": "abs_classify.evaluation.sweep",
    "EvaluationResults": "abs_classify.evaluation.evaluation_results",
    "Explanation": "abs_classify.explanation",
    "ImageJudge": "abs_classify.evaluation.confusions",
    "LabelRun": "abs_classify.labelling.run",
    "LabelSpace": "abs_core.descriptions",
    "Method": "abs_classify.methods.table",
    "ModelCheck": "abs_classify.evaluation.model_check",
    "Prediction": "abs_classify.classifier",
    "Predictions": "abs_classify.classifier",
    "RankedClass": "abs_classify.explanation",
    "ResultTable": "abs_classify.evaluation.paper_table",
    "RobustnessResults": "abs_classify.evaluation.robustness_run",
    "RobustnessSettings": "abs_classify.evaluation.robustness_run",
    "TokenGrid": "abs_classify.models.wrapped",
    "WrappedModel": "abs_classify.models.wrapped",
    "attribute_gain": "abs_classify.evaluation.attribution_run",
    "available_models": "abs_classify.models.registry",
    "check_model": "abs_classify.evaluation.model_check",
    "class_table": "abs_classify.evaluation.class_accuracy",
    "compare": "abs_classify.evaluation.comparison",
    "compare_bundles": "abs_classify.evaluation.bundle_comparison",
    "encode": "abs_classify.features",
    "encode_batches": "abs_classify.features",
    "evaluate": "abs_classify.evaluation.sweep",
    "filter_by_use": "abs_classify.usage",
    "get_method": "abs_classify.methods.table",
    "label": "abs_classify.labelling.run",
    "load_model": "abs_classify.models.registry",
    "load_plugins": "abs_classify.plugins",
    "measure_robustness": "abs_classify.evaluation.robustness_run",
    "measure_usage": "abs_classify.usage",
    "merge_labels": "abs_classify.labelling.share_merging",
    "merge_results": "abs_classify.evaluation.result_merging",
    "register": "abs_classify.methods.table",
    "register_dataset": "abs_classify.datasets.registry",
    "register_model": "abs_classify.models.registered",
    "result_table": "abs_classify.evaluation.paper_table",
    "score_bundle": "abs_classify.evaluation.bundle_scoring",
    "wrap": "abs_classify.models.wrapped",
    "write_figures": "abs_classify.evaluation.figures",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
