"""Web servers that ask who reads: the credentials go to the host that they are for, and are seen nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest
from sharing import take
from web import reply, serve_on_loopback

from abs_core.errors import StorageError
from abs_descriptions.bundles.repository import Repository

TOKEN = "SECRETSECRET"


@contextmanager
def serving(folder: Path, accepted: str, headers: list[str | None], redirect: str = "") -> Iterator[str]:
    """A server over a folder that wants a header, notes which came, and may send readers elsewhere instead."""

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            headers.append(self.headers["Authorization"])
            if redirect and not self.path.startswith("/moved"):
                target = f"http://{self.headers['Host']}/moved" if redirect == "itself" else redirect
                reply(self, 302, Location=target + self.path)
            elif accepted and headers[-1] != accepted:
                reply(self, 401, TOKEN.encode())
            else:
                self.path = self.path.removeprefix("/moved")
                super().do_GET()

        def log_message(self, *args: object) -> None:
            pass

    with serve_on_loopback(partial(Handler, directory=str(folder))) as address:
        yield address


@pytest.mark.parametrize(
    ("variables", "accepted"),
    [
        ({"ABS_TOKEN_127_0_0_1": TOKEN}, f"Bearer {TOKEN}"),
        ({"NETRC": "netrc"}, "Basic YWRhOlNFQ1JFVFNFQ1JFVA=="),
    ],
)
def test_a_bundle_is_pulled_with_credentials_that_stay_where_they_are(
    published: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    variables: dict[str, str],
    accepted: str,
) -> None:
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login ada password {TOKEN}\n")
    headers: list[str | None] = []
    with serving(published, accepted, headers) as address:
        with pytest.raises(StorageError, match=r"the server refuses it \(HTTP 401\)") as refused:
            take(tmp_path / "b", address)
        port = address.rpartition(":")[2]
        assert f"Set ABS_TOKEN_127_0_0_1_{port} to a token" in refused.value.remedy
        for name, value in variables.items():
            monkeypatch.setenv(name, str(tmp_path / value) if name == "NETRC" else value)
        place = Repository.open(address)
        assert take(tmp_path / "b", place)[0].is_new
    assert set(headers) == {None, accepted}
    secrets = (TOKEN.encode(), accepted.partition(" ")[2].encode())
    kept = [path.read_bytes() for path in (tmp_path / "b").rglob("*") if path.is_file()]
    assert kept
    assert not any(secret in data for secret in secrets for data in kept)
    assert not any(secret.decode() in caplog.text + repr(place) + place.address for secret in secrets)


def test_wrong_credentials_are_named_by_where_they_come_from(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ABS_TOKEN_127_0_0_1", TOKEN)
    with serving(published, "Bearer other", []) as address, pytest.raises(StorageError) as refused:
        take(tmp_path / "b", address)
    assert refused.value.remedy == "Check the credentials in ABS_TOKEN_127_0_0_1"
    assert TOKEN not in str(refused.value)


def test_who_is_redirected_shows_them_to_no_other_host(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ABS_TOKEN_127_0_0_1", TOKEN)
    first: list[str | None] = []
    second: list[str | None] = []
    with serving(published, "", second) as other, serving(published, "", first, redirect=other) as address:
        assert take(tmp_path / "b", address)[0].is_new
    assert set(first) == {f"Bearer {TOKEN}"}
    assert set(second) == {None}
    first.clear()
    with serving(published, f"Bearer {TOKEN}", first, redirect="itself") as address:
        assert take(tmp_path / "c", address)[0].is_new
    assert set(first) == {f"Bearer {TOKEN}"}
