"""``abs label export``: the labels of a folder in the format of another tool."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abs_cli.console import note, progress
from abs_core.text import counted, json_text, printable

if TYPE_CHECKING:
    from abs_classify.labelling.exporters.exports import ExportSummary

__all__ = ["command", "print_export"]

_FORMATS = ("label-studio", "cvat", "coco", "datumaro", "fiftyone", "cleanlab", "imagefolder")


@click.command("export")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("export_format", metavar="FORMAT", type=click.Choice(_FORMATS))
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
def command(folder: Path, export_format: str, *, as_json: bool, **options: Any) -> None:
    """Write the labels of the folder DIR in the format of another tool.

    FORMAT is label-studio, cvat, coco, datumaro, fiftyone, cleanlab or imagefolder. What reviewers decided is ground
    truth there, what the model says a prediction with its confidence. An export is made whole or not at all.

    \b
    abs label export labelled/ label-studio
    abs label export labelled/ imagefolder --links hard --dry-run
    abs label export labelled/ coco --status reviewed --to reviewed-coco/
    """
    from abs_classify.labelling.exporters.exports import ExportOptions, export_labels
    from abs_classify.labelling.label_folder import LabelFolder

    opened = LabelFolder.open(folder)
    is_listing = options["dry_run"] and not as_json
    summary = export_labels(
        opened,
        export_format,
        ExportOptions(**options),
        report=_print_place if is_listing else None,
        progress=progress,
    )
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
