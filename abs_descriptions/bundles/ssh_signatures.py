"""Signatures of bytes with SSH keys, as ``ssh-keygen -Y sign`` makes them and ``ssh-keygen -Y verify`` checks them.

The format is OpenSSH's PROTOCOL.sshsig, version 1. The mathematics is that of the package ``cryptography``; here is
only what goes around it. Ed25519, ECDSA on the three NIST curves, and RSA of 2048 bits or more with SHA-2.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abs_core.errors import UsageError
from abs_core.extras import require
from abs_core.files import open_regular, storage_errors
from abs_core.text import printable

__all__ = ["KEY_TYPES", "SshKey", "SshSignature", "fingerprint", "parse_signature", "read_private_key"]

#: Kinds of public keys, as their first word names them.
KEY_TYPES = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")

_MAGIC, _VERSION = b"SSHSIG", 1
_ARMOR = re.compile(
    rb"\s*-----BEGIN SSH SIGNATURE-----\r?\n([A-Za-z0-9+/=\r\n]{1,16384})-----END SSH SIGNATURE-----\s*"
)
_HASHES: dict[str, Callable[[bytes], Any]] = {"sha256": hashlib.sha256, "sha512": hashlib.sha512}
_COLUMNS = 70
_MAX_KEY = 64 * 1024
_SMALLEST_RSA = 2048


@dataclass(frozen=True)
class SshSignature:
    """A signature, and with which key it was made; whether it is right is another question, see ``fits``.

    Args:
        public_key: in SSH's encoding.
        namespace: what the signature is for.
        hash_name: of the message: "sha256" or "sha512".
        algorithm: of the signature.
        value: the signature itself.
    """

    public_key: bytes
    namespace: str
    hash_name: str
    algorithm: str
    value: bytes

    def serialize(self) -> bytes:
        """The text of a file, as ``ssh-keygen`` writes it."""
        blob = _MAGIC + struct.pack(">I", _VERSION) + _string(self.public_key) + _string(self.namespace.encode())
        blob += _string(b"") + _string(self.hash_name.encode())
        blob += _string(_string(self.algorithm.encode()) + _string(self.value))
        text = base64.b64encode(blob).decode("ascii")
        lines = [text[begin : begin + _COLUMNS] for begin in range(0, len(text), _COLUMNS)]
        return "\n".join(["-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""]).encode("ascii")

    def fits(self, message: bytes, namespace: str) -> bool:
        """Whether the key signed this message for this purpose.

        Raises:
            MissingExtraError: ``cryptography`` is not installed.
        """
        return self.namespace == namespace and _verify(self, _signed_bytes(message, namespace, self.hash_name))


@dataclass(frozen=True)
class SshKey:
    """A private key.

    Args:
        public_key: its other half, in SSH's encoding.
    """

    public_key: bytes
    _private: Any

    def sign(self, message: bytes, namespace: str) -> SshSignature:
        """Sign a message for a purpose."""
        algorithm, value = _sign(self._private, _signed_bytes(message, namespace, "sha512"))
        return SshSignature(self.public_key, namespace, "sha512", algorithm, value)


def fingerprint(public_key: bytes) -> str:
    """What ``ssh-keygen -l`` shows of a key."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(public_key).digest()).decode("ascii").rstrip("=")


def parse_signature(data: bytes) -> SshSignature | None:
    """The signature that a file holds; None if it holds none, or one of another version or with an unknown hash."""
    match = _ARMOR.fullmatch(data)
    if match is None:
        return None
    try:
        reader = _Reader(base64.b64decode(match[1].replace(b"\r", b"").replace(b"\n", b""), validate=True))
        if reader.take(len(_MAGIC)) != _MAGIC or reader.number() != _VERSION:
            return None
        public_key, namespace, _, hash_name, inner = (reader.string() for _ in range(5))
        reader.finish()
        reader = _Reader(inner)
        algorithm, value = reader.string(), reader.string()
        reader.finish()
        signature = SshSignature(public_key, namespace.decode(), hash_name.decode(), algorithm.decode(), value)
    except (ValueError, binascii.Error):
        return None
    return signature if signature.hash_name in _HASHES else None


def read_private_key(path: Path, passphrase: Callable[[], str] | None = None) -> SshKey:
    """A private key, in OpenSSH's format or as PEM.

    Args:
        path: of its file.
        passphrase: asked if the key is encrypted; None: it may not be.

    Raises:
        UsageError: no private key of a supported kind, an encrypted one, or a wrong passphrase.
        StorageError: the file cannot be read. MissingExtraError: ``cryptography`` is not installed.
    """
    with storage_errors(path, "read"), open_regular(path) as stream:
        data = stream.read(_MAX_KEY)
    if data.startswith((b"ssh-", b"ecdsa-", b"sk-")):
        raise _unusable(path, "it is the public half of a key", "Name the file without .pub")
    private = _load(path, data, passphrase)
    public_key = _public_bytes(private.public_key())
    if public_key is None:
        raise _unusable(path, "it is a key of a kind that is not supported", "Use a key of ssh-keygen -t ed25519")
    return SshKey(public_key, private)


