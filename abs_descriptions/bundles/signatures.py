"""Signatures of bundles: who vouches for a version, in small files beside its manifest.

    sign_bundle(store, "birds@1.2.0", Path("~/.ssh/id_ed25519"))
    verify_bundle(store, store.resolve("birds@1.2.0"), read_signers(Path("allowed_signers")))

A signature is over the bytes of the manifest, which name the digest of the bundle, and so of all that is in it. Each
key has a file of its own, so that many can sign. docs/sharing.md is normative. A yank is not signed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from abs_core.canonical import sha256_bytes
from abs_core.errors import BundleError, UsageError
from abs_core.extras import is_installed
from abs_core.files import open_regular, storage_errors
from abs_core.text import printable, quoted
from abs_descriptions.bundles.manifest import VERSIONS, Manifest, signature_file, signature_key
from abs_descriptions.bundles.references import Reference
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.signers import AllowedSigners, Signer
from abs_descriptions.bundles.ssh_signatures import SshSignature, fingerprint, parse_signature, read_private_key
from abs_descriptions.bundles.storage.base import fetch

__all__ = ["NAMESPACE", "add_signature", "copy_signatures", "has_signature", "sign_bundle", "verify_bundle"]

_logger = logging.getLogger(__name__)

#: What the signatures are for, as ``ssh-keygen -Y verify -n`` takes it.
NAMESPACE = "abs-bundle-manifest"

_MAX_BYTES = 16 * 1024
_MAX_SIGNATURES = 32

# Keys that an error names, of those that are not allowed.
_SHOWN = 3


def sign_bundle(
    repository: Repository, reference: str | Reference, key: Path, passphrase: Callable[[], str] | None = None
) -> tuple[Manifest, str]:
    """Sign a version with an SSH key of the user's own. Signing it again with this key changes nothing.

    Args:
        repository: that has the version; its bytes are checked before they are vouched for in a local store.
        reference: of the version.
        key: the file of a private key.
        passphrase: asked if the key is encrypted.

    Returns:
        The manifest, and the fingerprint of the key.

    Raises:
        as ``Repository.resolve`` and ``read_private_key``; StorageError, UsageError: the repository cannot be written.
    """
    manifest = repository.resolve(reference)
    if repository.root is not None:
        repository.read(manifest)
    signature = read_private_key(key, passphrase).sign(manifest.serialize(), NAMESPACE)
    _publish(repository, manifest, signature)
    return manifest, fingerprint(signature.public_key)


def add_signature(repository: Repository, reference: str | Reference, path: Path) -> tuple[Manifest, str]:
    """Add a signature that ``ssh-keygen -Y sign`` made, with an agent for example; as ``sign_bundle``.

    Raises:
        UsageError: the file holds no signature, or one of something else.
    """
    manifest = repository.resolve(reference)
    with storage_errors(path, "read"), open_regular(path) as stream:
        signature = parse_signature(stream.read(_MAX_BYTES))
    if signature is None or not signature.fits(manifest.serialize(), NAMESPACE):
        raise UsageError(
            f"{printable(str(path))} is no signature of the manifest of {manifest.name}@{manifest.version}",
            remedy=f"Make it with ssh-keygen -Y sign -n {NAMESPACE} -f KEY of the manifest's file",
        )
    _publish(repository, manifest, signature)
    return manifest, fingerprint(signature.public_key)


def verify_bundle(repository: Repository, manifest: Manifest, allowed: AllowedSigners) -> Sequence[str]:
    """The signers who vouch for a version: at least one, of those who are allowed.

    Signatures of others count for nothing. No listing is needed.

    Raises:
        BundleError: none of them signed it: there is no signature, it is of others, of other bytes, or out of time.
        StorageError: the repository cannot be read. MissingExtraError: ``cryptography`` is not installed.
    """
    now, vouching, problems = datetime.now(UTC), list[str](), list[str]()
    files = _list(repository, manifest)
    if files is None and len(allowed.signers) > _MAX_SIGNATURES:
        raise UsageError(
            f"{repository.address} shows no index, so up to {_MAX_SIGNATURES} keys can be asked for, and "
            f"{printable(str(allowed.path))} has {len(allowed.signers)}",
            remedy="Name a file with fewer signers",
        )
    for signer in allowed.signers:
        file = signature_file(manifest.version, _key_id(signer.public_key))
        if files is not None and file not in files:
            continue
        signature = _read(repository, manifest, file)
        if signature is None:
            if files is not None:
                problems.append(f"the signature of {_shown(signer)} is broken")
        elif signature.public_key != signer.public_key or not signature.fits(manifest.serialize(), NAMESPACE):
            problems.append(f"the signature of {_shown(signer)} is not of this manifest")
        elif not signer.may_sign(NAMESPACE, now):
            problems.append(f"the key of {_shown(signer)} does not count now or for {NAMESPACE}")
        else:
            vouching.append(signer.name)
    if vouching:
        for problem in problems:
            _logger.warning("%s@%s: %s", manifest.name, manifest.version, problem)
        return list(dict.fromkeys(vouching))
    version = f"{manifest.name}@{manifest.version} in {repository.address}"
    if problems:
        reason = "; ".join(problems)
    elif files:
        keys = ", ".join(_foreign_keys(repository, manifest, files))
        reason = f"it is signed by keys that are not in {printable(str(allowed.path))}: {keys}"
    else:
        reason = "it has no signature"
    raise BundleError(
        f"{version} is not signed by an allowed signer: {reason}",
        remedy="Ask whoever maintains it to sign it with `abs bundle sign`, and do not use it before",
    )


def has_signature(repository: Repository, manifest: Manifest) -> bool:
    """Whether anything lies beside a version that is named as a signature of it; nothing is checked.

    Raises:
        StorageError: the repository cannot be read.
    """
    return bool(_list(repository, manifest))


def copy_signatures(manifest: Manifest, source: Repository, target: Repository) -> int:
    """Copy the signatures of a version that both repositories have; how many are new in the target.

    What is no signature, or of another key than its name says, stays where it is; where ``cryptography`` is installed
    also what does not fit the manifest.

    Raises:
        StorageError, UsageError: one cannot be read or written.
    """
    count = 0
    for file in sorted(_list(source, manifest) or ())[:_MAX_SIGNATURES]:
        signature = _read(source, manifest, file)
        if (
            signature is None
            or file != signature_file(manifest.version, _key_id(signature.public_key))
            or not _may_fit(signature, manifest)
        ):
            _logger.warning(
                "%s/%s/%s/%s is no signature and was not copied", source.address, VERSIONS, manifest.name, file
            )
        else:
            count += _publish(target, manifest, signature)
    return count


def _publish(repository: Repository, manifest: Manifest, signature: SshSignature) -> bool:
    """Create the file of a signature; whether it is new. What is there and does not fit is replaced."""
    storage, folder = repository.storage, f"{VERSIONS}/{manifest.name}"
    file = signature_file(manifest.version, _key_id(signature.public_key))
    data = signature.serialize()
    if storage.publish([], f"{folder}/{file}", data):
        return True
    existing = _read(repository, manifest, file)
    if existing == signature or (
        existing is not None and existing.public_key == signature.public_key and _may_fit(existing, manifest)
    ):
        return False
    storage.delete([listed for listed in storage.files(folder) if listed.path == f"{folder}/{file}"])
    return storage.publish([], f"{folder}/{file}", data)


def _may_fit(signature: SshSignature, manifest: Manifest) -> bool:
    """Whether a signature fits, as far as that can be told here."""
    return not is_installed("cryptography") or signature.fits(manifest.serialize(), NAMESPACE)


def _list(repository: Repository, manifest: Manifest) -> set[str] | None:
    """The files of signatures of a version; None where they cannot be listed."""
    try:
        names = repository.storage.names(f"{VERSIONS}/{manifest.name}")
    except UsageError:  # a web server that shows no index
        return None
    return {name for name in names if signature_key(name, manifest.version) is not None}


def _read(repository: Repository, manifest: Manifest, file: str) -> SshSignature | None:
    data = bytearray()
    try:
        fetch(repository.storage, f"{VERSIONS}/{manifest.name}/{file}", data.extend, _MAX_BYTES)
    except (FileNotFoundError, BundleError):
        return None
    return parse_signature(bytes(data))


def _foreign_keys(repository: Repository, manifest: Manifest, files: set[str]) -> list[str]:
    signatures = [_read(repository, manifest, file) for file in sorted(files)[:_SHOWN]]
    keys = [
        "a broken signature" if signature is None else fingerprint(signature.public_key) for signature in signatures
    ]
    return [*keys, *(["..."] if len(files) > _SHOWN else [])]


def _key_id(public_key: bytes) -> str:
    return sha256_bytes(public_key).removeprefix("sha256:")[:32]


def _shown(signer: Signer) -> str:
    return f"{quoted(signer.name)} ({fingerprint(signer.public_key)})"
