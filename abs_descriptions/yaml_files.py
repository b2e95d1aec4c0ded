"""Small YAML files from outside, read safely: no objects, no aliases, a bounded size. JSON is YAML too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from abs_core.errors import AbsError
from abs_core.files import storage_errors
from abs_core.printable import printable

__all__ = ["read_yaml"]

_MAX_BYTES = 1024 * 1024


def read_yaml(path: Path, what: str, error: type[AbsError]) -> Any:
    """The value in a YAML file: dicts, lists, strings, numbers, dates, None.

    Args:
        path: at most a megabyte.
        what: how a message calls the file, with its path: "the prompt file 'p.yaml'".
        error: the class to raise; it takes a message and a ``remedy``.

    Raises:
        AbsError: of the given class: no YAML, no UTF-8, aliases, or too large; names the line where there is one.
        StorageError: the file cannot be read.
    """
    with storage_errors(path, "read"), path.open("rb") as stream:
        data = stream.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise error(f"{what} is over {_MAX_BYTES} bytes", remedy="Name a smaller YAML file")
    try:
        text = data.decode("utf-8-sig")
        # Anchors can make a small file huge.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise error(f"{what} uses YAML aliases", remedy="Write the text out")
        return yaml.safe_load(text)
    except UnicodeDecodeError as fault:
        line = data[: fault.start].count(b"\n") + 1
        raise error(f"{what} line {line}: this is not UTF-8", remedy="Save the file as UTF-8") from None
    except (yaml.YAMLError, RecursionError, ValueError) as fault:
        mark = getattr(fault, "problem_mark", None)
        place = f" line {mark.line + 1}" if mark is not None else ""
        problem = printable(str(getattr(fault, "problem", None) or "it cannot be read"), 100)
        raise error(f"{what}{place}: this is not YAML: {problem}", remedy="Correct that line") from None
