"""A command line that can be kept: what looks like a credential is written as stars. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["redacted"]

_STARS = "***"
_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,20}://)[^/\s@]+@")
_WORDS = r"[\w.-]*(?:token|secret|password|passwd|api[_-]?key|signature|credential|access[_-]?key)[\w.-]*"
_QUERY = re.compile(rf"([?&;]({_WORDS}|sig|key|auth)=)[^&;\s]+", re.IGNORECASE)
_OPTION = re.compile(rf"--{_WORDS}", re.IGNORECASE)
_KNOWN = re.compile(r"\b(?:hf_|sk-|ghp_|AKIA)[A-Za-z0-9_-]{12,}")


def redacted(arguments: Sequence[str]) -> list[str]:
    """The arguments without user names and passwords in addresses, without keys in queries or options."""
    shown: list[str] = []
    hide_next = False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if hide_next:
            shown.append(_STARS)
            hide_next = False
        elif _OPTION.fullmatch(name):
            shown.append(name + equals + (_STARS if equals else ""))
            hide_next = not equals
        else:
            plain = _QUERY.sub(rf"\g<1>{_STARS}", _USER.sub(rf"\g<1>{_STARS}@", argument))
            shown.append(_KNOWN.sub(_STARS, plain))
    return shown
