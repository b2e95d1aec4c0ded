"""Proxies and certificates of the environment, and what a failed connection means."""

from __future__ import annotations

import ssl
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from socket import gaierror

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abs_core.errors import UsageError
from abs_core.network import EnvironmentProxy, explain_connection, is_loopback, proxy_for, tls_context

URL = "https://api.example.com/v1"
PROXY = "http://proxy:3128"


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8000/v1", "http://localhost/", "http://LOCALHOST.:1", "https://[::1]:8000/v1", "http://127.8.9.1",
     "http://0.0.0.0:8000/v1", "http://[::ffff:127.0.0.1]/"],
)  # fmt: skip
def test_this_machine_has_many_names(url: str) -> None:
    assert is_loopback(url)
    assert proxy_for(url, {"http_proxy": PROXY, "https_proxy": PROXY, "all_proxy": PROXY}) is None


@pytest.mark.parametrize("url", ["http://127.0.0.1.example.com", "http://localhost.example.com", "http://10.0.0.1", ""])
def test_another_machine_is_not_this_one(url: str) -> None:
    assert not is_loopback(url)


@pytest.mark.parametrize(
    ("environment", "variable"),
    [
        ({"https_proxy": PROXY}, "https_proxy"),
        ({"HTTPS_PROXY": PROXY}, "HTTPS_PROXY"),
        ({"https_proxy": PROXY, "HTTPS_PROXY": "http://other:1", "ALL_PROXY": "http://third:1"}, "https_proxy"),
        ({"ALL_PROXY": PROXY}, "ALL_PROXY"),
        ({"all_proxy": PROXY, "http_proxy": "http://other:1"}, "all_proxy"),
        ({"http_proxy": PROXY}, None),
        ({"https_proxy": "", "ALL_PROXY": PROXY}, None),
        ({}, None),
    ],
)
def test_the_proxy_is_that_of_the_scheme_then_that_of_all(environment: dict[str, str], variable: str | None) -> None:
    proxy = proxy_for(URL, environment)
    assert proxy == (None if variable is None else EnvironmentProxy(PROXY, variable))


@pytest.mark.parametrize(
    ("value", "url", "is_socks"),
    [
        ("proxy:3128", "http://proxy:3128", False),
        ("socks5://proxy:1080", "socks5://proxy:1080", True),
        ("socks5h://proxy:1080", "socks5h://proxy:1080", True),
        ("socks://127.0.0.1:7891/", "socks5h://127.0.0.1:7891/", True),
        ("HTTP://proxy:3128", "http://proxy:3128", False),
        ("http://user:pass@proxy:3128", "http://user:pass@proxy:3128", False),
    ],
)
def test_a_proxy_may_be_written_in_several_ways(value: str, url: str, is_socks: bool) -> None:
    proxy = proxy_for(URL, {"ALL_PROXY": value})
    assert proxy is not None
    assert (proxy.url, proxy.is_socks) == (url, is_socks)


@pytest.mark.parametrize(
    "value",
    ["http://[bad", "http://secret:pw@proxy:port", "://x", "http://", "ftp://x:1", "socks4://x:1", "a b", "x:0"],
)
def test_a_malformed_proxy_is_named_by_its_variable_and_not_shown(value: str) -> None:
    with pytest.raises(UsageError, match=r"ALL_PROXY.*Write ALL_PROXY like") as caught:
        proxy_for(URL, {"ALL_PROXY": value})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "is_excepted"),
    [
        ("*", True), ("example.com", True), (".example.com", True), ("*.example.com", True), ("API.Example.com", True),
        ("foo, api.example.com", True), ("foo api.example.com", True), ("api.example.com:443", True),
        ("api.example.com:8443", False), ("https://api.example.com", True), ("ample.com", False),
        ("api.example", False),
        ("", False), (",", False), ("10.0.0.0/8", False),
    ],
)  # fmt: skip
def test_no_proxy_excepts_names_and_what_is_below_them(entry: str, is_excepted: bool) -> None:
    assert (proxy_for(URL, {"https_proxy": PROXY, "no_proxy": entry}) is None) == is_excepted
    assert (proxy_for(URL, {"https_proxy": PROXY, "NO_PROXY": entry}) is None) == is_excepted


@pytest.mark.parametrize(
    ("host", "entry", "is_excepted"),
    [
        ("10.1.2.3", "10.0.0.0/8", True), ("11.1.2.3", "10.0.0.0/8", False), ("10.1.2.3", "10.1.2.3", True),
        ("[fd00::1]:8000", "fd00::/8", True), ("[fd00::1]:8000", "[fd00::1]:8000", True),
        ("[fd00::1]", "fd01::1", False),
    ],
)  # fmt: skip
def test_no_proxy_excepts_addresses_and_networks(host: str, entry: str, is_excepted: bool) -> None:
    assert (proxy_for(f"http://{host}/v1", {"http_proxy": PROXY, "no_proxy": entry}) is None) == is_excepted


@pytest.mark.fuzz
@given(st.text(max_size=40), st.text("*.:/[]0123456789abcdefexample, -", max_size=40))
def test_any_environment_is_a_proxy_or_one_error(value: str, excepted: str) -> None:
    with suppress(UsageError):
        proxy = proxy_for(URL, {"https_proxy": value, "no_proxy": excepted})
        assert proxy is None or proxy.url.startswith(("http://", "https://", "socks5"))


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_certificates_that_are_not_there_are_named(variable: str, tmp_path: Path) -> None:
    assert tls_context({}) is None
    with pytest.raises(UsageError, match=rf"{variable} names '.*missing', which is not a .*Correct the .* or unset it"):
        tls_context({variable: str(tmp_path / "missing")})
    if variable == "SSL_CERT_FILE":
        (tmp_path / "empty.pem").write_text("no certificate")
        with pytest.raises(UsageError, match="holds no usable certificates"):
            tls_context({variable: str(tmp_path / "empty.pem")})


def chained(*errors: BaseException) -> BaseException:
    """The first error, caused by the second one, and so on."""
    for error, cause in pairwise(errors):
        error.__cause__ = cause
    return errors[0]


def test_the_cause_of_a_failed_connection_is_said() -> None:
    verification = ssl.SSLCertVerificationError(1, "x")
    verification.verify_message = "self-signed certificate"
    wrong = ssl.SSLError(1, "x")
    wrong.reason = "WRONG_VERSION_NUMBER"
    proxy = EnvironmentProxy("http://user:secret@proxy:1", "HTTPS_PROXY")
    cases = [
        (verification, None, "the certificate of host is not trusted (self-signed certificate)"),
        (wrong, None, "host does not speak TLS"),
        (gaierror(-2, "unknown"), None, "the name host cannot be resolved"),
        (ConnectionRefusedError(), None, "host cannot be reached: it refuses the connection"),
        (TimeoutError(), None, "host cannot be reached: it does not answer"),
        (OSError("no route"), None, "host cannot be reached"),
        (ConnectionRefusedError(), proxy, "the proxy of HTTPS_PROXY cannot be reached: it refuses the connection"),
        (gaierror(-2, "unknown"), proxy, "the name of the proxy of HTTPS_PROXY cannot be resolved"),
    ]
    for cause, through, said in cases:
        error = chained(RuntimeError("outer"), OSError("middle"), cause)
        reason, remedy = explain_connection(error, "host", proxy=through)
        assert reason == said
        assert remedy
        assert "secret" not in reason + remedy


def test_a_circle_of_causes_ends() -> None:
    first, second = OSError("a"), OSError("b")
    first.__cause__, second.__cause__ = second, first
    assert explain_connection(first, "host")[0] == "host cannot be reached"
