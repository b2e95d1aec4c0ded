"""The tables of a folder, in step with its rows: appended to while a run goes on, made anew where rows changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abs_classify.labelling.label_folder import LabelFolder, RowQuery
from abs_classify.labelling.rows import LabelRow

if TYPE_CHECKING:
    from abs_classify.labelling.tables import TableWriter

__all__ = ["TableFiles"]
