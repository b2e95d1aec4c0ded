"""SSH keys for tests of signatures."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

KINDS = {
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
}


def write_key(folder: Path, kind: str = "ed25519") -> Path:
    """A private key as ssh-keygen writes it, with its public half beside it."""
    folder.mkdir(exist_ok=True)
    key = KINDS[kind]()
    encodings = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    path = folder / f"id_{kind}"
    path.write_bytes(key.private_bytes(*encodings))
    path.chmod(0o600)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    path.with_suffix(".pub").write_bytes(public + b" a comment\n")
    return path


def write_signers(path: Path, **keys: Path) -> Path:
    """A file of allowed signers: name -> private key."""
    lines = [f"{name}@example.org {key.with_suffix('.pub').read_text()}" for name, key in keys.items()]
    path.write_text("".join(lines))
    return path
