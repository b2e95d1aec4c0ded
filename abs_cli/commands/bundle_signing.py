"""``abs bundle sign``, and what other commands need to sign and to check signatures."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from abs_cli.completion_values import complete_bundle
from abs_cli.console import note
from abs_core.errors import UsageError
from abs_core.home import Home

if TYPE_CHECKING:
    from abs_descriptions.bundles.repository import Repository

__all__ = ["sign_command", "sign_with", "verify_option"]

verify_option = click.option(
    "--verify",
    "signers_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Refuse what none of the signers in FILE has signed; FILE as for `ssh-keygen -Y verify -f`.",
)


@click.command("sign")
@click.argument("reference", metavar="BUNDLE", shell_complete=complete_bundle)
@click.option(
    "--key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Private SSH key, such as ~/.ssh/id_ed25519.",
)
@click.option(
    "--signature",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Signature that `ssh-keygen -Y sign -n abs-bundle-manifest` made of the manifest, with an agent for example.",
)
@click.pass_obj
def sign_command(home: Home, reference: str, key: Path | None, signature: Path | None) -> None:
    """Vouch for a version of the local store with an SSH key of your own.

    The signature is kept beside the manifest, and travels with `abs bundle push` and `pull`; to sign a version that was
    pushed before, sign it and push it again. Others check it with `--verify`.
    """
    from abs_descriptions.bundles.repository import Repository
    from abs_descriptions.bundles.signatures import add_signature
    from abs_descriptions.bundles.versions import refuse_shipped

    if (key is None) == (signature is None):
        raise UsageError("exactly one of --key and --signature must be given", remedy="Give --key FILE")
    store = Repository.local(home.bundles)
    refuse_shipped(store, reference)
    if signature is not None:
        manifest, fingerprint = add_signature(store, reference, signature)
        click.echo(str(manifest))
        note(f"signed by {fingerprint}")
    elif key is not None:
        click.echo(sign_with(store, reference, key))


def sign_with(store: Repository, reference: str, key: Path) -> str:
    """Sign a version of a local store, asking for a passphrase where somebody can be asked; its pinned reference."""
    from abs_descriptions.bundles.signatures import sign_bundle

    manifest, fingerprint = sign_bundle(store, reference, key, _passphrase_of(key) if sys.stdin.isatty() else None)
    note(f"signed by {fingerprint}")
    return str(manifest)


def _passphrase_of(key: Path) -> Callable[[], str]:
    def ask() -> str:
        passphrase: str = click.prompt(f"Passphrase of {key}", hide_input=True, err=True)
        return passphrase

    return ask
