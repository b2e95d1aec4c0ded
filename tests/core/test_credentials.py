"""Credentials for web servers: which host each is for, and that none is shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from abs_core.credentials import authorization_for, token_variable
from abs_core.errors import UsageError

HTTPS = "https://bundles.my-team.example.org/x"


@pytest.fixture
def netrc(tmp_path: Path) -> dict[str, str]:
    """A netrc file, as the environment names it."""
    (tmp_path / "netrc").write_text(
        "machine bundles.my-team.example.org login ada password SECRET\n"
        "machine 127.0.0.1 login ada password SECRET\n"
        "default login any password SECRET\n"
    )
    return {"NETRC": str(tmp_path / "netrc")}


def header(url: str, environment: dict[str, str]) -> str | None:
    found = authorization_for(url, environment)
    assert "SECRET" not in repr(found)
    return None if found is None else found.header


@pytest.mark.parametrize(
    ("url", "variable"),
    [
        (HTTPS, "ABS_TOKEN_bundles_my__team_example_org"),
        ("https://example.org:8443/x", "ABS_TOKEN_example_org_8443"),
        ("https://EXAMPLE.org./x", "ABS_TOKEN_example_org"),
        ("https://[::1]:80/x", "ABS_TOKEN___1_80"),
        ("https://[::1]/x", "ABS_TOKEN___1"),
    ],
)
def test_a_variable_names_its_host(url: str, variable: str) -> None:
    assert token_variable(url) == variable
    assert header(url, {variable.upper(): "SECRET"}) == "Bearer SECRET"


def test_a_token_is_for_its_host_and_every_port_unless_it_names_one() -> None:
    environment = {"ABS_TOKEN_example_org": "SECRET", "ABS_TOKEN_example_org_8443": "basic SECRET="}
    assert header("https://example.org/x", environment) == "Bearer SECRET"
    assert header("https://example.org:9000/x", environment) == "Bearer SECRET"
    assert header("https://example.org:8443/x", environment) == "Basic SECRET="
    for other in ("https://www.example.org/x", "https://example.org.evil.net/x", "https://example-org/x"):
        assert header(other, environment) is None
    assert header("https://example.org/x", {"ABS_TOKEN_example_org": ""}) is None


def test_netrc_gives_a_login_and_the_variable_goes_before(netrc: dict[str, str]) -> None:
    assert header(HTTPS, netrc) == "Basic YWRhOlNFQ1JFVA=="
    assert header(HTTPS, {**netrc, token_variable(HTTPS): "SECRET"}) == "Bearer SECRET"
    for other in ("https://example.org/x", "https://default/x"):
        assert header(other, netrc) is None


def test_nothing_is_sent_to_another_machine_without_encryption(
    netrc: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    for environment in (netrc, {"ABS_TOKEN_bundles_my__team_example_org": "SECRET"}):
        assert header(HTTPS.replace("https", "http"), environment) is None
    assert header("http://127.0.0.1:8000/x", netrc) is not None
    assert caplog.text.count("http: is not encrypted, so the credentials of ") == 2
    assert "SECRET" not in caplog.text


@pytest.mark.parametrize("value", ["SEC RET", "SECRET\r\nX-Evil: 1", "SECRET\u00e9", "Digest SECRET"])
def test_what_is_no_token_is_refused_and_not_shown(value: str) -> None:
    with pytest.raises(UsageError, match="ABS_TOKEN_example_org holds no token") as refused:
        authorization_for("https://example.org/x", {"ABS_TOKEN_example_org": value})
    assert "SEC" not in str(refused.value)


def test_a_netrc_that_is_none_is_named_without_its_words(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UsageError, match="NETRC names no file"):
        authorization_for("https://example.org/x", {"NETRC": str(tmp_path / "absent")})
    assert authorization_for("https://example.org/x", {"NETRC": os.devnull}) is None
    file = tmp_path / "netrc"
    file.write_text("machine example.org login ada password SEC RET\n")
    assert authorization_for("https://example.org/x", {"NETRC": str(file)}) is None
    assert f"{file} cannot be read, line " in caplog.text
    assert "RET" not in caplog.text.replace("NETRC", "")
