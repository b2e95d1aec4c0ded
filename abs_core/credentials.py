"""Credentials for web servers, each for one host: from a variable that names the host, or from a netrc file.

    ABS_TOKEN_bundles_example_org=...      a token for bundles.example.org; "-" becomes "__", ":" before a port "_"
    ~/.netrc, or the file that NETRC names  a login and a password for each machine

They are read when they are needed and kept nowhere. No message repeats them, and none of a parser, which may.
"""

from __future__ import annotations

import base64
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from abs_core.errors import UsageError
from abs_core.network import is_loopback

__all__ = ["Authorization", "authorization_for", "token_variable"]

_logger = logging.getLogger(__name__)

_PREFIX = "ABS_TOKEN_"
_MAX_NETRC = 1024 * 1024

# RFC 9110, 11.4: a scheme that the user may name, and what may follow it
_VALUE = re.compile(r"(?:(Bearer|Basic) )?([!-~]{1,8192})", re.IGNORECASE)


@dataclass(frozen=True)
class Authorization:
    """What a request says of who sends it.

    Args:
        header: the value of the header ``Authorization``: a secret.
        source: the variable or the file that it comes from, for messages.
    """

    header: str = field(repr=False)
    source: str


def token_variable(url: str) -> str:
    """The variable that may hold a token for the host of an address, with its port where it is not the usual one."""
    parts = urlsplit(url)
    return _variable(f"{_host(url)}:{parts.port}") if parts.port is not None else _variable(_host(url))


def authorization_for(url: str, environment: Mapping[str, str] | None = None) -> Authorization | None:
    """The credentials for the host of an address: the token of its variable, else what netrc has for it.

    A variable without a port counts for every port, as netrc does; its letters may have either case. An entry
    ``default`` of netrc is for any host, and so for none. Nothing is sent without encryption to another machine.

    Args:
        url: an http or https address.
        environment: by default that of the process.

    Raises:
        UsageError: a variable that holds no token, or a ``NETRC`` that names no such file.
    """
    environment = os.environ if environment is None else environment
    found = _from_variable(url, environment) or _from_netrc(_host(url), environment)
    if found is not None and urlsplit(url).scheme != "https" and not is_loopback(url):
        _logger.warning("http: is not encrypted, so the credentials of %s are not sent; write https:", found.source)
        return None
    return found


def _host(url: str) -> str:
    return (urlsplit(url).hostname or "").rstrip(".")


def _variable(host: str) -> str:
    return _PREFIX + re.sub(r"[^A-Za-z0-9_]", "_", host.replace("-", "__"))


def _from_variable(url: str, environment: Mapping[str, str]) -> Authorization | None:
    wanted = [token_variable(url), _variable(_host(url))]
    names = {name.lower(): name for name in environment if name.upper().startswith(_PREFIX)}
    name = next((names[variable.lower()] for variable in wanted if variable.lower() in names), None)
    value = environment[name].strip() if name is not None else ""
    if name is None or not value:
        return None
    match = _VALUE.fullmatch(value)
    if match is None:
        raise UsageError(f"the variable {name} holds no token", remedy="Set it to one line without spaces, or unset it")
    return Authorization(f"{(match[1] or 'Bearer').capitalize()} {match[2]}", name)


def _from_netrc(host: str, environment: Mapping[str, str]) -> Authorization | None:
    import netrc  # few commands need it

    given = environment.get("NETRC", "")
    names = [given] if given else ["~/.netrc", "~/_netrc"]  # the second as Windows has it
    try:
        path = next((path for path in (Path(name).expanduser() for name in names) if path.is_file()), None)
    except RuntimeError:  # a user without a home folder
        return None
    if path is None:
        if given and given != os.devnull:  # which is how one says: no netrc
            raise UsageError("NETRC names no file", remedy="Correct it, or unset it")
        return None
    try:
        if path.stat().st_size > _MAX_NETRC:
            raise ValueError("too large")
        login, _, password = netrc.netrc(path).hosts.get(host, ("", "", "")) if host != "default" else ("", "", "")
    except (OSError, ValueError, netrc.NetrcParseError) as error:
        line = getattr(error, "lineno", None)
        _logger.warning("%s cannot be read%s, so it has no credentials", path, f", line {line}" if line else "")
        return None
    if not password:
        return None
    secret = base64.b64encode(f"{login}:{password}".encode()).decode("ascii")
    return Authorization(f"Basic {secret}", str(path))
