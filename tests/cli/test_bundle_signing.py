"""`abs bundle sign`, and `--sign` and `--verify` of the commands beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("cryptography")

from sharing import add
from ssh_keys import write_key, write_signers
from support import Abs


def test_a_signed_bundle_is_pushed_pulled_and_validated(
    abs_command: Abs, shared_cache: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    entry, key = add(abs_command.home), write_key(tmp_path / "ada")
    ada = write_signers(tmp_path / "signers", ada=key)
    bob = write_signers(tmp_path / "others", bob=write_key(tmp_path / "bob"))
    shared = tmp_path / "shared"
    pushed = abs_command("bundle", "push", "pets", shared, "--sign", key)
    assert (pushed.code, pushed.out) == (0, f"{entry}\n")
    assert pushed.err.startswith("signed by SHA256:")
    theirs = Abs(tmp_path / "theirs", shared_cache, capsys)
    assert "signed by keys that are not in" in theirs.refuses("bundle", "pull", "pets", shared, "--verify", bob)
    pulled = theirs("bundle", "pull", "pets", shared, "--verify", ada)
    assert (pulled.code, pulled.out) == (0, f"{entry}\n")
    assert "signed by ada@example.org" in pulled.err
    assert theirs("bundle", "validate", "pets", "--verify", ada).out == f"{entry}\n"
    refused = theirs("bundle", "validate", "pets", "--verify", bob)
    assert (refused.code, refused.out) == (2, "")

    child = add(abs_command.home, "A child.", "1.1.0", parents=[str(entry)])
    add(abs_command.home, "A grandchild.", "1.2.0", parents=[str(child)])
    family = abs_command("bundle", "push", "pets", shared, "--sign", key, "--with-parents")
    assert "pets@1.1.0: nobody signed these" in family.err, "1.0.0 was signed before"
    assert f"`abs bundle sign pets@1.1.0 --key {key}`" in family.err
    assert "pets@1.1.0 in " in theirs.refuses("bundle", "pull", "pets", shared, "--with-parents", "--verify", ada)
    abs_command("bundle", "sign", "pets@1.1.0", "--key", key)
    assert "nobody signed" not in abs_command("bundle", "push", "pets", shared, "--sign", key, "--with-parents").err
    assert theirs("bundle", "pull", "pets", shared, "--with-parents", "--verify", ada).code == 0

    theirs("bundle", "remote", "add", "team", shared, "--signers", bob)
    assert "signed by keys that are not in" in theirs.refuses("bundle", "pull", "pets", "team")
    assert theirs("bundle", "pull", "pets", "team", "--verify", ada).code == 0


def test_a_version_is_signed_once_it_is_there(abs_command: Abs, tmp_path: Path) -> None:
    entry, key = add(abs_command.home), write_key(tmp_path / "ada")
    assert abs_command("bundle", "sign", "pets", "--key", key).out == f"{entry}\n"
    assert "exactly one of --key and --signature" in abs_command.refuses("bundle", "sign", "pets")
    assert "is the public half" in abs_command.refuses("bundle", "sign", "pets", "--key", key.with_suffix(".pub"))
    file = next((abs_command.home / "bundles" / "versions" / "pets").glob("*.sig"))
    file.rename(tmp_path / "made")
    assert abs_command("bundle", "sign", "pets", "--signature", tmp_path / "made").out == f"{entry}\n"
    assert file.read_bytes() == (tmp_path / "made").read_bytes()
    assert "is no signature of the manifest" in abs_command.refuses("bundle", "sign", "pets", "--signature", key)
