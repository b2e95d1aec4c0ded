"""``abs demo``: the two main commands, on models and images that come from the package index."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

import click

from abs_cli.console import note
from abs_cli.engine_options import threads_option
from abs_core.errors import UsageError
from abs_core.home import Home

__all__ = ["command"]

_METHODS = "clip,cupl,wca,abs-random,abs"

#: what somebody types next, on the same model
_NEXT = ["abs", "label", "PHOTOS", "--labels", "cat,dog,car", "--out", "labelled"]


@click.command("demo")
@click.option(
    "--report",
    metavar="DIR",
    type=click.Path(path_type=Path),
    default=Path("abs-demo"),
    show_default=True,
    help="Folder for the HTML pages; index.html opens them.",
)
@threads_option
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16"]),
    help="Of the image-text model.  [default: bfloat16 where the device computes in it, else float32]",
)
@click.pass_context
def command(ctx: click.Context, report: Path, threads: int | None, dtype: str | None) -> None:
    """Run the two main commands on the embedded models and example photos, without a model hub.

    Writes five sentences about each of 17 classes with the embedded language model, classifies 8 photos that
    scikit-image and scikit-learn ship and 24 in which they are small, prints a table for each part, and writes a page
    that opens with what was seen.
    """
    from abs_cli.commands.eval import command as evaluate
    from abs_cli.commands.gen_descriptions import command as generate

    if report.suffix.lower() in (".html", ".htm"):
        raise UsageError(
            f"--report must be a folder, got {str(report)!r}: each part of the demo has a page",
            remedy=f"Write --report {shlex.quote(str(report.with_suffix('')))}",
        )
    start = time.monotonic()
    common = ["--threads", str(threads)] if threads else []
    evaluation = ["--dataset", "demo", "--dataset", "demo:small", "--bundle", "demo", "--methods", _METHODS]
    evaluation += ["--dtype", dtype] if (dtype := dtype or _fast_dtype()) != "float32" else []
    steps = [
        (generate, ["demo", "--name", "demo", "--per-class", "5", *common]),
        (evaluate, [*evaluation, "--report", str(report), *common]),
    ]
    home: Home = ctx.obj
    for step, arguments in steps:
        note(f"$ abs {step.name} {shlex.join(arguments)}")
        with step.make_context(str(step.name), list(arguments), parent=ctx, obj=home) as inner:
            step.invoke(inner)
    note(
        "This shows that everything runs, not how well: the image encoder knows photos like these, and a language "
        "model of 135 million parameters writes well-formed and mostly wrong sentences."
    )
    note(f"demo: {time.monotonic() - start:.1f} s in all; open {report / 'index.html'}")
    note(f"Now your own, with PHOTOS for a folder of images: {shlex.join(_NEXT)}")


def _fast_dtype() -> str:
    import torch

    from abs_classify.models.base import emulates, resolve_device

    return "float32" if emulates(resolve_device("auto"), torch.bfloat16) else "bfloat16"
