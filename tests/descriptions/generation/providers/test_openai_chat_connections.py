"""TLS, proxies and wrong addresses: one line that names the cause, and the remedy."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import ChatServer, serving
from web import create_certificate

from abs_core.errors import AbsError, FatalProviderError, UsageError
from abs_core.extras import is_installed
from abs_descriptions.generation.providers.base import Message, Outcome, Parameters, Reply, Request
from abs_descriptions.generation.providers.openai_chat import OpenAIChatProvider
from abs_descriptions.generation.providers.retry import RetryPolicy

pytest.importorskip("openai")
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir")


@pytest.fixture(autouse=True)
def empty_environment(no_ambient_key: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[tuple[ChatServer, Path]]:
    """A server with a certificate that it signed itself, and the file of that certificate."""
    trusted, encryption = create_certificate(tmp_path)
    with serving(ChatServer(), encryption) as server:
        yield server, trusted


def ask(url: str) -> Outcome:
    provider = OpenAIChatProvider("m", base_url=url, retry_policy=RetryPolicy(attempts=2, first_wait=0.01))
    ((_, outcome),) = provider.complete([Request((Message("user", "A cat?"),), Parameters())])
    return outcome


def test_a_certificate_that_nobody_knows_is_said_and_a_file_of_it_is_trusted_on_loopback_too(
    encrypted: tuple[ChatServer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, trusted = encrypted
    with pytest.raises(FatalProviderError, match=r"is not trusted \(self-signed certificate\).*SSL_CERT_FILE"):
        ask(server.url)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    assert isinstance(ask(server.url), Reply)


def test_a_file_of_certificates_that_is_missing_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file.pem")
    with pytest.raises(UsageError, match=r"SSL_CERT_FILE names '/no/such/file\.pem', which is not a file"):
        ask("https://127.0.0.1:9/v1")


def test_http_and_https_taken_for_each_other_are_told_apart(encrypted: tuple[ChatServer, Path]) -> None:
    with serving(ChatServer()) as plain, pytest.raises(FatalProviderError, match=r"does not speak TLS.*http://"):
        ask(plain.url.replace("http:", "https:"))
    with pytest.raises(
        FatalProviderError, match=r"gives no answer: the connection broke.*may have to begin with https://"
    ):
        ask(encrypted[0].url.replace("https:", "http:"))


@pytest.mark.parametrize(
    ("proxy", "words"),
    [
        ("http://127.0.0.1:PORT", "the proxy of ALL_PROXY cannot be reached: it refuses the connection"),
        ("http://user:secret@[bad", "ALL_PROXY holds no address of a proxy"),
        ("gopher://127.0.0.1:1", "ALL_PROXY names a proxy of the kind 'gopher'"),
    ],
)
def test_a_proxy_that_cannot_work_is_one_error(monkeypatch: pytest.MonkeyPatch, proxy: str, words: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    monkeypatch.setenv("ALL_PROXY", proxy.replace("PORT", port))
    with pytest.raises(AbsError, match=words) as caught:
        ask("http://models.example.com/v1")
    assert "secret" not in str(caught.value)


@pytest.mark.skipif(is_installed("socksio"), reason="SOCKS works here")
@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks"])
def test_a_socks_proxy_needs_a_package_that_is_named(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:1080")
    with pytest.raises(UsageError, match=r"ALL_PROXY names a SOCKS proxy.*pip install socksio"):
        ask("http://models.example.com/v1")
    with serving(ChatServer()) as server:  # this machine is reached without it
        assert isinstance(ask(server.url), Reply)


def test_requests_go_through_the_proxy_and_exceptions_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(ChatServer()) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.removesuffix("/v1"))
        assert isinstance(ask("http://models.example.com/v1"), Reply)
        assert proxy.seen[0].path == "http://models.example.com/v1/chat/completions"
        monkeypatch.setenv("NO_PROXY", ".invalid")
        with pytest.raises(FatalProviderError, match=r"the name models\.invalid cannot be resolved"):
            ask("http://models.invalid/v1")
        assert len(proxy.seen) == 1
