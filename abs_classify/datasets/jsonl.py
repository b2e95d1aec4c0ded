"""Lines of JSON, each an image and its label: ``jsonl:FILE``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from abs_classify.datasets.base import Dataset, class_id
from abs_classify.datasets.manifest import collect
from abs_core.errors import DatasetError

__all__ = ["open_jsonl"]

_MAX_LINE = 1 << 20
_EXAMPLE = 'Write {"path": "photos/a.jpg", "label": "cat"} on each line'


def open_jsonl(location: str) -> Dataset:
    """The images that a JSON Lines file lists, in its order.

    Each line is an object with the texts ``path`` and ``label``; other keys are free, but an ``id`` must not come
    twice. UTF-8, with or without a byte order mark; empty lines are left out. A relative path starts at the folder of
    the file. A path that is listed again with the same label counts once.

    Args:
        location: the file.

    Raises:
        DatasetError: the file cannot be read, a line is no such object or longer than 1 MB, two lines have one id, a
            path has two labels, or a file is not there. The message names file and line.
    """
    file = Path(location)
    return collect(f"jsonl:{location}", file, _rows(file))


def _rows(file: Path) -> Iterator[tuple[int, str, str]]:
    ids: dict[str, int] = {}
    try:
        with file.open(encoding="utf-8-sig") as stream:
            line = 0
            while text := stream.readline(_MAX_LINE):
                line += 1
                place = f"line {line} of {str(file)!r}"
                if len(text) == _MAX_LINE:
                    raise DatasetError(f"{place} is longer than 1 MB", remedy="Split the list, one image a line")
                if not text.strip():
                    continue
                row = _object(text, place)
                known = ids.setdefault(row["id"], line) if isinstance(row.get("id"), str) else line
                if known != line:
                    raise DatasetError(
                        f"{place} has the id {row['id']!r} of line {known}", remedy="Give each image an id of its own"
                    )
                yield line, row["path"], class_id(row["label"], place)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DatasetError(f"cannot read the list {str(file)!r}: {reason}", remedy="Check the path") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"the list {str(file)!r} is not UTF-8", remedy="Save it as UTF-8") from error


def _object(text: str, place: str) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{place} is no JSON", remedy=_EXAMPLE) from error
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("path", "label")):
        raise DatasetError(f"{place} is no object with the texts 'path' and 'label'", remedy=_EXAMPLE)
    if not row["path"].strip() or "\0" in row["path"]:
        raise DatasetError(f"{place} has no path", remedy="Name the image's file")
    return row
