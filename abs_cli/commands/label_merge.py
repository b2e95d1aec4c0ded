"""``abs label merge``: decisions into tables."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abs_cli.console import note
from abs_cli.exit_codes import ExitCode
from abs_core.errors import UsageError
from abs_core.text import counted, printable

if TYPE_CHECKING:
    from abs_classify.labelling.effective import ReviewSummary

__all__ = ["command"]


@click.command("merge")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("others", nargs=-1, metavar="[FILE|DIR]...", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Put the folders of all shares (`abs label --shard`) together into this new folder.",
)
@click.option("--doubtful-first", is_flag=True, help="With --out: put the least certain rows first.")
@click.option(
    "--prefer",
    metavar="REVIEWER",
    default="",
    help="Who is right where reviewers disagree; kept as decisions of that reviewer.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    folder: Path, others: tuple[Path, ...], out: Path | None, doubtful_first: bool, prefer: str, as_json: bool
) -> None:
    """Put what reviewers decided into the tables of a folder, or the folders of shares together.

    Decided images have the status "reviewed" and the decided label, or none if they show none of the classes. Images on
    which reviewers disagree stay as they are, and are listed.

    Further arguments are decisions to take in first: the file that a page without a server saved, or the folder of a
    colleague. What is there already is not added again.

    With --out, all arguments are folders of shares, of which a new folder is made, with the rows that one run over all
    images would have made, in the order of the source, and with what reviewers decided. A share that is missing, not
    finished, appears twice or is of another run is refused.

    \b
    abs label merge labelled/ colleague/
    abs label merge shares/1 shares/2 shares/3 --out labelled/

    Exit code 1: reviewers disagree on an image.
    """
    from abs_classify.labelling.label_folder import LabelFolder
    from abs_classify.labelling.merging import merge_decisions, take_in_decisions

    if out is not None:
        _merge_shares([folder, *others], out, prefer, doubtful_first=doubtful_first, as_json=as_json)
        return
    if doubtful_first:
        raise UsageError("--doubtful-first has no effect without --out", remedy="Leave it out")
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


def _merge_shares(folders: Sequence[Path], out: Path, prefer: str, *, doubtful_first: bool, as_json: bool) -> None:
    """Put shares together and print what there is, as `abs label` does."""
    from abs_classify import merge_labels
    from abs_classify.labelling.summary import LabelSummary

    start = time.monotonic()
    merged, review = merge_labels(folders, out, prefer=prefer, doubtful_first=doubtful_first)
    summary = LabelSummary.of_folder(merged, 0, time.monotonic() - start)
    if as_json:
        click.echo(json.dumps({"folder": str(merged.path), **summary.to_dict()}))
    else:
        for line in summary.lines():
            click.echo(printable(line))
        click.echo(printable(f"labels: {merged.path / 'labels.csv'}"))
    if review.conflict_count:
        note(f"note: reviewers disagree on {counted(review.conflict_count, 'image', 'images')}")
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
