"""A labelled folder opened again: its model, classes and method, and what is known of its images."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

from abs_classify.encoding.samples import IdentifiedSample, batched
from abs_classify.encoding.stages import SHARD
from abs_classify.labelling.identity import identity_of, read_label_space, refuse_differences
from abs_classify.labelling.rows import LabelRow

if TYPE_CHECKING:
    from abs_classify.classifier import Classifier
    from abs_classify.encoding.feature_store import DiskStore
    from abs_classify.labelling.label_folder import LabelFolder
    from abs_classify.labelling.labeller import Evidence, Labeller
    from abs_classify.models.deferred import DeferredModel

__all__ = ["evidence_of_rows", "reopen_labeller"]
