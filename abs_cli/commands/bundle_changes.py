"""``abs bundle review, yank, rm``: versions reviewed, marked and removed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abs_cli.commands.bundle_merging import print_made, reported_conflicts, settling_options
from abs_cli.completion_values import complete_bundle
from abs_cli.console import note
from abs_cli.options import version_option
from abs_core.errors import UsageError
from abs_core.home import Home
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.versions import find_bundle, refuse_shipped

if TYPE_CHECKING:
    from abs_descriptions.bundles.merge import Settling
    from abs_descriptions.bundles.reader import Bundle

__all__ = ["renumber_command", "review_command", "rm_command", "yank_command"]


@click.command("review")
@click.argument("reference", metavar="BUNDLE", shell_complete=complete_bundle)
@click.option(
    "--out", metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="Folder to write the review file to."
)
@click.option(
    "--read",
    "review_files",
    multiple=True,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Review file (CSV) with decisions; give it again for that of another reviewer.",
)
@click.option(
    "--scores",
    "scores_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Scores to show on the page.  [default: what `abs bundle score` wrote last for this version]",
)
@click.option(
    "--reviewer",
    "reviewers",
    multiple=True,
    metavar="NAME",
    help="Name of the reviewer, recorded in the new version; one for each --read, in their order.",
)
@click.option(
    "--onto",
    metavar="BUNDLE",
    shell_complete=complete_bundle,
    help="With --read: the version that the decisions go onto.",
)
@click.option("--fork", is_flag=True, help="With --read: make a child of the reviewed version, beside newer ones.")
@click.option("--name", metavar="NAME", help="Name of the new bundle.  [default: that of the reviewed one]")
@version_option
@settling_options
@click.option("--json", "as_json", is_flag=True, help="With --read: print JSON, also of the conflicts.")
@click.pass_obj
def review_command(
    home: Home,
    /,
    reference: str,
    out: Path | None,
    scores_file: Path | None,
    review_files: tuple[Path, ...],
    reviewers: tuple[str, ...],
    settling: Settling,
    as_json: bool,
    **options: Any,
) -> None:
    """Write a review file in which a colleague accepts, edits, rejects or adds sentences, or read it back.

    `--out DIR` writes it twice: as CSV for a spreadsheet, and as an HTML page that opens in any browser, needs no
    network and saves the decisions as the same CSV. What `abs bundle score` found stands beside the sentences there.

    `--read FILE --reviewer NAME` makes a child version. Accepted sentences name the reviewer; edited ones too, and
    keep what generated them; rejected ones go to the rejected completions with reason and reviewer. An empty decision
    keeps a sentence. A file with missing, repeated or changed rows is refused; quotes, spaces and numbers that a
    spreadsheet changed are recognized.

    BUNDLE is the version that was reviewed, or one that was made of it. The decisions go onto the newest version made
    of the reviewed one, so that reviews add up; `--onto` names another, `--fork` makes a version beside it. Several
    files of one version (`--read a.csv --reviewer Ann --read b.csv --reviewer Bob`) make one new version. Where they
    say different things, or the sentence was changed meanwhile, that is a conflict; see `abs bundle merge`.

    Exit code 1: there are conflicts; all are listed, and nothing was made.
    """
    from abs_descriptions.bundles.review import ReviewFile, add_reviewed

    if (out is None) == (not review_files):
        raise UsageError(
            "exactly one of --out and --read must be given", remedy="Give --out DIR, or --read FILE --reviewer NAME"
        )
    store = Repository.local(home.bundles)
    if out is not None:
        given = {f"--{key}": value for key, value in options.items()}
        given |= {"--reviewer": reviewers, "--json": as_json, "--conflicts": settling.file}
        given |= {"--on-conflict": settling.rule != "refuse"}
        for option, value in given.items():
            if value:
                raise UsageError(f"{option} needs --read", remedy=f"Leave out {option}, or give --read FILE")
        _write_review(home, find_bundle(store, reference), out, scores_file)
        return
    if scores_file is not None:
        raise UsageError("--scores needs --out", remedy="Leave out --scores, or give --out DIR")
    if len(reviewers) != len(review_files):
        raise UsageError(
            f"every --read needs its --reviewer, got {len(review_files)} and {len(reviewers)}",
            remedy="Give the name of each reviewer: --read FILE --reviewer NAME",
        )
    files = [ReviewFile(*pair) for pair in zip(review_files, reviewers, strict=True)]
    with reported_conflicts(as_json=as_json):
        made = add_reviewed(store, find_bundle(store, reference), files, settling=settling, **options)
        print_made(made, as_json=as_json)


def _write_review(home: Home, bundle: Bundle, out: Path, scores_file: Path | None) -> None:
    from abs_core.bundle_scores import BundleScores
    from abs_descriptions.bundles.review import find_scores, write_review

    scores = find_scores(bundle, home.scores) if scores_file is None else BundleScores.read(scores_file)
    for path in write_review(bundle, out, scores):
        click.echo(str(path))


@click.command("yank")
@click.argument("reference", metavar="NAME@VERSION", shell_complete=complete_bundle)
@click.option(
    "--reason", metavar="TEXT", help="Why the version should not be used; shown wherever the version is named."
)
@click.option("--undo", is_flag=True, help="Withdraw the yank.")
@click.pass_obj
def yank_command(home: Home, reference: str, reason: str | None, undo: bool) -> None:
    """Mark a version of the local store as one that should not be used.

    NAME alone no longer means it. NAME@VERSION still does, with a warning, so that old results can be repeated. Its
    bytes and its digest stay as they are.
    """
    store = Repository.local(home.bundles)
    if undo == (reason is not None):
        raise UsageError("exactly one of --reason and --undo must be given", remedy="Give --reason TEXT or --undo")
    refuse_shipped(store, reference)
    if reason is None:
        click.echo(str(store.undo_yank(reference)))
        return
    yank = store.yank(reference, reason)
    click.echo(f"{yank.name}@{yank.version}#{yank.digest}")
    if all(store.yank_of(manifest) for manifest in store.list(yank.name)):
        note(f"every version of {yank.name} is yanked now; {yank.name!r} without a version is refused from now on")
    else:
        meant = store.resolve(yank.name)
        note(f"{yank.name!r} alone means {meant.name}@{meant.version} now")
    note(f"places that have it learn of the yank by: abs bundle push {yank.name}@{yank.version} LOCATION")


@click.command("renumber")
@click.argument("reference", metavar="NAME@VERSION", shell_complete=complete_bundle)
@version_option
@click.pass_obj
def renumber_command(home: Home, reference: str, version: str | None) -> None:
    """Give a version of the local store another number, when a colleague has pushed another one of its number.

    Content, parents and date stay as they are; the digest is another one, and the old number is gone. So this is for
    a version that nobody else has. One that others in the store were made of keeps its number.
    """
    from abs_descriptions.bundles.versions import renumber_version

    store = Repository.local(home.bundles)
    refuse_shipped(store, reference)
    click.echo(str(renumber_version(store, reference, version)))


@click.command("rm")
@click.argument("reference", metavar="NAME@VERSION", shell_complete=complete_bundle)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Remove it even if a version of the local store names it as a parent.")
@click.pass_obj
def rm_command(home: Home, reference: str, yes: bool, force: bool) -> None:
    """Remove a version from the local store, with its rejected completions.

    Its bytes are gone then, unless there is a copy elsewhere. To keep a version and only warn of it, use
    `abs bundle yank`.
    """
    store = Repository.local(home.bundles)
    refuse_shipped(store, reference)
    manifest = store.resolve_version(reference)
    children = [] if force else [f"{child.name}@{child.version}" for child in store.children(manifest)]
    if children:
        raise UsageError(
            f"{manifest.name}@{manifest.version} is a parent of {', '.join(children[:5])}",
            remedy="Give --force to remove it anyway",
        )
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"removing {manifest} must be confirmed", remedy="Give --yes")
        if not click.confirm(f"Remove {manifest} with {manifest.counts.records} descriptions?", err=True):
            note("nothing was removed")
            return
    store.remove(reference)
    note(f"removed {manifest}")
