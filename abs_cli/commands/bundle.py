"""``abs bundle`` and its commands ``show, validate``: what is in a bundle, whether it is sound."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from abs_cli.commands.bundle_signing import verify_option
from abs_cli.completion_values import complete_bundle
from abs_cli.console import LazyGroup, note
from abs_cli.exit_codes import ExitCode
from abs_core.errors import AbsError
from abs_core.home import Home
from abs_core.text import json_text, printable

if TYPE_CHECKING:
    from abs_descriptions.bundles import Bundle, BundleHeader, Generator
    from abs_descriptions.bundles.repository import Repository

__all__ = ["command"]

#: command -> (module under abs_cli.commands and name in it, the line that `abs bundle --help` shows)
COMMANDS = {
    "ls": ("bundle_history:list_command", "List the bundles of the local store and those that ship with the toolkit."),
    "log": ("bundle_history:log_command", "Show what a bundle was made of: versions, dates, authors, what changed."),
    "show": ("bundle:show_command", "Show the header and the sentences of a bundle."),
    "validate": ("bundle:validate_command", "Check every rule of the format."),
    "score": ("bundle_scoring:score_command", "Say which sentences of a bundle help and which hurt, on images."),
    "diff": ("bundle_history:diff_command", "Show what one bundle has that another has not, by class and sentence."),
    "test": (
        "bundle_testing:command",
        "Test what a change of descriptions wins and loses on labelled images; the exit code is for CI.",
    ),
    "edit": ("bundle_merging:edit_command", "Change the sentences of a bundle in an editor or a CSV."),
    "merge": ("bundle_merging:merge_command", "Make one bundle from several."),
    "rewrite": (
        "bundle_rewriting:rewrite_command",
        "Write descriptions for the classes that images confuse, and keep them if they help.",
    ),
    "review": (
        "bundle_changes:review_command",
        "Let a colleague decide on every sentence in a file, and read it back.",
    ),
    "import": ("bundle_sharing:import_command", "Make a bundle from another tool's file, or add bundles from files."),
    "export": ("bundle_sharing:export_command", "Write a bundle in another tool's format."),
    "push": ("bundle_sharing:push_command", "Copy a bundle to a folder, a bucket or the Hugging Face hub."),
    "pull": (
        "bundle_sharing:pull_command",
        "Fetch a bundle from a folder, a bucket, a web server or the Hugging Face hub, and check it.",
    ),
    "sign": ("bundle_signing:sign_command", "Vouch for a version with an SSH key of your own."),
    "verify": ("bundle_maintenance:verify_command", "Read every version of a place as a pull would, and name damage."),
    "repair": ("bundle_maintenance:repair_command", "Restore what is damaged in a place from the local store."),
    "gc": ("bundle_maintenance:gc_command", "Find, and remove, what nothing in a place needs."),
    "remote": ("bundle_remotes:remote_group", "Name the places that bundles are pushed to and pulled from."),
    "yank": ("bundle_changes:yank_command", "Mark a version as one that should not be used, and say why."),
    "renumber": ("bundle_changes:renumber_command", "Give a version that nobody else has another number."),
    "rm": ("bundle_changes:rm_command", "Remove a version from the local store."),
}


@click.group("bundle", cls=LazyGroup, package="abs_cli.commands", table=COMMANDS)
def command() -> None:
    """List, show, check, compare, change, review and share description bundles."""


@click.command("show")
@click.argument("reference", metavar="BUNDLE", shell_complete=complete_bundle)
@click.option("--class", "class_label", metavar="CLASS", help="Show only this class, by id or name.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print JSON lines: the header, then the records with provenance and scores.",
)
@click.pass_obj
def show_command(home: Home, reference: str, class_label: str | None, as_json: bool) -> None:
    """Show the header and the sentences of a bundle: NAME, NAME@VERSION, a pinned reference or a file."""
    from abs_descriptions.bundles.repository import Repository
    from abs_descriptions.bundles.versions import find_bundle

    store = Repository.local(home.bundles)
    bundle = find_bundle(store, reference)
    class_id = None if class_label is None else bundle.header.label_set.resolve(class_label).id
    if as_json:
        for line in _json_lines(bundle, class_id):
            click.echo(json_text(json.loads(line)))
        return
    click.echo("\n".join(_header_lines(store, bundle)))
    names = bundle.header.label_set.names
    current = None
    for record in bundle.records():
        if class_id is not None and record.class_id != class_id:
            continue
        if record.class_id != current:
            current = record.class_id
            click.echo(f"\n{printable(names[current])} ({printable(current)})")
        click.echo(f"  {printable(record.text)}")


def _json_lines(bundle: Bundle, class_id: str | None) -> Iterator[str]:
    """Header and records as the format has them, with provenance and scores."""
    from abs_descriptions.bundles.codec import serialize_header, serialize_record

    yield serialize_header(bundle.header)
    for record in bundle.records():
        if class_id is None or record.class_id == class_id:
            yield serialize_record(record)


def _header_lines(store: Repository, bundle: Bundle) -> Iterable[str]:
    from abs_descriptions.bundles.history import has_version

    header = bundle.header
    sources = [record.provenance for record in bundle.records()]
    accepted = sum(source.accepted_by is not None for source in sources)
    edited = sum(source.edited_by is not None for source in sources)
    reviewed = f" ({accepted} accepted, {edited} edited)" if accepted or edited else ""
    yield printable(bundle.reference)
    yield f"  created    {header.created}"
    yield f"  label set  {printable(header.label_set.name)}, {_count_classes(header)}"
    yield f"  records    {header.counts.records}{reviewed}, rejected {header.counts.rejected}"
    for generator in header.generators:
        yield f"  generator  {printable(generator.backend)} {printable(generator.model or '')}{_reason(generator)}"
    yield f"  license    {printable(header.license)}"
    for parent in header.parents:
        yield f"  parent     {printable(parent)}{'' if has_version(store, parent) else ' (not here)'}"
    if not header.complete:
        yield "  PARTIAL: a class has no description, or the run that wrote them ended early"


def _reason(generator: Generator) -> str:
    """The two classes that what it wrote tells apart, where a rewriting says so; behind a space."""
    confusion = generator.parameters.get("confusion")
    classes = confusion.get("classes") if isinstance(confusion, dict) else None
    if not isinstance(classes, list) or len(classes) != 2:
        return ""
    return f" for {printable(str(classes[0]), 60)} / {printable(str(classes[1]), 60)}"


def _count_classes(header: BundleHeader) -> str:
    total, described = len(header.label_set.classes), header.counts.classes
    return f"{total} classes" if described == total else f"{total} classes, {described} of them with descriptions"


@click.command("validate")
@click.argument("references", nargs=-1, required=True, metavar="BUNDLE...", shell_complete=complete_bundle)
@verify_option
@click.pass_obj
def validate_command(home: Home, references: tuple[str, ...], signers_file: Path | None) -> None:
    """Check every rule of the format, and print the full reference of each valid bundle. Exit code 2 if any is not.

    With --verify also who vouches for it: the bundle must be in the local store then, where its signatures are.
    """
    from abs_descriptions.bundles.repository import Repository
    from abs_descriptions.bundles.signatures import verify_bundle
    from abs_descriptions.bundles.signers import read_signers
    from abs_descriptions.bundles.versions import find_bundle

    signers = None if signers_file is None else read_signers(signers_file)
    store, broken = Repository.local(home.bundles), 0
    for reference in references:
        try:
            pinned = find_bundle(store, reference).reference
            if signers is not None:
                note(f"signed by {', '.join(verify_bundle(store, store.resolve(pinned), signers))}")
            click.echo(pinned)
        except AbsError as error:
            if click.get_current_context().meta["debug"]:
                raise
            broken += 1
            note(f"abs: error: {error}", logging.ERROR)
    if broken:
        raise click.exceptions.Exit(ExitCode.ERROR)