def _load(path: Path, data: bytes, passphrase: Callable[[], str] | None) -> Any:
    serialization = require("cryptography.hazmat.primitives.serialization")
    from cryptography.exceptions import UnsupportedAlgorithm

    is_openssh = b"BEGIN OPENSSH PRIVATE KEY" in data
    load = serialization.load_ssh_private_key if is_openssh else serialization.load_pem_private_key
    try:
        try:
            return load(data, None)
        except TypeError:  # it is encrypted
            if passphrase is None:
                raise _unusable(path, "it is encrypted", "Use it where it can be asked for its passphrase") from None
            return load(data, passphrase().encode())
    except UnsupportedAlgorithm:
        reason = "it is encrypted in a way that needs the package bcrypt" if is_openssh else "its kind is not supported"
        raise _unusable(path, reason, "Run pip install bcrypt, or sign with ssh-keygen -Y sign") from None
    except (ValueError, TypeError):
        raise _unusable(path, "it holds no private key, or the passphrase is wrong", "Check both") from None


def _unusable(path: Path, reason: str, remedy: str) -> UsageError:
    return UsageError(f"{printable(str(path))} cannot sign: {reason}", remedy=remedy)


def _public_bytes(key: Any) -> bytes | None:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    try:
        words = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()
    except Exception:  # each kind of key that SSH does not know has its own error
        return None
    too_small = isinstance(key, RSAPublicKey) and key.key_size < _SMALLEST_RSA
    return base64.b64decode(words[1]) if words[0].decode() in KEY_TYPES and not too_small else None


def _signed_bytes(message: bytes, namespace: str, hash_name: str) -> bytes:
    digest = _HASHES[hash_name](message).digest()
    return _MAGIC + _string(namespace.encode()) + _string(b"") + _string(hash_name.encode()) + _string(digest)


def _sign(key: Any, data: bytes) -> tuple[str, bytes]:
    """The algorithm and the signature."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

    if isinstance(key, rsa.RSAPrivateKey):
        return "rsa-sha2-512", key.sign(data, padding.PKCS1v15(), hashes.SHA512())
    if isinstance(key, ec.EllipticCurvePrivateKey):
        numbers = utils.decode_dss_signature(key.sign(data, ec.ECDSA(_hash_of(key.key_size))))
        return f"ecdsa-sha2-nistp{key.key_size}", b"".join(_string(_integer(number)) for number in numbers)
    return "ssh-ed25519", key.sign(data)


def _verify(signature: SshSignature, data: bytes) -> bool:
    serialization = require("cryptography.hazmat.primitives.serialization")
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

    try:
        kind = _Reader(signature.public_key).string().decode()
        if kind not in KEY_TYPES:
            return False
        key = serialization.load_ssh_public_key(f"{kind} {base64.b64encode(signature.public_key).decode()}".encode())
        if isinstance(key, rsa.RSAPublicKey):
            algorithm = {"rsa-sha2-256": hashes.SHA256(), "rsa-sha2-512": hashes.SHA512()}[signature.algorithm]
            key.verify(signature.value, data, padding.PKCS1v15(), algorithm)
            return key.key_size >= _SMALLEST_RSA
        if signature.algorithm != kind:
            return False
        if isinstance(key, ec.EllipticCurvePublicKey):
            reader = _Reader(signature.value)
            r, s = (int.from_bytes(reader.string(), "big") for _ in range(2))
            reader.finish()
            key.verify(utils.encode_dss_signature(r, s), data, ec.ECDSA(_hash_of(key.key_size)))
        else:
            assert isinstance(key, ed25519.Ed25519PublicKey)
            key.verify(signature.value, data)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, KeyError):
        return False
    return True


def _hash_of(key_size: int) -> Any:
    """Of RFC 5656, 6.2.1."""
    from cryptography.hazmat.primitives import hashes

    return {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}[key_size]


def _string(data: bytes) -> bytes:
    """As RFC 4251, 5 has it."""
    return struct.pack(">I", len(data)) + data


def _integer(number: int) -> bytes:
    """A positive number with a bit for its sign."""
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


class _Reader:
    """Reads what RFC 4251 describes; ValueError where there is less."""

    def __init__(self, data: bytes) -> None:
        self._data, self._position = data, 0

    def take(self, count: int) -> bytes:
        if self._position + count > len(self._data):
            raise ValueError("too short")
        self._position += count
        return self._data[self._position - count : self._position]

    def number(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        return self.take(self.number())

    def finish(self) -> None:
        if self._position != len(self._data):
            raise ValueError("too long")
