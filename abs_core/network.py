"""What the environment says of proxies and certificates, checked before it is used, and what a broken connection means.

    proxy_for(url)                  the proxy that the environment names for an address
    tls_context()                   the certificates of SSL_CERT_FILE or SSL_CERT_DIR
    explain_connection(error, ...)  the cause of a failed connection and the remedy, on one line

No message contains the address of a proxy, which may hold a password.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from socket import gaierror
from urllib.parse import urlsplit

from abs_core.errors import UsageError
from abs_core.text import printable

__all__ = ["EnvironmentProxy", "explain_connection", "is_loopback", "proxy_for", "tls_context"]

_SCHEMES = ("http", "https", "socks5", "socks5h")
# What other programs take for SOCKS, of which version 5 with names resolved by the proxy does the same.
_SOCKS_ALIASES = {"socks": "socks5h", "socks4": "", "socks4a": ""}


@dataclass(frozen=True, slots=True)
class EnvironmentProxy:
    """A proxy.

    Args:
        url: its address, which may contain a password.
        variable: the environment variable that names it.
    """

    url: str
    variable: str

    @property
    def is_socks(self) -> bool:
        """Whether it speaks SOCKS and not HTTP."""
        return self.url.startswith("socks")


def is_loopback(url: str) -> bool:
    """Whether an address names this machine, by a name or by a number."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified


def proxy_for(url: str, environment: Mapping[str, str] | None = None) -> EnvironmentProxy | None:
    """The proxy that the environment names for an address; None for this machine and what ``NO_PROXY`` excepts.

    The variables are ``https_proxy`` or ``http_proxy``, by the scheme of the address, then ``all_proxy``; in lower
    case, then in capitals. An empty one names none. ``NO_PROXY`` lists names, which except their subdomains as well,
    ``*``, addresses, networks such as ``10.0.0.0/8``, each with or without a port.

    Args:
        url: an http or https address.
        environment: by default that of the process.

    Raises:
        UsageError: the variable holds no address of a proxy.
    """
    environment = os.environ if environment is None else environment
    parts = urlsplit(url)
    if is_loopback(url) or _is_excepted(parts.hostname or "", parts.port or _port(parts.scheme), environment):
        return None
    for name in (f"{parts.scheme}_proxy", "all_proxy"):
        for variable in (name, name.upper()):
            # a server that runs as a CGI program gets HTTP_PROXY from the headers of its clients
            if variable == "HTTP_PROXY" and "REQUEST_METHOD" in environment:
                continue
            value = environment.get(variable, "").strip()
            if value:
                return EnvironmentProxy(_validated_proxy(value, variable), variable)
            if variable in environment:
                return None
    return None


def tls_context(environment: Mapping[str, str] | None = None) -> ssl.SSLContext | None:
    """Trusts the certificates of ``SSL_CERT_FILE``, else of ``SSL_CERT_DIR``; None where neither variable is set.

    Raises:
        UsageError: the variable names no such file or folder, or a file without certificates.
    """
    environment = os.environ if environment is None else environment
    file, folders = environment.get("SSL_CERT_FILE", ""), environment.get("SSL_CERT_DIR", "")
    variable, value = ("SSL_CERT_FILE", file) if file else ("SSL_CERT_DIR", folders)
    if not value:
        return None
    shown = f"{variable} names {printable(value, 200)!r}"
    remedy = f"Correct the environment variable {variable}, or unset it"
    try:
        is_there = Path(file).is_file() if file else any(Path(path).is_dir() for path in folders.split(os.pathsep))
        if not is_there:
            raise UsageError(f"{shown}, which is not a {'file' if file else 'folder'}", remedy=remedy)
        return ssl.create_default_context(cafile=file or None, capath=None if file else folders)
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        said = getattr(error, "reason", None) or getattr(error, "strerror", None) or "it cannot be read"
        raise UsageError(f"{shown}, which holds no usable certificates ({said})", remedy=remedy) from None


