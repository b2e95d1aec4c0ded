"""What HTML pages share: data that cannot leave its element, hashes for the security policy, text shown by scripts."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import Any

from abs_core.text import json_text

__all__ = ["embedded_json", "inline_hash", "page_text_script", "virtual_grid_script"]


def embedded_json(value: Any) -> str:
    """JSON for a ``<script type="application/json">``: nothing in it can end the element or begin a comment."""
    return json_text(value).replace("<", "\\u003c")


def inline_hash(text: str) -> str:
    """The hash source, without its quotes, by which a content security policy allows an inline style or script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def page_text_script() -> str:
    """The script with ``printable`` and ``folded``, which others of a page need."""
    return _shipped("page_text.js")


def virtual_grid_script() -> str:
    """The script with ``VirtualGrid``, which shows any number of cells by those in sight."""
    return _shipped("virtual_grid.js")


def _shipped(name: str) -> str:
    return files("abs_core").joinpath(name).read_text(encoding="utf-8")
