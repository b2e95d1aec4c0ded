"""``abs bundle merge, edit``: versions made of others and by hand; what is done with conflicts."""

from __future__ import annotations

import functools
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from abs_cli.completion_values import complete_bundle, complete_labels
from abs_cli.console import note
from abs_cli.exit_codes import ExitCode
from abs_cli.identity import own_name
from abs_cli.options import license_option, version_option
from abs_core.errors import AbsError, UsageError
from abs_core.home import Home
from abs_core.text import counted, json_text

__all__ = ["edit_command", "merge_command", "print_made", "reported_conflicts", "settling_options"]

F = TypeVar("F", bound=Callable[..., Any])


def settling_options(function: F) -> F:
    """Add ``--on-conflict``, ``--conflicts`` and ``--decided-by``; the command gets a ``settling``."""
    options = (
        click.option(
            "--on-conflict",
            "rule",
            # conflicts.RULES, which is not imported to show a help text
            type=click.Choice(["refuse", "first", "last", "newest", "keep", "reject"]),
            default="refuse",
            show_default=True,
            help="Where bundles say different things of a sentence: refuse; what the one named first, named last or "
            "made last says holds; keep the sentence, an edit before an acceptance; or reject it.",
        ),
        click.option(
            "--conflicts",
            "conflict_file",
            metavar="FILE",
            type=click.Path(dir_okay=False, path_type=Path),
            help="CSV in which conflicts are decided by hand: written if it does not exist, else read.",
        ),
        click.option(
            "--decided-by",
            metavar="NAME",
            help="Who filled in --conflicts.  [default: user.name of git, or your login name]",
        ),
    )

    @functools.wraps(function)
    def command(*args: Any, rule: Any, conflict_file: Path | None, decided_by: str | None, **kwargs: Any) -> Any:
        from abs_descriptions.bundles.merge import Settling

        if decided_by is not None and conflict_file is None:
            raise UsageError(
                "--decided-by needs --conflicts", remedy="Leave out --decided-by, or give --conflicts FILE"
            )
        who = decided_by if decided_by is not None or conflict_file is None else own_name()
        return function(*args, settling=Settling(rule, conflict_file, who), **kwargs)

    for option in reversed(options):
        command = option(command)
    return command  # type: ignore[return-value]


@contextmanager
def reported_conflicts(*, as_json: bool) -> Iterator[None]:
    """List conflicts that are left, and end with exit code 1."""
    from abs_descriptions.bundles.conflicts import MergeConflictError, conflict_lines, conflict_value

    try:
        yield
    except MergeConflictError as error:
        if as_json:
            conflicts = [conflict_value(conflict, error.sides) for conflict in error.conflicts]
            click.echo(json_text({"reference": None, "conflicts": conflicts}))
        else:
            for line in conflict_lines(error.conflicts, error.sides):
                note(f"conflict: {line}", logging.ERROR)
        left = counted(len(error.conflicts), "conflict is", "conflicts are")
        note(f"abs: {left} left, so there is no new version. {error.remedy}.", logging.ERROR)
        raise click.exceptions.Exit(ExitCode.FINDING) from error


def print_made(reference: object, *, as_json: bool) -> None:
    """Print the pinned reference of the version that was made."""
    click.echo(json.dumps({"reference": str(reference), "conflicts": []}) if as_json else str(reference))


@click.command("merge")
@click.argument("references", nargs=-1, required=True, metavar="BUNDLE BUNDLE...", shell_complete=complete_bundle)
@click.option("--name", metavar="NAME", help="Name of the new bundle.  [default: that of the first]")
@version_option
@settling_options
@click.option(
    "--two-way",
    is_flag=True,
    help="Merge without the common parent: what only one bundle removed without a reviewer comes back.",
)
@click.option(
    "--labels",
    metavar="LABELS",
    help="Label set of the new bundle, if those of the bundles differ; must have all their classes.",
    shell_complete=complete_labels,
)
@license_option(
    metavar="SPDX",
    help="License of the new bundle, if those of the bundles differ.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, also of the conflicts.")
