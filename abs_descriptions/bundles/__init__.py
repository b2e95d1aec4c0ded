"""Description bundles: the versioned format in which class descriptions are kept, shared and checked.

    read_header(path)         line 1 alone
    iter_records(path)        the records, as a stream
    load_descriptions(path)   class id -> records
    read_bundle(path)         every rule is checked; a bundle with its pinned reference
    write_bundle(path, ...)   records in any order -> one exact sequence of bytes

A bundle is a ``.jsonl`` file that never changes: a change is a new version whose header names its parent. Rejected
completions lie beside it. docs/bundle-format.md is normative.
"""

from __future__ import annotations

from abs_core.descriptions import Description, Provenance, Rejection
from abs_descriptions.bundles.format import (
    BundleHeader,
    ClassEntry,
    Counts,
    Generator,
    LabelSetEntry,
    PromptSetEntry,
    text_problem,
)
from abs_descriptions.bundles.reader import (
    Bundle,
    iter_records,
    iter_rejected,
    load_descriptions,
    read_bundle,
    read_header,
    rejected_path,
)
from abs_descriptions.bundles.references import Reference, Version, parse_reference, parse_version
from abs_descriptions.bundles.writer import write_bundle

__all__ = [
    "Bundle",
    "BundleHeader",
    "ClassEntry",
    "Counts",
    "Description",
    "Generator",
    "LabelSetEntry",
    "PromptSetEntry",
    "Provenance",
    "Reference",
    "Rejection",
    "Version",
    "iter_records",
    "iter_rejected",
    "load_descriptions",
    "parse_reference",
    "parse_version",
    "read_bundle",
    "read_header",
    "rejected_path",
    "text_problem",
    "write_bundle",
]
