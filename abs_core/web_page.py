"""What a page needs that is one HTML file: data that cannot leave its element, and hashes for its security policy."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from abs_core.text import json_text

__all__ = ["embedded_json", "inline_hash"]


def embedded_json(value: Any) -> str:
    """JSON for a ``<script type="application/json">``: nothing in it can end the element or begin a comment."""
    return json_text(value).replace("<", "\\u003c")


def inline_hash(text: str) -> str:
    """The hash source, without its quotes, by which a content security policy allows an inline style or script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
