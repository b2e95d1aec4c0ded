"""``abs bundle pull``: take a bundle that others share."""

from __future__ import annotations

import click

from abs_core.home import Home

__all__ = ["command"]


@click.command("pull")
@click.argument("reference")
@click.argument("location")
@click.option("--with-parents", is_flag=True, help="Also those that it was made of, and theirs.")
@click.pass_obj
def command(home: Home, reference: str, location: str, with_parents: bool) -> None:
    """Fetch a bundle from a folder, s3://, gs://, http(s):// or hf://datasets/OWNER/NAME@COMMIT.

    Digest, header and every record are checked before it enters the local store. Prints the pinned reference.
    NAME means the latest version that is not yanked; NAME@VERSION#sha256:... can only mean one file.
    """
    from abs_cli.sharing import pull_bundles

    pull_bundles(home, reference, location, with_parents)
