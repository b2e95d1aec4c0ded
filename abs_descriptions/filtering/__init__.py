"""Which descriptions of a bundle to keep: decisions on sentence embeddings, and the child version that records them.

    encoder = SentenceEncoder()                       # offline; any other by name or folder
    filtered = filter_records(bundle, encoder, Criteria(keep=20))
    write_child(path, bundle, filtered, name="birds", version="1.1.0", created="2025-01-31T12:00:00Z")

``decisions`` is pure: numpy and nothing else. docs/filtering.md states the criteria in formulas.
"""

from __future__ import annotations

from abs_descriptions.filtering.children import Filtered, Removed, filter_generator, write_child
from abs_descriptions.filtering.decisions import Criteria, Decision, Decisions, decide, heaviest
from abs_descriptions.filtering.encoders import EMBEDDED_ENCODER, Encoder, SentenceEncoder
from abs_descriptions.filtering.records import encoded_texts, filter_by_weight, filter_records

__all__ = [
    "EMBEDDED_ENCODER",
    "Criteria",
    "Decision",
    "Decisions",
    "Encoder",
    "Filtered",
    "Removed",
    "SentenceEncoder",
    "decide",
    "encoded_texts",
    "filter_by_weight",
    "filter_generator",
    "filter_records",
    "heaviest",
    "write_child",
]
