"""``abs bundle push``: give a bundle to others."""

from __future__ import annotations

import click

from abs_core.home import Home

__all__ = ["command"]


@click.command("push")
@click.argument("reference")
@click.argument("location")
@click.option("--with-parents", is_flag=True, help="Also those that it was made of, and theirs.")
@click.pass_obj
def command(home: Home, reference: str, location: str, with_parents: bool) -> None:
    """Copy a bundle of the local store to a folder, s3://, gs:// or hf://datasets/OWNER/NAME, and print its reference.

    A version that is there with other content is never overwritten. Credentials come from the environment, never from
    LOCATION.
    """
    from abs_cli.sharing import push_bundles

    push_bundles(home, reference, location, with_parents)
