"""Short names of models for tables, reports and file names; the digest says the rest. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from abs_classify.models.store import RECORD_FILE, read_record
from abs_core.errors import WeightsError

__all__ = ["short_name", "short_names"]

# of a file's or folder's name that is shown
_LONGEST = 60


def short_name(name: str) -> str:
    """A name without the path in it: of an imported model the model's own, else the last part of the path.

    ``ViT-B-16/openai@/home/you/.abs/models/ViT-B-16--openai/model.safetensors`` is ``ViT-B-16/openai``, and
    ``local-dir:/data/runs/7/best`` is ``local-dir:best``.
    """
    return _shortened(name, 1)


def short_names(names: Iterable[str]) -> dict[str, str]:
    """The short name of each; where several would be the same, with as much of their paths as tells them apart."""
    short = {name: short_name(name) for name in names}
    parts = 2
    while len(set(short.values())) < len(short) and parts < max(name.count("/") for name in short) + 3:
        shared = {label for label in short.values() if list(short.values()).count(label) > 1}
        short |= {name: _shortened(name, parts) for name, label in short.items() if label in shared}
        parts += 1
    return short


def _shortened(name: str, parts: int) -> str:
    head, sign, file = name.partition("@")
    if sign and file:
        path = Path(file)
        return head if parts == 1 and _recorded_name(path.parent) == head else f"{head}@{_end(path, parts)}"
    kind, colon, place = name.partition(":")
    if kind == "local-dir" or (kind == "dino" and "/" in place):
        path = Path(place)
        return (_recorded_name(path) if parts == 1 else "") or f"{kind}{colon}{_end(path, parts)}"
    return name


def _end(path: Path, parts: int) -> str:
    """The last parts of a path; a long one is cut in its middle."""
    text = "/".join(path.parts[-parts:])
    return text if len(text) <= _LONGEST else f"{text[:29]}…{text[-30:]}"


def _recorded_name(folder: Path) -> str:
    """What a folder's own record names the model in it; empty if there is none."""
    path = folder / RECORD_FILE
    try:
        return read_record(path).name if path.is_file() else ""
    except (WeightsError, OSError, ValueError):
        return ""
