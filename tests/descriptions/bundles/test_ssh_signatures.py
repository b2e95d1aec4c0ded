"""Signatures with SSH keys: what ssh-keygen makes is checked here, and what is made here ssh-keygen checks."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("cryptography")

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from ssh_keys import KINDS, write_key

from abs_core.errors import UsageError
from abs_descriptions.bundles.ssh_signatures import SshSignature, fingerprint, parse_signature, read_private_key

MESSAGE = b'{"a":"message"}\n'
needs_keygen = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="NOT TESTED: no ssh-keygen")


@pytest.mark.parametrize("kind", KINDS)
def test_a_signature_fits_its_message_purpose_and_key_alone(tmp_path: Path, kind: str) -> None:
    key = read_private_key(write_key(tmp_path, kind))
    signature = parse_signature(key.sign(MESSAGE, "test").serialize())
    assert signature is not None
    assert signature.fits(MESSAGE, "test")
    assert not signature.fits(MESSAGE + b" ", "test")
    assert not signature.fits(MESSAGE, "git")
    other = read_private_key(write_key(tmp_path / "other", kind))
    for change in (
        {"public_key": other.public_key},
        {"namespace": "git"},
        {"hash_name": "sha256"},
        {"algorithm": "ssh-rsa"},
        {"value": signature.value[:-1] + bytes([signature.value[-1] ^ 1])},
        {"value": b""},
        {"public_key": b""},
    ):
        assert not dataclasses.replace(signature, **change).fits(MESSAGE, "test"), change


@needs_keygen
@pytest.mark.parametrize("kind", KINDS)
def test_ssh_keygen_takes_what_is_made_here_and_the_other_way_round(tmp_path: Path, kind: str) -> None:
    path, message = write_key(tmp_path, kind), tmp_path / "message"
    message.write_bytes(MESSAGE)
    (tmp_path / "allowed").write_text(f"ada@example.org {path.with_suffix('.pub').read_text()}")
    (tmp_path / "signature").write_bytes(read_private_key(path).sign(MESSAGE, "test").serialize())
    command = ["ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", "ada@example.org", "-n", "test", "-s", "signature"]
    checked = subprocess.run(command, cwd=tmp_path, input=MESSAGE, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr

    command = ["ssh-keygen", "-Y", "sign", "-f", str(path), "-n", "test", "message"]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    data = (tmp_path / "message.sig").read_bytes()
    signature = parse_signature(data)
    assert signature is not None
    assert signature.fits(MESSAGE, "test")
    assert signature.serialize() == data
    shown = subprocess.run(["ssh-keygen", "-l", "-f", str(path)], capture_output=True, text=True, check=True).stdout
    assert fingerprint(signature.public_key) in shown


def test_a_key_with_a_passphrase_asks_for_it(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    encryption = serialization.BestAvailableEncryption(b"secret")
    data = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
    path.write_bytes(data)
    assert read_private_key(path, lambda: "secret").sign(MESSAGE, "test").fits(MESSAGE, "test")
    with pytest.raises(UsageError, match="the passphrase is wrong"):
        read_private_key(path, lambda: "wrong")
    with pytest.raises(UsageError, match="it is encrypted"):
        read_private_key(path)


def test_what_cannot_sign_is_named(tmp_path: Path) -> None:
    path = write_key(tmp_path)
    with pytest.raises(UsageError, match=r"id_ed25519\.pub cannot sign: it is the public half"):
        read_private_key(path.with_suffix(".pub"))
    (tmp_path / "text").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    with pytest.raises(UsageError, match="holds no private key"):
        read_private_key(tmp_path / "text")
    for key in (rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP256K1())):
        data = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (tmp_path / "weak").write_bytes(data)
        with pytest.raises(UsageError, match="of a kind that is not supported"):
            read_private_key(tmp_path / "weak")


def test_what_is_no_signature_is_none(tmp_path: Path) -> None:
    whole = read_private_key(write_key(tmp_path)).sign(MESSAGE, "test").serialize()
    assert isinstance(parse_signature(b"\n" + whole.replace(b"\n", b"\r\n")), SshSignature)
    broken = [b"", b"x", whole[:-40], whole + b"x", whole.replace(b"U1NIU0lH", b"U1NIU0lI"), whole[:60] + whole[61:]]
    for data in broken:
        assert parse_signature(data) is None, data
