"""``abs bundle review``: a colleague decides on every sentence, on a sheet."""

from __future__ import annotations

from pathlib import Path

import click

from abs_core.errors import UsageError
from abs_core.home import Home

__all__ = ["command"]


@click.command("review")
@click.argument("reference", metavar="BUNDLE")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder to write the sheet to.")
@click.option(
    "--read", "sheet", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="CSV sheet that came back."
)
@click.option("--reviewer", metavar="NAME", help="Who decided; stands in the new version.")
@click.option("--name", help="Of the new bundle.  [default: that of the reviewed one]")
@click.pass_obj
def command(
    home: Home, reference: str, out: Path | None, sheet: Path | None, reviewer: str | None, name: str | None
) -> None:
    """Write a sheet on which a colleague accepts, edits or rejects sentences, or read it back.

    `--out DIR` writes it twice: as CSV for a spreadsheet, and as an HTML page that opens in any browser, needs no
    network and saves the decisions as the same CSV.

    `--read SHEET --reviewer NAME` makes a child version. Accepted sentences name the reviewer; edited ones too, and
    keep what generated them; rejected ones go to the rejected completions with reason and reviewer. An empty decision
    keeps a sentence. A sheet of another bundle, or one with missing, repeated or changed rows, is refused.
    """
    from abs_cli.reviewing import keep_review, write_sheets

    if (out is None) == (sheet is None):
        raise UsageError("a review is either written or read", remedy="Give --out DIR, or --read SHEET --reviewer NAME")
    if out is not None:
        for option, value in (("--reviewer", reviewer), ("--name", name)):
            if value is not None:
                raise UsageError(f"{option} is for --read", remedy=f"Leave out {option}, or give --read SHEET")
        for path in write_sheets(home, reference, out):
            click.echo(str(path))
        return
    if reviewer is None or sheet is None:
        raise UsageError("--read needs the name of who decided", remedy="Give --reviewer NAME")
    click.echo(keep_review(home, reference, sheet, reviewer, name))
