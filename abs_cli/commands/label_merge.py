"""``abs label merge``: decisions into tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abs_cli.console import note
from abs_cli.exit_codes import ExitCode
from abs_core.text import counted, printable

if TYPE_CHECKING:
    from abs_classify.labelling.effective import ReviewSummary

__all__ = ["command"]


@click.command("merge")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("others", nargs=-1, metavar="[FILE|DIR]...", type=click.Path(path_type=Path))
@click.option(
    "--prefer",
    metavar="REVIEWER",
    default="",
    help="Who is right where reviewers disagree; kept as decisions of that reviewer.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(folder: Path, others: tuple[Path, ...], prefer: str, as_json: bool) -> None:
    """Put what reviewers decided into the tables of a folder.

    Decided images have the status "reviewed" and the decided label, or none if they show none of the classes. Images on
    which reviewers disagree stay as they are, and are listed.

    Further arguments are decisions to take in first: the file that a page without a server saved, or the folder of a
    colleague. What is there already is not added again.

    Exit code 1: reviewers disagree on an image.
    """
    from abs_classify.labelling.label_folder import LabelFolder
    from abs_classify.labelling.merging import merge_decisions, take_in_decisions

    labelled = LabelFolder.open(folder)
    added, left_out = take_in_decisions(labelled, others)
    summary = merge_decisions(labelled, prefer)
    for text in (*left_out, *map(str, summary.remarks.remarks)):
        note(f"note: {text}")
    if as_json:
        click.echo(json.dumps(_as_json(summary, added)))
    else:
        if others:
            click.echo(f"taken in: {counted(added, 'new decision', 'new decisions')}")
        _print(summary)
    if summary.conflict_count:
        raise click.exceptions.Exit(ExitCode.FINDING)


def _print(summary: ReviewSummary) -> None:
    decided = summary.accepted + summary.corrected + summary.rejected
    click.echo(
        f"reviewed: {counted(decided, 'image', 'images')} ({summary.accepted:,} accepted, "
        f"{summary.corrected:,} corrected, {summary.rejected:,} none of the classes); {summary.undecided:,} undecided"
    )
    if summary.accuracy is not None:
        share, low, high = (100 * value for value in summary.accuracy)
        click.echo(
            f"right: {share:.1f} % of the {counted(summary.drawn, 'image', 'images')} drawn at random "
            f"(95 % interval {low:.1f} to {high:.1f} %)"
        )
    elif decided:
        click.echo("right: unknown, since no image drawn at random was reviewed")
    for path, said in summary.conflicts:
        click.echo(printable(f"conflict: {path}: {'; '.join(said)}"))
    if summary.conflict_count > len(summary.conflicts):
        click.echo(f"and {summary.conflict_count - len(summary.conflicts):,} more conflicts")


def _as_json(summary: ReviewSummary, added: int) -> dict[str, Any]:
    accuracy = summary.accuracy
    return {
        "added": added,
        "accepted": summary.accepted,
        "corrected": summary.corrected,
        "rejected": summary.rejected,
        "undecided": summary.undecided,
        "conflicts": summary.conflict_count,
        "drawn": summary.drawn,
        "drawn_right": summary.drawn_right,
        "accuracy": None if accuracy is None else dict(zip(("share", "low", "high"), accuracy, strict=True)),
        "remarks": [remark.as_json() for remark in summary.remarks.remarks],
    }
