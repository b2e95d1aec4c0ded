"""Write, clean, filter, store and share class descriptions. Knows nothing of images.

    from abs_descriptions import Repository, read_bundle, write_bundle

The public names are imported when they are first used, so that `import abs_descriptions` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from abs_core.descriptions import Description, LabelSpace, Provenance, Rejection
    from abs_core.labels import ClassLabel, LabelSet, read_labels
    from abs_descriptions.bundles.diff import diff_bundles
    from abs_descriptions.bundles.exchange import export_bundle
    from abs_descriptions.bundles.format import BundleHeader, Generator
    from abs_descriptions.bundles.importing import import_bundles, import_descriptions
    from abs_descriptions.bundles.lookup import find_bundle
    from abs_descriptions.bundles.merge import add_merged, merge_bundles
    from abs_descriptions.bundles.reader import Bundle, read_bundle
    from abs_descriptions.bundles.repository import Repository
    from abs_descriptions.bundles.review import add_reviewed, write_review
    from abs_descriptions.bundles.sharing import copy_bundles
    from abs_descriptions.bundles.writer import write_bundle

__all__ = [
    "Bundle",
    "BundleHeader",
    "ClassLabel",
    "Description",
    "Generator",
    "LabelSet",
    "LabelSpace",
    "Provenance",
    "Rejection",
    "Repository",
    "add_merged",
    "add_reviewed",
    "copy_bundles",
    "diff_bundles",
    "export_bundle",
    "find_bundle",
    "import_bundles",
    "import_descriptions",
    "merge_bundles",
    "read_bundle",
    "read_labels",
    "write_bundle",
    "write_review",
]


_MODULES = {
    "Bundle": "abs_descriptions.bundles.reader",
    "BundleHeader": "abs_descriptions.bundles.format",
    "ClassLabel": "abs_core.labels",
    "Description": "abs_core.descriptions",
    "Generator": "abs_descriptions.bundles.format",
    "LabelSet": "abs_core.labels",
    "LabelSpace": "abs_core.descriptions",
    "Provenance": "abs_core.descriptions",
    "Rejection": "abs_core.descriptions",
    "Repository": "abs_descriptions.bundles.repository",
    "add_merged": "abs_descriptions.bundles.merge",
    "add_reviewed": "abs_descriptions.bundles.review",
    "copy_bundles": "abs_descriptions.bundles.sharing",
    "diff_bundles": "abs_descriptions.bundles.diff",
    "export_bundle": "abs_descriptions.bundles.exchange",
    "find_bundle": "abs_descriptions.bundles.lookup",
    "import_bundles": "abs_descriptions.bundles.importing",
    "import_descriptions": "abs_descriptions.bundles.importing",
    "merge_bundles": "abs_descriptions.bundles.merge",
    "read_bundle": "abs_descriptions.bundles.reader",
    "read_labels": "abs_core.labels",
    "write_bundle": "abs_descriptions.bundles.writer",
    "write_review": "abs_descriptions.bundles.review",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
