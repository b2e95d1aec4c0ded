"""``abs demo``: the two main commands, on models and images that come from the package index."""

from __future__ import annotations

import time
from pathlib import Path

import click

from abs_cli.console import note
from abs_core.home import Home

__all__ = ["command"]


@click.command("demo")
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    default=Path("abs-demo/report.html"),
    show_default=True,
    help="Where to write the HTML page.",
)
@click.option(
    "--threads", metavar="N", type=click.IntRange(1, 1024), help="Number of CPU threads.  [default: all cores]"
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16"]),
    help="Of the image-text model.  [default: bfloat16 where the device computes in it, else float32]",
)
@click.pass_context
def command(ctx: click.Context, report: Path, threads: int | None, dtype: str | None) -> None:
    """Run the two main commands on the embedded models and example images, without a model hub.

    Writes descriptions of 48 everyday classes with the embedded language model, classifies the 20 images that
    scikit-image and scikit-learn ship, prints one table and writes one HTML page.
    """
    from abs_cli.commands.eval import command as evaluate
    from abs_cli.commands.gen_descriptions import command as generate

    start = time.monotonic()
    common = ["--threads", str(threads)] if threads else []
    evaluation = ["--dataset", "demo", "--bundle", "demo", "--methods", "clip,cupl,wca,abs"]
    evaluation += ["--dtype", dtype] if (dtype := dtype or _fast_dtype()) != "float32" else []
    steps = [
        (generate, ["demo", "--name", "demo", *common]),
        (evaluate, [*evaluation, "--report", str(report), *common]),
    ]
    home: Home = ctx.obj
    for step, arguments in steps:
        note(f"$ abs {step.name} {' '.join(arguments)}")
        with step.make_context(str(step.name), list(arguments), parent=ctx, obj=home) as inner:
            step.invoke(inner)
    note(
        "The embedded models show that the pipeline works, not how well: a language model of 135 million parameters "
        "writes well-formed and mostly wrong sentences."
    )
    note(f"demo: {time.monotonic() - start:.1f} s in all; open {report}")


def _fast_dtype() -> str:
    import torch

    from abs_classify.models.base import emulates, resolve_device

    return "float32" if emulates(resolve_device("auto"), torch.bfloat16) else "bfloat16"
