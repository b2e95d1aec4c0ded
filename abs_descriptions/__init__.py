"""Write, clean, filter, store and share class descriptions. Knows nothing of images.

    from abs_descriptions import ProviderOptions, Repository, build_provider, generate

    provider = build_provider("openai", ProviderOptions(model="gpt-5-mini"))
    generate("labels.txt", "birds", provider, output=Repository.local(folder))

The public names are imported when they are first used, so that `import abs_descriptions` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from abs_core.descriptions import Description, LabelSpace, Provenance, Rejection
    from abs_core.labels import ClassLabel, LabelSet, read_labels
    from abs_descriptions.bundles.conflicts import MergeConflictError
    from abs_descriptions.bundles.diff import diff_bundles
    from abs_descriptions.bundles.edited import add_edited, write_edit_file
    from abs_descriptions.bundles.exporting import export_bundle
    from abs_descriptions.bundles.format import BundleHeader, Generator
    from abs_descriptions.bundles.history import list_versions, read_history
    from abs_descriptions.bundles.importing import import_bundles, import_descriptions
    from abs_descriptions.bundles.maintenance import collect_garbage, verify_repository
    from abs_descriptions.bundles.merge import Settling, add_merged, merge_bundles
    from abs_descriptions.bundles.reader import Bundle, read_bundle
    from abs_descriptions.bundles.remotes import Remotes
    from abs_descriptions.bundles.repository import Repository
    from abs_descriptions.bundles.review import ReviewFile, add_reviewed, write_review
    from abs_descriptions.bundles.sharing import copy_bundles
    from abs_descriptions.bundles.signatures import sign_bundle, verify_bundle
    from abs_descriptions.bundles.signers import read_signers
    from abs_descriptions.bundles.versions import find_bundle
    from abs_descriptions.bundles.writer import write_bundle
    from abs_descriptions.filtering.bundle_filters import (
        FilterOutput,
        SentenceFilter,
        TextFilter,
        filter_bundle,
        filter_by_weight,
    )
    from abs_descriptions.filtering.criteria import Criteria, TextCriteria
    from abs_descriptions.filtering.encoder_choice import open_encoder
    from abs_descriptions.filtering.encoders import SentenceEncoder
    from abs_descriptions.filtering.onnx_encoder import OnnxEncoder
    from abs_descriptions.generation.cleaning import CleaningRules
    from abs_descriptions.generation.cost import Prices
    from abs_descriptions.generation.pipeline import estimate_cost, generate
    from abs_descriptions.generation.providers.base import Parameters
    from abs_descriptions.generation.providers.registry import ProviderOptions, build_provider
    from abs_descriptions.generation.runner import GenerationPlan
    from abs_descriptions.linting import LintOptions, lint_bundle, lint_labels
    from abs_descriptions.rewriting.candidates import RewritePlan
    from abs_descriptions.rewriting.pipeline import RewriteOutput, estimate_rewrite, rewrite_bundle

__all__ = [
    "Bundle",
    "BundleHeader",
    "ClassLabel",
    "CleaningRules",
    "Criteria",
    "Description",
    "FilterOutput",
    "GenerationPlan",
    "Generator",
    "LabelSet",
    "LabelSpace",
    "LintOptions",
    "MergeConflictError",
    "OnnxEncoder",
    "Parameters",
    "Prices",
    "Provenance",
    "ProviderOptions",
    "Rejection",
    "Remotes",
    "Repository",
    "ReviewFile",
    "RewriteOutput",
    "RewritePlan",
    "SentenceEncoder",
    "SentenceFilter",
    "Settling",
    "TextCriteria",
    "TextFilter",
    "add_edited",
    "add_merged",
    "add_reviewed",
    "build_provider",
    "collect_garbage",
    "copy_bundles",
    "diff_bundles",
    "estimate_cost",
    "estimate_rewrite",
    "export_bundle",
    "filter_bundle",
    "filter_by_weight",
    "find_bundle",
    "generate",
    "import_bundles",
    "import_descriptions",
    "lint_bundle",
    "lint_labels",
    "list_versions",
    "merge_bundles",
    "open_encoder",
    "read_bundle",
    "read_history",
    "read_labels",
    "read_signers",
    "rewrite_bundle",
    "sign_bundle",
    "verify_bundle",
    "verify_repository",
    "write_bundle",
    "write_edit_file",
    "write_review",
]

_MODULES = {
    "Bundle": "abs_descriptions.bundles.reader",
    "BundleHeader": "abs_descriptions.bundles.format",
    "ClassLabel": "abs_core.labels",
    "CleaningRules": "abs_descriptions.generation.cleaning",
    "Criteria": "abs_descriptions.filtering.criteria",
    "Description": "abs_core.descriptions",
    "FilterOutput": "abs_descriptions.filtering.bundle_filters",
    "GenerationPlan": "abs_descriptions.generation.runner",
    "Generator": "abs_descriptions.bundles.format",
    "LabelSet": "abs_core.labels",
    "LabelSpace": "abs_core.descriptions",
    "LintOptions": "abs_descriptions.linting",
    "MergeConflictError": "abs_descriptions.bundles.conflicts",
    "OnnxEncoder": "abs_descriptions.filtering.onnx_encoder",
    "Parameters": "abs_descriptions.generation.providers.base",
    "Prices": "abs_descriptions.generation.cost",
    "Provenance": "abs_core.descriptions",
    "ProviderOptions": "abs_descriptions.generation.providers.registry",
    "Rejection": "abs_core.descriptions",
    "Remotes": "abs_descriptions.bundles.remotes",
    "Repository": "abs_descriptions.bundles.repository",
    "ReviewFile": "abs_descriptions.bundles.review",
    "RewriteOutput": "abs_descriptions.rewriting.pipeline",
    "RewritePlan": "abs_descriptions.rewriting.candidates",
    "SentenceEncoder": "abs_descriptions.filtering.encoders",
    "SentenceFilter": "abs_descriptions.filtering.bundle_filters",
    "Settling": "abs_descriptions.bundles.merge",
    "TextCriteria": "abs_descriptions.filtering.criteria",
    "TextFilter": "abs_descriptions.filtering.bundle_filters",
    "add_edited": "abs_descriptions.bundles.edited",
    "add_merged": "abs_descriptions.bundles.merge",
    "add_reviewed": "abs_descriptions.bundles.review",
    "build_provider": "abs_descriptions.generation.providers.registry",
    "collect_garbage": "abs_descriptions.bundles.maintenance",
    "copy_bundles": "abs_descriptions.bundles.sharing",
    "diff_bundles": "abs_descriptions.bundles.diff",
    "estimate_cost": "abs_descriptions.generation.pipeline",
    "estimate_rewrite": "abs_descriptions.rewriting.pipeline",
    "export_bundle": "abs_descriptions.bundles.exporting",
    "filter_bundle": "abs_descriptions.filtering.bundle_filters",
    "filter_by_weight": "abs_descriptions.filtering.bundle_filters",
    "find_bundle": "abs_descriptions.bundles.versions",
    "generate": "abs_descriptions.generation.pipeline",
    "import_bundles": "abs_descriptions.bundles.importing",
    "import_descriptions": "abs_descriptions.bundles.importing",
    "lint_bundle": "abs_descriptions.linting",
    "lint_labels": "abs_descriptions.linting",
    "list_versions": "abs_descriptions.bundles.history",
    "merge_bundles": "abs_descriptions.bundles.merge",
    "open_encoder": "abs_descriptions.filtering.encoder_choice",
    "read_bundle": "abs_descriptions.bundles.reader",
    "read_history": "abs_descriptions.bundles.history",
    "read_labels": "abs_core.labels",
    "read_signers": "abs_descriptions.bundles.signers",
    "sign_bundle": "abs_descriptions.bundles.signatures",
    "verify_bundle": "abs_descriptions.bundles.signatures",
    "rewrite_bundle": "abs_descriptions.rewriting.pipeline",
    "verify_repository": "abs_descriptions.bundles.maintenance",
    "write_bundle": "abs_descriptions.bundles.writer",
    "write_edit_file": "abs_descriptions.bundles.edited",
    "write_review": "abs_descriptions.bundles.review",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
