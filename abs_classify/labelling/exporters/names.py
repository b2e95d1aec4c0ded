"""Names of files and folders that every system can hold, whatever the images and classes are called."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable

from abs_core.text import hidden_characters

__all__ = ["UniqueNames", "safe_folders", "safe_name"]

# what Windows does not allow in names, and the separators of all systems
_FORBIDDEN = frozenset('<>:"/\\|?*')
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$) *(?:\..*)?", re.IGNORECASE)

# Bytes of a name. 255 is the limit of most file systems; a number may be added, and encryption takes some.
_MAX_BYTES = 120

# bits: a million names take less than one in a hundred of them
_BITS = 1 << 27


def safe_name(text: str) -> str:
    """A name for a file or folder that is nearest to a text and can be used everywhere.

    It has no separator, nothing that Windows forbids, no control or hidden character, no dot in front (no system hides
    it), is no reserved name and not too long.
    """
    text = unicodedata.normalize("NFC", text)
    replaced = _FORBIDDEN.union(hidden_characters(text))
    text = "".join("_" if char in replaced else char for char in text).strip().rstrip(". ")
    if text.startswith("."):
        text = "_" + text[1:]
    stem, dot, suffix = text.rpartition(".")
    if not dot or len(suffix) > 10:
        stem, dot, suffix = text, "", ""
    room = _MAX_BYTES - len((dot + suffix).encode())
    if len(stem.encode()) > room:
        stem = stem.encode()[:room].decode(errors="ignore").rstrip(". ")
    text = stem + dot + suffix
    return f"_{text}" if not text or _RESERVED.fullmatch(text) else text


def safe_folders(names: Iterable[str]) -> list[str]:
    """A folder name for each of these, no two of which are the same on a system that does not tell A from a."""
    folders: list[str] = []
    taken = set[str]()
    for name in names:
        base = folder = safe_name(name)
        number = 1
        while folder.casefold() in taken:
            number += 1
            folder = f"{base} ({number})"
        taken.add(folder.casefold())
        folders.append(folder)
    return folders


class UniqueNames:
    """Gives every file a name of its own, also where A and a are the same; memory does not grow with their number.

    Which names are taken is remembered as bits, so a name is now and then held to be taken although it is not.
    """

    def __init__(self) -> None:
        self._bits = bytearray(_BITS // 8)

    def claim(self, name: str, number: int) -> str:
        """The name, or with a number before its ending if it is taken.

        Args:
            name: a relative path.
            number: of the image, no two of which have the same one.
        """
        stem, dot, suffix = name.rpartition(".")
        if not stem or "/" in suffix:
            stem, dot, suffix = name, "", ""
        extra = ""
        while not self._take(name):
            extra += f"-{number}"
            name = f"{stem}{extra}{dot}{suffix}"
        return name

    def _take(self, name: str) -> bool:
        key = hashlib.blake2b(unicodedata.normalize("NFC", name).casefold().encode(), digest_size=8).digest()
        place, bit = divmod(int.from_bytes(key) % _BITS, 8)
        is_free = not self._bits[place] >> bit & 1
        self._bits[place] |= 1 << bit
        return is_free