def explain_connection(error: BaseException, host: str, *, proxy: EnvironmentProxy | None = None) -> tuple[str, str]:
    """The reason and the remedy of a connection that failed.

    Args:
        error: with its causes.
        host: the server, for messages.
        proxy: in between.
    """
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            return _explain_tls(cause, host)
    through = f"the proxy of {proxy.variable}" if proxy is not None else host
    check = f"Correct {proxy.variable}, or unset it" if proxy is not None else "Check the base URL"
    if any("Proxy" in type(cause).__name__ for cause in causes):
        said = printable(" ".join(str(error).split()), 80)
        return f"{through} does not let the connection to {host} pass ({said})", check
    if any(isinstance(cause, gaierror) for cause in causes):
        return f"the name of {through} cannot be resolved" if proxy else f"the name {host} cannot be resolved", check
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        start = check if proxy is not None else "Start the server, or check the base URL"
        return f"{through} cannot be reached: it refuses the connection", start
    if any(isinstance(cause, TimeoutError) or "Timeout" in type(cause).__name__ for cause in causes):
        return f"{through} cannot be reached: it does not answer", check
    start = check if proxy is not None else "Start the server, or check the base URL"
    return f"{through} cannot be reached", start


def _explain_tls(error: ssl.SSLError, host: str) -> tuple[str, str]:
    if isinstance(error, ssl.SSLCertVerificationError):
        why = printable(str(error.verify_message), 120).rstrip(".")
        if "ostname mismatch" in why or "IP address mismatch" in why:
            return f"the certificate of {host} is for another host ({why})", "Check the base URL"
        if "expired" in why or "not yet valid" in why:
            return f"the certificate of {host} is not valid ({why})", "Check the date of this machine and of the server"
        return (
            f"the certificate of {host} is not trusted ({why})",
            "Set SSL_CERT_FILE to a file with the certificate of the authority that signed it",
        )
    reason = str(error.reason or "").replace("_", " ").lower() or type(error).__name__
    if any(
        words in reason for words in ("wrong version number", "http request", "record layer failure", "packet length")
    ):
        return f"{host} does not speak TLS", "Write http:// if it is not encrypted, or check the port"
    return f"the encrypted connection to {host} failed ({reason})", "Check the base URL and the date of this machine"


def _validated_proxy(value: str, variable: str) -> str:
    remedy = f"Write {variable} like http://host:port, or unset it"
    url = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(url)
        is_address = bool(parts.hostname) and parts.port != 0 and not set(url) & set(" \t\r\n<>\\^`{|}")
    except ValueError:
        is_address = False
    if not is_address:
        raise UsageError(f"the environment variable {variable} holds no address of a proxy", remedy=remedy)
    scheme = parts.scheme.lower()
    scheme = _SOCKS_ALIASES.get(scheme, scheme)
    if scheme not in _SCHEMES:
        shown = printable(parts.scheme, 20)
        raise UsageError(f"{variable} names a proxy of the kind {shown!r}, which is not supported", remedy=remedy)
    return scheme + url[len(parts.scheme) :]


def _is_excepted(host: str, port: int, environment: Mapping[str, str]) -> bool:
    value = environment.get("no_proxy", environment.get("NO_PROXY", ""))
    host = host.rstrip(".").lower()
    return any(_covers(entry.strip().lower(), host, port) for entry in value.replace(" ", ",").split(",") if entry)


def _covers(entry: str, host: str, port: int) -> bool:
    entry = entry.partition("://")[2] or entry
    if entry == "*":
        return True
    try:
        network = ipaddress.ip_network(entry.strip("[]"), strict=False)
        return ipaddress.ip_address(host) in network
    except ValueError:
        pass
    name, colon, number = entry.rpartition(":")
    if colon and number.isdigit():
        if int(number[:6]) != port:
            return False
        entry = name
    entry = entry.strip("[]").removeprefix("*").strip(".")
    return bool(entry) and (host == entry or host.endswith(f".{entry}"))


def _port(scheme: str) -> int:
    return 443 if scheme == "https" else 80


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(20):
        if error is None:
            return
        yield error
        if isinstance(error, BaseExceptionGroup):
            yield from error.exceptions
        error = error.__cause__ or error.__context__
