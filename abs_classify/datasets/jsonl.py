"""Lines of JSON, each an image and its label: ``jsonl:FILE``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from abs_classify.datasets.base import Dataset
from abs_classify.datasets.manifest import Row, collect
from abs_core.errors import DatasetError

__all__ = ["open_jsonl"]

_MAX_LINE = 1 << 20
# what json.loads does for a text is this call and several checks, half of its time on a short line
_decode = json.JSONDecoder().decode
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


def _rows(file: Path) -> Iterator[Row]:
    try:
        with file.open(encoding="utf-8-sig") as stream:
            line = 0
            while text := stream.readline(_MAX_LINE):
                line += 1
                if len(text) == _MAX_LINE:
                    raise _fault(file, line, "is longer than 1 MB", "Split the list, one image a line")
                if not text.isspace():
                    yield _row(text, file, line)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DatasetError(f"cannot read the list {str(file)!r}: {reason}", remedy="Check the path") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"the list {str(file)!r} is not UTF-8", remedy="Save it as UTF-8") from error


def _row(text: str, file: Path, line: int) -> Row:
    try:
        content = _decode(text)
    except (ValueError, RecursionError) as error:
        raise _fault(file, line, "is no JSON", _EXAMPLE) from error
    values = content if isinstance(content, dict) else {}
    path, label, name = values.get("path"), values.get("label"), values.get("id")
    if not (isinstance(path, str) and isinstance(label, str)):
        raise _fault(file, line, "is no object with the texts 'path' and 'label'", _EXAMPLE)
    return Row(line, path, label, name if isinstance(name, str) else "")


def _fault(file: Path, line: int, what: str, remedy: str) -> DatasetError:
    return DatasetError(f"line {line} of {str(file)!r} {what}", remedy=remedy)
