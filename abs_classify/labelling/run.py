"""Label images from anywhere, as many as there are: rows as they are made, kept in a folder, and never made twice.

from abs_classify import label

run = label("photos", {"cat": ["A cat has whiskers."], "dog": ["A dog wags its tail."]}, out="labelled")
for row in run:
    print(row.path, run.names[row.label] if row.label is not None else row.reason, row.confidence)
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abs_classify.encoding.samples import IdentifiedSample, UnreadableSample, identify
from abs_classify.encoding.stages import SHARD
from abs_classify.labelling.label_folder import LabelFolder
from abs_classify.labelling.prefetch import prefetched
from abs_classify.labelling.rows import LabelRow, Status, table_cells, table_names
from abs_core.errors import AbsError, DatasetError, ImageError, UsageError
from abs_core.progress import Advance, Progress, no_progress
from abs_core.remarks import Remark
from abs_core.text import valid_unicode

# images whose rows are looked up in one step, and rows that are stored in one
_LOOK_UP, _STORE = 512, 512

# seconds after which rows are stored, however few they are
_STORE_INTERVAL = 1.0
