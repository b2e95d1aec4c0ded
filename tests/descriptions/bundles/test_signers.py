"""Files of allowed signers: which keys count, and that whatever is not understood counts for nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from abs_core.errors import UsageError
from abs_descriptions.bundles.signers import Signer, read_signers

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG1vZHVsdXM="
NOW = datetime(2026, 6, 1, tzinfo=UTC)


def signers_in(folder: Path, text: str) -> list[Signer]:
    (folder / "allowed").write_text(text)
    return list(read_signers(folder / "allowed").signers)


@pytest.mark.parametrize(
    ("options", "counts"),
    [
        ("", True),
        ('namespaces="git,abs-*" ', True),
        ('namespaces="git" ', False),
        ('namespaces="[a]bs-*" ', False),
        ('namespaces="abs-*,![a]bs-*" ', True),
        ('namespaces="abs-*,!abs-bundle*" ', False),
        ('valid-after="20260101" ', True),
        ('valid-after="20260602Z" ', False),
        ('valid-before="202606010000Z" ', False),
        ('valid-after="20260101Z",valid-before="20270101000000Z",namespaces="abs-bundle-manifest" ', True),
    ],
)
def test_a_key_counts_as_its_options_say(tmp_path: Path, options: str, counts: bool) -> None:
    [signer] = signers_in(tmp_path, f"# of the team\n\nada@example.org,bob@example.org {options}{KEY} a comment\n")
    assert signer.name == "ada@example.org,bob@example.org"
    assert signer.may_sign("abs-bundle-manifest", NOW) is counts


def test_a_comment_ends_with_its_line(tmp_path: Path) -> None:
    assert [signer.name for signer in signers_in(tmp_path, f"# was\u2028eve {KEY}\nbob {KEY}\r\n")] == ["bob"]


@pytest.mark.parametrize(
    "line",
    [
        f"*@example.org cert-authority {KEY}",
        f'ada valid-before="tomorrow" {KEY}',
        f"ada namespaces {KEY}",
        f"ada new-option {KEY}",
        "ada sk-ssh-ed25519@openssh.com AAAA",
    ],
)
def test_what_cannot_be_judged_counts_for_nothing(tmp_path: Path, line: str, caplog: pytest.LogCaptureFixture) -> None:
    assert [signer.name for signer in signers_in(tmp_path, f"{line}\nbob {KEY}\n")] == ["bob"]
    assert "line 1 counts for nothing: " in caplog.text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "names no signer"),
        ("# nobody\n", "names no signer"),
        (f"{KEY}\n", "line 1 is no allowed signer"),
        (f"ada {KEY}\nbob\n", "line 2 is no allowed signer"),
        ("ada ssh-ed25519 not/base64!\n", "line 1 holds no key"),
    ],
)
def test_a_file_that_is_none_is_named_with_its_line(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        signers_in(tmp_path, text)
