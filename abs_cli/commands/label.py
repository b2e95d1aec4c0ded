"""``abs label``: images from anywhere in, a table of labels out; and what is done with a labelled folder."""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from abs_cli.commands.label_export import FORMATS, export, print_export
from abs_cli.completion_values import complete_labels, complete_method, complete_templates
from abs_cli.console import note, note_work, progress
from abs_cli.engine_options import engine_options
from abs_cli.exit_codes import ExitCode
from abs_cli.options import (
    ModelOptions,
    choose_label_space,
    class_options,
    model_options,
    open_feature_store,
    shard_option,
    truncated_option,
    views_options,
)
from abs_cli.settings import apply_settings
from abs_core.errors import UnknownNameError, did_you_mean
from abs_core.home import Home
from abs_core.text import json_text, printable

if TYPE_CHECKING:
    from abs_classify.labelling.exporters.exports import ExportSummary
    from abs_classify.labelling.run import LabelRun
    from abs_classify.labelling.summary import LabelSummary

__all__ = ["command"]

#: sub-command -> (module of abs_cli.commands, the line that ``--help`` shows)
SUBCOMMANDS = {
    "review": ("label_review", "Look at the labels of a folder in a browser, and correct them."),
    "merge": ("label_merge", "Put what reviewers decided into the tables of a folder, or shares of images together."),
    "learn": ("label_learn", "Learn from what reviewers decided, and label the rest anew."),
    "export": ("label_export", "Write the labels of a folder in the format of another tool."),
}


