"""``abs bundle merge, review, yank, rm``: versions made of others, marked and removed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import click

from abs_cli.completion_values import complete_bundle, complete_labels
from abs_cli.console import note
from abs_cli.options import license_option, version_option
from abs_core.errors import UsageError
from abs_core.home import Home
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.versions import find_bundle, refuse_shipped

__all__ = ["merge_command", "review_command", "rm_command", "yank_command"]


@click.command("merge")
@click.argument("references", nargs=-1, required=True, metavar="BUNDLE BUNDLE...", shell_complete=complete_bundle)
@click.option("--name", metavar="NAME", help="Name of the new bundle.  [default: that of the first]")
@version_option
@click.option(
    "--on-conflict",
    type=click.Choice(["refuse", "first"]),
    default="refuse",
    show_default=True,
    help="Where two bundles disagree: refuse to merge, or keep what the one named first says.",
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
@click.pass_obj
def merge_command(
    home: Home,
    references: tuple[str, ...],
    name: str | None,
    version: str | None,
    on_conflict: Literal["refuse", "first"],
    labels: str | None,
    license_name: str | None,
) -> None:
    """Make one bundle from several, as a new version in the local store. Its header names them all as parents.

    Classes are matched by id. Within a class the descriptions of the first bundle come first, then what the others add;
    a text that is already there is dropped, and the earlier record stays with its provenance and scores.

    A conflict is one text that is a sentence here and a phrase there, or one record id with two texts. With
    `--on-conflict first` the later record loses: its text, or its id. A class id with two names is always refused.
    Different label sets or notes are refused unless you give --labels, different licenses unless you give --license.

    A text that a reviewer rejected or replaced in one bundle is left out, even if another one has it. Bundles with a
    common parent in the store, such as two reviews of one version, are merged three ways: the result has what one of
    them accepted, edited or removed; two different changes are a conflict. docs/bundle-format.md has every rule.
    """
    from abs_core.labels import read_labels
    from abs_descriptions.bundles.merge import add_merged

    store = Repository.local(home.bundles)
    manifest = add_merged(
        store,
        [find_bundle(store, reference) for reference in references],
        name=name,
        version=version,
        label_set=None if labels is None else read_labels(labels),
        license=license_name,
        on_conflict=on_conflict,
    )
    click.echo(str(manifest))


@click.command("review")
@click.argument("reference", metavar="BUNDLE", shell_complete=complete_bundle)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder to write the review file to.")
@click.option(
    "--read",
    "review_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Review file (CSV) with decisions.",
)
@click.option(
    "--scores",
    "scores_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Scores to show on the page.  [default: what `abs bundle score` wrote last for this version]",
)
@click.option("--reviewer", metavar="NAME", help="Name of the reviewer; recorded in the new version.")
@click.option("--name", metavar="NAME", help="Name of the new bundle.  [default: that of the reviewed one]")
@version_option
@click.pass_obj
def review_command(
    home: Home,
    reference: str,
    out: Path | None,
    review_file: Path | None,
    scores_file: Path | None,
    reviewer: str | None,
    name: str | None,
    version: str | None,
) -> None:
    """Write a review file in which a colleague accepts, edits or rejects sentences, or read it back.

    `--out DIR` writes it twice: as CSV for a spreadsheet, and as an HTML page that opens in any browser, needs no
    network and saves the decisions as the same CSV. What `abs bundle score` found stands beside the sentences there.

    `--read FILE --reviewer NAME` makes a child version. Accepted sentences name the reviewer; edited ones too, and
    keep what generated them; rejected ones go to the rejected completions with reason and reviewer. An empty decision
    keeps a sentence. A file of another bundle, or one with missing, repeated or changed rows, is refused.
    """
    from abs_core.bundle_scores import BundleScores
    from abs_descriptions.bundles.review import add_reviewed, find_scores, write_review

    if (out is None) == (review_file is None):
        raise UsageError(
            "exactly one of --out and --read must be given", remedy="Give --out DIR, or --read FILE --reviewer NAME"
        )
    store = Repository.local(home.bundles)
    if out is not None:
        for option, value in (("--reviewer", reviewer), ("--name", name), ("--version", version)):
            if value is not None:
                raise UsageError(f"{option} needs --read", remedy=f"Leave out {option}, or give --read FILE")
        bundle = find_bundle(store, reference)
        scores = find_scores(bundle, home.scores) if scores_file is None else BundleScores.read(scores_file)
        for path in write_review(bundle, out, scores):
            click.echo(str(path))
        return
    if scores_file is not None:
        raise UsageError("--scores needs --out", remedy="Leave out --scores, or give --out DIR")
    if reviewer is None or review_file is None:
        raise UsageError("--read needs --reviewer", remedy="Give the name of the reviewer: --reviewer NAME")
    bundle = find_bundle(store, reference)
    click.echo(add_reviewed(store, bundle, review_file, reviewer=reviewer, name=name, version=version))


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
