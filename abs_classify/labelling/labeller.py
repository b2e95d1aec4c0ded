"""From the views of images to labels and confidences: what one model, one set of classes and one method say."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from abs_classify.encoding.samples import IdentifiedSample, UnreadableSample
from abs_core.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from abs_classify.classifier import Classifier
    from abs_classify.encoding.ranking import ScoredShard

__all__ = ["Labeller", "ScoredEntries"]