class _LabelCommand(click.Command):
    """A command with sub-commands: the first word decides."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """The context of the sub-command that the first word names, else of this command."""
        if args and args[0] in SUBCOMMANDS:
            subcommand = self.subcommand(args[0])
            remark = "" if parent is None else apply_settings(parent, f"{info_name} {args[0]}", subcommand, args[1:])
            if remark:
                note(remark)
            return subcommand.make_context(f"{info_name} {args[0]}", args[1:], parent=parent, **extra)
        if args and not extra.get("resilient_parsing") and _is_misspelled_subcommand(args[0]):
            raise UnknownNameError("command", args[0], SUBCOMMANDS, remedy=f"See `abs {info_name} --help`")
        return super().make_context(info_name, args, parent=parent, **extra)

    @property
    def subcommands(self) -> list[str]:
        """The names of the sub-commands."""
        return list(SUBCOMMANDS)

    @staticmethod
    def subcommand(name: str) -> click.Command:
        """The sub-command of that name."""
        command: click.Command = importlib.import_module(f"abs_cli.commands.{SUBCOMMANDS[name][0]}").command
        return command

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("With a labelled folder (a source of such a name is written ./review)"):
            formatter.write_dl([(f"{ctx.command_path} {name}", line) for name, (_, line) in SUBCOMMANDS.items()])


def _complete_source(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """A path, or as the first word a sub-command."""
    is_first = bool(incomplete) and not ctx.params.get("sources")
    names = [name for name in SUBCOMMANDS if name.startswith(incomplete)] if is_first else []
    return [*map(CompletionItem, names), CompletionItem(incomplete, type="file")]


def _is_misspelled_subcommand(word: str) -> bool:
    """Whether the first word is no source, and close to the name of a sub-command."""
    return word.isalpha() and not Path(word).exists() and bool(did_you_mean(word, list(SUBCOMMANDS)))


@click.command("label", cls=_LabelCommand)
@click.argument(
    "sources",
    nargs=-1,
    required=True,
    metavar="SOURCE...",
    type=click.Path(path_type=str),
    shell_complete=_complete_source,
)
@class_options
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    metavar="DIR",
    help="Folder for the labels: a new one, or that of the same run, which then resumes.",
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(["csv", "jsonl", "parquet"]),
    help="Table to write beside labels.csv; may be repeated.",
)
@click.option(
    "--method",
    default="abs",
    show_default=True,
    metavar="NAME",
    help="Method; see `abs methods`.",
    shell_complete=complete_method,
)
@views_options
@click.option(
    "--templates",
    default="plain",
    show_default=True,
    metavar="SET",
    help="Template set of clip-e: the id of a shipped set, or a YAML file.",
    shell_complete=complete_templates,
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    metavar="C",
    help="Confidence below which a label is doubtful.  [default: depends on the number of classes]",
)
@click.option("--none", is_flag=True, help='Reject images that are like none of the classes ("none of these").')
@click.option(
    "--negatives",
    metavar="NAMES",
    shell_complete=complete_labels,
    help="With --none: names of what the images may show besides the classes, as for --labels.",
)
@click.option(
    "--boxes",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Label the boxes of images: a COCO file, or a YOLO data.yaml or folder of label files.",
)
@click.option("--doubtful-first", is_flag=True, help="Put the least certain rows first when the run has ended.")
@click.option(
    "--export",
    "exports",
    multiple=True,
    type=click.Choice(FORMATS),
    help="Export the labels to DIR/exports/FORMAT when the run has ended; may be repeated. See `abs label export`.",
)
@truncated_option
@shard_option
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@model_options
@engine_options
@click.pass_obj
def command(
    home: Home,
    /,
    sources: tuple[str, ...],
    bundle: str | None,
    labels: str | None,
    formats: tuple[Any, ...],
    views: Any,
    negatives: str | None,
    exports: tuple[str, ...],
    as_json: bool,
    **settings: Any,
) -> None:
    """Label images, as many as there are: a folder, files, archives, lists, tables, data sets.

    DIR/labels.csv gets a row for each image while the run goes on. The same command resumes a run that was stopped,
    and adds new images to one that was finished. Every other command uses what was computed.

    \b
    abs label photos/ --bundle birds --out labelled/
    abs label photos.zip @more.txt --labels "cat,dog" --none --out labelled/
    abs label review labelled/

    Exit code 3: an image could not be labelled; its row says why.
    """
    from abs_classify import label
    from abs_core.labels import read_labels

    start = time.monotonic()
    model = ModelOptions.taken_from(settings)
    run = label(
        sources,
        choose_label_space(home, bundle, labels),
        model=model.stages(home).models,
        seed=model.seed,
        batch_size=model.batch_size,
        cache=open_feature_store(home),
        views=views or "adaptive",
        negatives=() if negatives is None else tuple(read_labels(negatives).names.values()),
        formats=("csv", *formats),
        progress=progress,
        settings=model.opening,
        **settings,
    )
    for _ in run:
        pass
    assert run.folder is not None  # there is --out
    # an export of these labels that is there is made anew; anything else in its place is refused
    summary = run.summary()
    _report(run, summary, [export(home, run.folder, name, replace=True) for name in exports], as_json=as_json)
    note_work(run.work, time.monotonic() - start)
    if summary.statuses["failed"]:
        raise click.exceptions.Exit(ExitCode.PARTIAL)


def _report(run: LabelRun, summary: LabelSummary, exports: Sequence[ExportSummary], *, as_json: bool) -> None:
    """Print the summary and what was exported, and say what was left out."""
    assert run.folder is not None  # there is --out
    for remark in (*run.remarks, *run.notes):
        note(f"note: {remark}")
    if as_json:
        value: Mapping[str, Any] = {"folder": str(run.folder.path), **summary.to_dict()}
        value = {**value, "remarks": [remark.as_json() for remark in run.remarks]}
        click.echo(json_text({**value, "exports": [str(exported.folder) for exported in exports]}))
        return
    for line in summary.lines():
        click.echo(printable(line))
    click.echo(printable(f"labels: {run.folder.path / 'labels.csv'}"))
    if summary.statuses["doubtful"]:
        note(f"hint: doubtful labels come first in: abs label review {run.folder.path}")
    for exported in exports:
        print_export(exported)
