"""``abs features``: images and classes in, a file of unit vectors out, for use elsewhere."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abs_cli.completion_values import complete_images, complete_method, complete_templates
from abs_cli.console import note, note_work, progress
from abs_cli.engine_options import engine_options
from abs_cli.options import (
    ModelOptions,
    choose_label_space,
    class_options,
    model_options,
    open_feature_store,
    shard_option,
    unreadable_options,
)
from abs_core.home import Home
from abs_core.text import counted, json_text, printable, valid_unicode

if TYPE_CHECKING:
    from abs_classify.feature_files import SavedFeatures
    from abs_classify.features import EncodedBatches

__all__ = ["command"]


@click.command("features")
@click.argument("source", metavar="SOURCE", shell_complete=complete_images)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    metavar="FILE",
    help="File to write, or to replace: .parquet, .npz or .safetensors. With --shard I/N: NAME-0000I-of-0000N.",
)
@click.option(
    "--of",
    type=click.Choice(["full-image", "mean", "views"]),
    default="full-image",
    show_default=True,
    help="What an image becomes: the vector of the full image, the mean of a method's views, or all views.",
)
@class_options
@click.option(
    "--class-rows",
    type=click.Choice(["mean", "each"]),
    default="mean",
    show_default=True,
    help="What a class becomes: the mean of its texts, or a vector of each text.",
)
@click.option(
    "--method",
    metavar="NAME",
    help="Method with the views and class texts; see `abs methods`.  [default: cupl; abs with --of mean or views]",
    shell_complete=complete_method,
)
@click.option(
    "--views",
    type=click.IntRange(min=1),
    metavar="N",
    help="With --of mean or views: number of views of each kind.  [default: the method's own]",
)
@click.option(
    "--templates",
    default="plain",
    show_default=True,
    metavar="SET",
    help="Template set of clip-e: the id of a shipped set, or a YAML file.",
    shell_complete=complete_templates,
)
@unreadable_options()
@shard_option
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
@model_options
@engine_options
@click.pass_obj
def command(
    home: Home,
    /,
    source: str,
    out: Path,
    of: Any,
    bundle: str | None,
    labels: str | None,
    class_rows: Any,
    method: str | None,
    views: int | None,
    templates: str,
    on_error: Any,
    truncated: Any,
    shard: str | None,
    as_json: bool,
    engine: Any,
    **options: Any,
) -> None:
    """Write the features of images, and of classes if they are given, for search, clustering or a probe.

    SOURCE is a folder of images, at any depth, an image, or a data set as in `abs eval`. Features are float32 vectors
    of unit length, so that a dot product is a cosine. They come from the cache where any other command has computed
    them.

    \b
    abs features photos --out photos.parquet
    abs features imagefolder:./val --out val.npz --bundle birds --model ViT-B-16-quickgelu/openai
    """
    from abs_classify.features import encode_batches

    start = time.monotonic()
    label_space = choose_label_space(home, bundle, labels) if (bundle, labels) != (None, None) else None
    model = ModelOptions(**options)
    batches = encode_batches(
        source,
        label_space,
        model.stages(home).models,
        of=of,
        method=method,
        views=views,
        class_rows=class_rows,
        templates=templates,
        seed=model.seed,
        batch_size=model.batch_size,
        cache=open_feature_store(home),
        on_error=on_error,
        truncated=truncated,
        shard=shard,
        progress=progress,
        engine=engine,
    )
    saved = batches.save(out)
    click.echo(json_text(_value(batches, saved)) if as_json else _line(saved, class_rows))
    for skipped in batches.skipped:
        note(f"skipped {skipped.name}: {skipped.reason}", logging.WARNING)
    for remark in (*batches.remarks, *batches.notes):
        note(f"note: {remark}")
    note_work(batches.work, time.monotonic() - start)


def _line(saved: SavedFeatures, class_rows: str) -> str:
    what = counted(saved.images, "image", "images")
    if saved.classes and class_rows == "mean":
        what += f" and {counted(saved.classes, 'class', 'classes')}"
    elif saved.classes:
        what += f" and {counted(saved.classes, 'class text', 'class texts')}"
    shape = " x ".join(map(str, saved.shape))
    return printable(f"{what}, {shape} numbers an image: {', '.join(map(str, saved.files))}")


def _value(batches: EncodedBatches, saved: SavedFeatures) -> dict[str, Any]:
    return {
        "files": [valid_unicode(str(path)) for path in saved.files],
        "images": saved.images,
        "shape": list(saved.shape),
        "class_rows": saved.classes,
        "info": batches.info,
        "skipped": [{"path": image.name, "reason": image.reason} for image in batches.skipped],
        "remarks": [remark.as_json() for remark in batches.remarks],
        "notes": list(batches.notes),
    }
