"""``abs bundle gc, verify, repair``: housekeeping of the places that bundles are shared in, and of the local store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from abs_cli.completion_values import complete_location
from abs_cli.console import note
from abs_cli.exit_codes import ExitCode
from abs_core.errors import UsageError
from abs_core.home import Home
from abs_core.text import counted, format_bytes, printable
from abs_descriptions.bundles.remotes import Remotes
from abs_descriptions.bundles.repository import Repository

if TYPE_CHECKING:
    from abs_descriptions.bundles.maintenance import RepositoryCheck

__all__ = ["gc_command", "repair_command", "verify_command"]

_local_option = click.option("--local", is_flag=True, help="The local store instead of LOCATION.")
_quick_option = click.option(
    "--quick", is_flag=True, help="Look only whether the bytes are there and as many as the manifest says."
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_location_argument = click.argument("location", required=False, shell_complete=complete_location)


@click.command("gc")
@_location_argument
@_local_option
@click.option("--delete", is_flag=True, help="Remove what was found; without it nothing is changed.")
@click.option(
    "--min-age",
    "hours",
    type=click.FloatRange(1),
    default=24,
    show_default=True,
    metavar="HOURS",
    help="Take only what was written so many hours ago or earlier: a push that is under way is not disturbed.",
)
@_json_option
@click.pass_obj
def gc_command(home: Home, location: str | None, local: bool, delete: bool, hours: float, as_json: bool) -> None:
    """List what nothing in a place needs: objects that no manifest names, yanks of versions that are not there, and
    half-written files of processes that were killed. With --delete it is removed.

    On the Hugging Face hub the bytes stay in earlier commits. Nothing can be removed behind a web server.
    """
    from abs_descriptions.bundles.maintenance import collect_garbage

    repository = _opened(home, location, local)
    garbage = collect_garbage(repository, min_age=hours * 3600, delete=delete)
    if as_json:
        listed = [{"path": item.file.path, "bytes": item.file.size, "reason": item.reason} for item in garbage.files]
        click.echo(json.dumps({"removed": delete, "files": listed, "young": garbage.young}))
    else:
        for item in garbage.files:
            click.echo(f"{printable(item.file.path)}  {format_bytes(item.file.size)}, {item.reason}")
    files = f"{counted(len(garbage.files), 'file', 'files')}, {format_bytes(garbage.size)}"
    note(f"{'removed from' if delete else 'not needed in'} {repository.address}: {files}")
    if garbage.young:
        note(f"{counted(garbage.young, 'file is', 'files are')} not needed either, but younger than {hours:g} hours")
    if garbage.files and garbage.kept and delete:
        note(f"the bytes stay {garbage.kept}")
    elif garbage.files and not delete:
        note("nothing was changed; --delete removes them")


@click.command("verify")
@_location_argument
@_local_option
@_quick_option
@_json_option
@click.pass_obj
def verify_command(home: Home, location: str | None, local: bool, quick: bool, as_json: bool) -> None:
    """Read every version of a place as a pull would, and name what is missing or damaged. Exit code 2 if anything is.

    Downloads every bundle, one at a time, unless --quick is given.
    """
    from abs_descriptions.bundles.maintenance import verify_repository

    repository = _opened(home, location, local)
    _report(repository, verify_repository(repository, quick=quick), as_json)


@click.command("repair")
@_location_argument
@_quick_option
@_json_option
@click.pass_obj
def repair_command(home: Home, location: str | None, quick: bool, as_json: bool) -> None:
    """Verify a place, and write what is missing or damaged there again where the local store has that version whole.

    Exit code 2 if something could not be restored; it is named. Manifests are never changed: one that is broken has to
    be removed by hand and its version pushed again. For a version of the local store use `abs bundle pull`.
    """
    from abs_descriptions.bundles.maintenance import verify_repository

    repository = _opened(home, location, local=False)
    _report(repository, verify_repository(repository, Repository.local(home.bundles), quick=quick), as_json)


def _opened(home: Home, location: str | None, local: bool) -> Repository:
    if local and location is not None:
        raise UsageError("--local does not go with LOCATION", remedy="Leave one out")
    return Repository.local(home.bundles) if local else Repository.open(Remotes(home.remotes).find(location).location)


def _report(repository: Repository, check: RepositoryCheck, as_json: bool) -> None:
    if as_json:
        damaged = [
            {"reference": version.reference, "problem": version.problem.message, "restored": version.restored}
            for version in check.damaged
        ]
        click.echo(json.dumps({"checked": check.checked, "damaged": damaged, "unnamed": check.unnamed}))
    else:
        for version in check.damaged:
            state = "restored" if version.restored else "DAMAGED"
            problem = version.problem.message if version.restored else str(version.problem)
            click.echo(printable(f"{version.reference}  {state}: {problem}"))
    restored = sum(version.restored for version in check.damaged)
    note(
        f"{counted(check.checked, 'version', 'versions')} in {repository.address}: "
        f"{len(check.damaged) - restored} damaged, {restored} restored"
    )
    if check.unnamed:
        note(f"{counted(check.unnamed, 'object has', 'objects have')} no manifest: see `abs bundle gc`")
    if not check.is_sound:
        raise click.exceptions.Exit(ExitCode.ERROR)
