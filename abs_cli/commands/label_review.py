"""``abs label review``: the page on which labels are looked at and corrected."""

from __future__ import annotations

import os
import sys
import threading
import webbrowser
from contextlib import suppress
from pathlib import Path

import click

from abs_cli.console import note
from abs_cli.identity import login_name
from abs_cli.plugin_options import plugin_option
from abs_core.text import counted, printable

__all__ = ["command"]

# images that a page without a server has at most; its size ends it before, mostly
_MOST_IMAGES = 20_000


@click.command("review")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--reviewer", metavar="NAME", help="Who decides.  [default: your login name]")
@click.option(
    "--port", metavar="N", type=click.IntRange(0, 65535), default=0, help="Port to listen on.  [default: any free one]"
)
@click.option(
    "--random-share",
    type=click.FloatRange(0, 1),
    default=0.2,
    show_default=True,
    metavar="S",
    help="Share of the queue that is drawn at random; only such images say how right the labels are.",
)
@click.option(
    "--static",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the page as one file for somebody without the images, and end.",
)
@click.option("--no-open", is_flag=True, help="Open no browser.")
@plugin_option
def command(
    folder: Path, reviewer: str | None, port: int, random_share: float, static: Path | None, no_open: bool
) -> None:
    """Look at the labels of a folder in a browser, and correct them.

    Serves a page on this machine, which nobody can open without the address that is printed. Every decision is on the
    disk at once, in DIR/decisions; `abs label merge DIR` puts them into the tables. Ctrl-C ends it.
    """
    from abs_classify.labelling.label_folder import LabelFolder

    labelled, name = LabelFolder.open(folder), reviewer or login_name()
    if static is not None:
        _write_static(labelled, static, name if reviewer else "", random_share)
        return
    from abs_classify.labelling.review.server import review_server

    with review_server(labelled, name, port=port, random_share=random_share) as url:
        click.echo(url)
        sys.stdout.flush()
        note(f"reviewing {folder} as {name}; Ctrl-C ends it")
        if not no_open and _has_display():
            webbrowser.open(url)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
    note(f"decisions are in {folder / 'decisions'}; put them into the tables with: abs label merge {folder}")


def _write_static(labelled: object, path: Path, reviewer: str, random_share: float) -> None:
    from abs_classify.labelling.label_folder import LabelFolder
    from abs_classify.labelling.review.queue import ReviewFilter
    from abs_classify.labelling.review.session import ReviewSession
    from abs_classify.labelling.review.static_page import write_static_page

    assert isinstance(labelled, LabelFolder)
    with ReviewSession(labelled, reviewer or "nobody", random_share) as session:
        rows = session.rows(ReviewFilter(decided="open"), _MOST_IMAGES)
    count = write_static_page(labelled, path, rows, random_share=random_share, reviewer=reviewer)
    click.echo(f"{printable(str(path))}: {counted(count, 'image', 'images')}")


def _has_display() -> bool:
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
