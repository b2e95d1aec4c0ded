"""One spelling for every value that is hashed or stored: canonical JSON and its sha256."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from typing import Any

__all__ = ["canonical_json", "digest", "sha256_bytes"]


def canonical_json(value: Any) -> str:
    """The canonical JSON text of a value: sorted keys, no spaces, NFC strings, no NaN or infinity.

    Args:
        value: what ``json`` can write; keys must be strings.

    Raises:
        ValueError: for NaN and infinity, and for keys that become equal after NFC.
        TypeError: for what JSON cannot express.
    """
    return json.dumps(_nfc(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """``sha256:`` and the hex digest of the canonical JSON of ``value`` in UTF-8."""
    return sha256_bytes(canonical_json(value).encode("utf-8"))


def sha256_bytes(data: bytes) -> str:
    """``sha256:`` and the hex digest of ``data``."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _nfc(value: Any) -> Any:
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, dict):
        out: dict[str, Any] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"a key of canonical JSON is a string, not {type(key).__name__}: {key!r}")
            name = unicodedata.normalize("NFC", key)
            if name in out:
                raise ValueError(f"two keys are equal after Unicode normalisation: {key!r}")
            out[name] = _nfc(item)
        return out
    if isinstance(value, (list, tuple)):
        return [_nfc(item) for item in value]
    return value
