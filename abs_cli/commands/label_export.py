"""``abs label export``: the labels of a folder in the format of another tool."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abs_cli.console import note, progress
from abs_cli.options import model_of_folder, open_feature_store
from abs_cli.plugin_options import plugin_option
from abs_core.home import Home
from abs_core.text import counted, json_text, printable

if TYPE_CHECKING:
    from abs_classify.labelling.exporters.exports import ExportSummary
    from abs_classify.labelling.label_folder import LabelFolder

__all__ = ["FORMATS", "command", "export", "print_export"]

#: what labels can be exported as
FORMATS = ("label-studio", "cvat", "coco", "datumaro", "fiftyone", "cleanlab", "imagefolder")


@click.command("export")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("export_format", metavar="FORMAT", type=click.Choice(FORMATS))
@click.option(
    "--to",
    type=click.Path(path_type=Path),
    metavar="PLACE",
    help="Folder to make.  [default: DIR/exports/FORMAT]",
)
@click.option("--replace", is_flag=True, help="Replace an export that is there.")
@click.option(
    "--links",
    type=click.Choice(["copy", "hard", "symbolic"]),
    help="Bring the images into the export so.  [default: copy for imagefolder; elsewhere they stay where they are]",
)
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="label-studio, cvat, coco: folder that image names start from.  [default: the one that holds them all]",
)
@click.option(
    "--prefix",
    metavar="TEXT",
    help="label-studio: what stands before the names, such as s3://bucket/.  [default: its local files]",
)
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(["labelled", "doubtful", "reviewed"]),
    help="Export these labels only; may be repeated.  [default: all; for imagefolder not the doubtful ones]",
)
@click.option("--dry-run", is_flag=True, help="Write nothing; list what would come where.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@plugin_option
@click.pass_obj
def command(home: Home, /, folder: Path, export_format: str, *, as_json: bool, **options: Any) -> None:
    """Write the labels of the folder DIR in the format of another tool.

    FORMAT is label-studio, cvat, coco, datumaro, fiftyone, cleanlab or imagefolder. What reviewers decided is ground
    truth there, what the model says a prediction with its confidence. An export is made whole or not at all.

    \b
    abs label export labelled/ label-studio
    abs label export labelled/ imagefolder --links hard --dry-run
    abs label export labelled/ coco --status reviewed --to reviewed-coco/
    """
    from abs_classify.labelling.label_folder import LabelFolder

    opened = LabelFolder.open(folder)
    report = _print_place if options["dry_run"] and not as_json else None
    summary = export(home, opened, export_format, report=report, **options)
    if as_json:
        by_class = {opened.classes[position].id: count for position, count in sorted(summary.by_class.items()) if count}
        click.echo(
            json_text(
                {
                    **{"folder": str(summary.folder), "labels": summary.labels, "reviewed": summary.reviewed},
                    **{"by_class": by_class, "left_out": dict(summary.left_out), "opening": summary.opening},
                }
            )
        )
    else:
        print_export(summary, dry_run=options["dry_run"])


def export(
    home: Home,
    folder: LabelFolder,
    export_format: str,
    *,
    report: Callable[[str, str], None] | None = None,
    **options: Any,
) -> ExportSummary:
    """Export the labels of a folder, with the probabilities of all classes where the format takes them.

    Args:
        home: has the features that the probabilities follow from.
        folder, export_format, report, options: as in ``export_labels``.
    """
    from abs_classify.labelling.exporters.exports import ExportOptions, export_labels

    probabilities = None
    if export_format == "cleanlab":
        from abs_classify.labelling.learned import learned_of
        from abs_classify.labelling.reopening import probabilities_of_rows, reopen_labeller

        labeller = reopen_labeller(folder, model_of_folder(home, folder), cache=open_feature_store(home))
        probabilities = probabilities_of_rows(folder, labeller, learned_of(folder))
    return export_labels(
        folder, export_format, ExportOptions(**options), probabilities=probabilities, report=report, progress=progress
    )


def print_export(summary: ExportSummary, *, dry_run: bool = False) -> None:
    """Say what was exported, what was left out, and how to open it."""
    done = "would be exported" if dry_run else "exported"
    labels = counted(summary.labels, "label", "labels")
    click.echo(printable(f"{labels} {done} to {summary.folder} ({summary.reviewed} reviewed)"))
    for reason, count in summary.left_out.items():
        note(f"note: {count} left out: {reason}")
    if not dry_run:
        click.echo(printable(f"open it with {summary.opening}"))


def _print_place(source: str, target: str) -> None:
    click.echo(f"{printable(source)} -> {printable(target)}")
