"""``abs label learn``: learn from what reviewers decided, and label the rest anew."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

import click

from abs_cli.console import note, note_work, progress
from abs_cli.engine_options import threads_option
from abs_cli.options import model_of_folder, open_feature_store
from abs_cli.plugin_options import plugin_option
from abs_core.home import Home
from abs_core.text import json_text, printable

__all__ = ["command"]


@click.command("learn")
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--accuracy",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="A",
    help="Accuracy of the labels that are not doubtful: sets the threshold of the confidence.  "
    "[default: a label is doubtful if it is more likely wrong than right]",
)
@click.option("--dry-run", is_flag=True, help="Say what would be learned, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@threads_option
@plugin_option
@click.pass_obj
def command(
    home: Home, /, folder: Path, accuracy: float | None, dry_run: bool, as_json: bool, threads: int | None
) -> None:
    """Learn from what reviewers decided in a labelled folder, and label the rest anew.

    Confidences become probabilities, fitted to the images that the review page drew at random. Labels change only if
    images drawn at random show that more of the rest will be right, and the command says how many to expect.

    \b
    abs label learn labelled/
    abs label learn labelled/ --accuracy 0.95
    """
    from abs_classify.labelling.corrections import learn_from_folder, relabel
    from abs_classify.labelling.judge import choose_thresholds
    from abs_classify.labelling.label_folder import LabelFolder
    from abs_classify.labelling.reopening import reopen_labeller
    from abs_classify.labelling.row_writer import THRESHOLD

    start = time.monotonic()
    opened = LabelFolder.open(folder)
    labeller = reopen_labeller(opened, model_of_folder(home, opened, threads), cache=open_feature_store(home))
    if not dry_run:
        with opened.locked():
            pass  # what is learned would be saved before the rows turn out to be in use
    learning = learn_from_folder(opened, labeller, accuracy=accuracy, save=not dry_run)
    none = opened.run["identity"]["none"]
    thresholds = choose_thresholds(len(opened.classes), opened.fact(THRESHOLD), none=none)
    changed = None if dry_run else relabel(opened, labeller.again(), learning.learned, thresholds, progress)
    for remark in learning.remarks:
        note(f"note: {remark}")
    if as_json:
        value = {"folder": str(folder), **asdict(learning.report), "changed": changed}
        click.echo(json_text({**value, "remarks": [remark.as_json() for remark in learning.remarks]}))
    else:
        for line in [*learning.report.lines(), *learning.learned.lines()]:
            click.echo(printable(line))
        if changed is not None:
            click.echo(f"{changed} of {opened.count()} labels changed")
    note_work(labeller.work, time.monotonic() - start)
