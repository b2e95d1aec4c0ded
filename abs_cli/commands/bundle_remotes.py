"""``abs bundle remote add, ls, rm, default``: names for places, and the one that is meant when none is named."""

from __future__ import annotations

import json
from pathlib import Path

import click

from abs_cli.completion_values import complete_location, complete_remote
from abs_cli.console import PlainGroup, note
from abs_core.errors import UsageError
from abs_core.home import Home
from abs_descriptions.bundles.remotes import Remote, Remotes

__all__ = ["remote_group"]


@click.group("remote", cls=PlainGroup)
def remote_group() -> None:
    """Name the places that bundles are pushed to and pulled from, and choose a default.

    `abs bundle push`, `pull`, `ls --remote`, `gc`, `verify` and `repair` take such a name in place of LOCATION, and the
    default where none is given. NAME is a word without / and :, so write ./NAME for a folder of that name. The names
    are kept in remotes.json of the home folder, without credentials.
    """


@remote_group.command("add")
@click.argument("name")
@click.argument("location", shell_complete=complete_location)
@click.option("--default", is_flag=True, help="Mean it where no LOCATION is given.")
@click.option(
    "--signers",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Take from there only what one of these has signed; FILE as for `abs bundle pull --verify`.",
)
@click.pass_obj
def add_command(home: Home, name: str, location: str, default: bool, signers: Path | None) -> None:
    """Call LOCATION, a place as for `abs bundle push`, NAME."""
    remote = Remotes(home.remotes).add(name, location, default=default, signers=signers)
    _show(remote)
    if "://" not in remote.location and not Path(remote.location).exists():
        note(f"note: there is no folder {remote.location} yet; the first push makes it")


@remote_group.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one object per remote.")
@click.pass_obj
def list_command(home: Home, as_json: bool) -> None:
    """List the remotes; the default is marked with a star."""
    remotes = Remotes(home.remotes).list()
    if as_json:
        click.echo(json.dumps([_object(remote) for remote in remotes]))
        return
    for remote in remotes:
        _show(remote)


@remote_group.command("rm")
@click.argument("name", shell_complete=complete_remote)
@click.pass_obj
def remove_command(home: Home, name: str) -> None:
    """Forget a name. What is in the place stays."""
    removed = Remotes(home.remotes).remove(name)
    note(f"removed {removed.name}; {removed.location} stays as it is")
    if removed.is_default:
        note("there is no default remote now")


@remote_group.command("default")
@click.argument("name", required=False, shell_complete=complete_remote)
@click.pass_obj
def default_command(home: Home, name: str | None) -> None:
    """Mean NAME where no LOCATION is given; without NAME, show which is meant now."""
    remotes = Remotes(home.remotes)
    if name is not None:
        _show(remotes.choose_default(name))
        return
    default = next((remote for remote in remotes.list() if remote.is_default), None)
    if default is None:
        raise UsageError("there is no default remote", remedy="Choose one: abs bundle remote default NAME")
    _show(default)


def _show(remote: Remote) -> None:
    signers = "" if remote.signers is None else f"  signers {remote.signers}"
    click.echo(f"{'*' if remote.is_default else ' '} {remote.name}  {remote.location}{signers}")


def _object(remote: Remote) -> dict[str, str | bool | None]:
    signers = None if remote.signers is None else str(remote.signers)
    return {"name": remote.name, "location": remote.location, "default": remote.is_default, "signers": signers}
