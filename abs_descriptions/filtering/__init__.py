"""Which descriptions of a bundle to keep: decisions on sentence embeddings, and the child version that records them.

    encoder = SentenceEncoder()                       # offline; any other by name or folder
    filtered = filter_records(bundle, encoder, Criteria(keep=20))
    write_child(path, bundle, filtered, name="birds", version="1.1.0", created="2025-01-31T12:00:00Z")

``decisions`` is pure: numpy and nothing else. docs/filtering.md states the criteria in formulas.
"""

from __future__ import annotations

from abs_descriptions.filtering.child_version import (
    FilteredBundle,
    RemovedDescription,
    encoded_texts,
    filter_by_weight,
    filter_generator,
    filter_records,
    write_child,
)
from abs_descriptions.filtering.criteria import Criteria, Decision, Decisions, decide, top_by_weight
from abs_descriptions.filtering.encoders import EMBEDDED_ENCODER, Encoder, SentenceEncoder

__all__ = [
    "EMBEDDED_ENCODER",
    "Criteria",
    "Decision",
    "Decisions",
    "Encoder",
    "FilteredBundle",
    "RemovedDescription",
    "SentenceEncoder",
    "decide",
    "encoded_texts",
    "filter_by_weight",
    "filter_generator",
    "filter_records",
    "top_by_weight",
    "write_child",
]