@click.pass_obj
def merge_command(
    home: Home,
    /,
    references: tuple[str, ...],
    labels: str | None,
    license_name: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Make one bundle from several, as a new version in the local store. Its header names them all as parents.

    Bundles with a common parent, such as two reviews of one version, are merged three ways: the result has what one
    of them accepted, edited, removed or added. Others are joined: within a class the descriptions of the first bundle
    come first, then what the others add; a text that is already there stays once, with the earlier provenance. A text
    that a reviewer rejected or replaced in one bundle is left out, even if another one has it.

    Two different decisions on one sentence are a conflict; so are a text that one bundle accepted and another one
    rejected, one that is a sentence here and a phrase there, and a record id with two texts. All are listed. Decide
    them by hand: `--conflicts FILE` writes a CSV with a row for each, in which you write `first`, `second`, `accept`,
    `edit` or `reject`; the same command then reads it. Or decide by a rule with `--on-conflict`.

    A class id with two names is always refused. Different label sets or notes are refused unless you give --labels,
    different licenses unless you give --license. docs/merging.md has an example, docs/bundle-format.md every rule.

    Exit code 1: there are conflicts, and nothing was made.
    """
    from abs_core.labels import read_labels
    from abs_descriptions.bundles.merge import add_merged
    from abs_descriptions.bundles.repository import Repository
    from abs_descriptions.bundles.versions import find_bundle

    store = Repository.local(home.bundles)
    with reported_conflicts(as_json=as_json):
        manifest = add_merged(
            store,
            [find_bundle(store, reference) for reference in references],
            label_set=None if labels is None else read_labels(labels),
            license=license_name,
            **options,
        )
        print_made(manifest, as_json=as_json)


@click.command("edit")
@click.argument("reference", metavar="BUNDLE", shell_complete=complete_bundle)
@click.option(
    "--from",
    "file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Edited CSV to read, in place of an editor.",
)
@click.option(
    "--reviewer", metavar="NAME", help="Who edits; recorded.  [default: user.name of git, or your login name]"
)
@click.option("--onto", metavar="BUNDLE", shell_complete=complete_bundle, help="The version that the edits go onto.")
@click.option("--fork", is_flag=True, help="Make a child of the edited version, beside newer ones.")
@click.option("--name", metavar="NAME", help="Name of the new bundle.  [default: that of the edited one]")
@version_option
@settling_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON, also of the conflicts.")
@click.pass_obj
def edit_command(
    home: Home, /, reference: str, file: Path | None, reviewer: str | None, as_json: bool, **options: Any
) -> None:
    """Change the sentences of a bundle by hand: in $VISUAL or $EDITOR, or in a CSV that was edited.

    Change a text in its row, remove a row to remove a sentence, add a row with an empty cell `row` for a new one.
    Sentences that you leave alone keep their records. Changed ones name you and keep what generated them; removed ones
    go to the rejected completions; new ones have you as their source. The new version's parent is BUNDLE, or the newest
    version made of it, as with `abs bundle review`.

    An editor that fails or changes nothing leaves nothing behind. If the edited text cannot be read, it is kept, and
    the message says where. `--from` also takes an export of the bundle in CSV.

    Exit code 1: there are conflicts with what was changed meanwhile; all are listed, and nothing was made.
    """
    from abs_descriptions.bundles.edited import add_edited, write_edit_file
    from abs_descriptions.bundles.repository import Repository
    from abs_descriptions.bundles.versions import find_bundle

    store = Repository.local(home.bundles)
    bundle = find_bundle(store, reference)
    who = reviewer or own_name()
    if file is not None:
        with reported_conflicts(as_json=as_json):
            print_made(add_edited(store, bundle, file, reviewer=who, **options), as_json=as_json)
        return
    with _edited_file(f"{bundle.header.name}-{bundle.header.version}.csv") as path:
        write_edit_file(bundle, path)
        if not _open_editor(path):
            note("nothing was changed, so there is no new version")
            print_made(bundle.reference, as_json=as_json)
            return
        with reported_conflicts(as_json=as_json):
            print_made(add_edited(store, bundle, path, reviewer=who, **options), as_json=as_json)


@contextmanager
def _edited_file(name: str) -> Iterator[Path]:
    """Where to write a file for an editor. It is removed, unless what was written into it cannot be used."""
    folder = Path(tempfile.mkdtemp(prefix="abs-edit-"))
    path = folder / name
    try:
        yield path
    except _EditorError:
        _remove(path)
        raise
    except AbsError as error:
        error.remedy += f"; what you wrote is kept in {str(path)!r}: give it with --from"
        raise
    except click.exceptions.Exit:
        note(f"what you wrote is kept in {str(path)!r}: give it with --from")
        raise
    else:
        _remove(path)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.parent.rmdir()


class _EditorError(UsageError):
    """The editor failed, and nothing was changed."""


def _open_editor(path: Path) -> bool:
    """Whether the editor changed the file.

    Raises:
        UsageError: there is no editor, or it fails; if it has changed the file before, the error is no _EditorError.
    """
    if not any(os.environ.get(variable) for variable in ("VISUAL", "EDITOR")) and not sys.stdin.isatty():
        raise _EditorError("there is no editor to open", remedy="Set VISUAL or EDITOR, or give --from FILE")
    before = path.read_bytes()
    try:
        click.edit(filename=str(path))
    except click.ClickException as error:
        kind = _EditorError if path.is_file() and path.read_bytes() == before else UsageError
        raise kind(
            error.format_message(), remedy="Set VISUAL or EDITOR to one that waits until the file is closed"
        ) from None
    return path.read_bytes() != before
