"""``abs models``: which image-text models are known and here, and how their weights get here."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abs_cli.commands.model_checking import command as check
from abs_cli.completion_values import complete_model
from abs_cli.console import PlainGroup, note, progress
from abs_cli.exit_codes import ExitCode
from abs_cli.plugin_options import plugin_mark, plugin_option, plugin_value
from abs_core.extras import require
from abs_core.home import Home
from abs_core.text import format_bytes, printable

if TYPE_CHECKING:
    from abs_classify.models.download import ExpectedDigests
    from abs_classify.models.info import ModelInfo
    from abs_classify.models.registry import WeightsRow
    from abs_classify.models.store import StoredWeights, WeightsStore

__all__ = ["command"]

_NAME_HELP = "NAME is ARCH/TAG, hf-hub:ORG/REPO, dino or dino:TIMM_NAME, as `abs models ls` shows."


@click.group("models", cls=PlainGroup)
def command() -> None:
    """List, show, pull, verify, import and check image-text models and DINO. Only `pull` reaches a network."""


@command.command("ls")
@click.argument("filter_", metavar="[FILTER]", default="", shell_complete=complete_model)
@click.option("--here", "here_only", is_flag=True, help="List only models on this machine.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@plugin_option
@click.pass_obj
def list_models(home: Home, filter_: str, here_only: bool, as_json: bool) -> None:
    """List the known models whose name contains FILTER: where they are, size, license."""
    from abs_classify.models.registry import list_here, list_known

    rows = list_here(_store(home)) if here_only else list_known(_store(home))
    rows = [row for row in rows if filter_.casefold() in row.entry.name.casefold()]
    if as_json:
        click.echo(json.dumps([_row_json(row) for row in rows]))
        return
    width = max((len(row.entry.name) for row in rows), default=0)
    for row in rows:
        place = row.here.place if row.here else "-"
        size = format_bytes(row.here.bytes) if row.here and row.here.files else "-"
        license = row.entry.license.name if row.entry.license else "not known"
        line = f"{row.entry.name:<{width}}  {place:<9}  {size:>8}  {license}{plugin_mark('model', row.entry.name)}"
        click.echo(printable(line))
    note(f"{len(rows)} models, {sum(1 for row in rows if row.here)} here. `abs models show NAME` says more.")


@command.command("show", epilog=_NAME_HELP)
@click.argument("name", shell_complete=complete_model)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@plugin_option
@click.pass_obj
def show(home: Home, name: str, as_json: bool) -> None:
    """Show what a model is, what it may be used for, and where its weights are."""
    from abs_classify.encoding.digest_cache import DigestCache
    from abs_classify.models.download import expected_digests
    from abs_classify.models.info import read_model_info
    from abs_classify.models.registry import locate

    store = _store(home)
    row = locate(store, name)
    info = read_model_info(row.entry, row.use, remember=DigestCache(home.cache).derived)
    digests = expected_digests(row, store) if row.here else {}
    if as_json:
        files = [{"path": str(path), "sha256": digest} for path, (digest, _) in digests.items()]
        click.echo(json.dumps({**_row_json(row), **asdict(info), "files": files}))
        return
    for label, value in (*_describe(row, info), *_whereabouts(row, digests)):
        click.echo(printable(f"{label:<14} {value}"))


@command.command("pull", epilog=_NAME_HELP)
@click.argument("name", shell_complete=complete_model)
@click.option(
    "--to",
    "folder",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Also copy all files that are needed into this new folder, for `abs models import` on another machine.",
)
@click.pass_obj
def pull(home: Home, name: str, folder: Path | None) -> None:
    """Download a model into the hub cache, load it once, and record its sha256."""
    require("torch")
    from abs_classify.models.download import pull_model
    from abs_classify.models.transfer import export_weights

    stored = pull_model(name, _store(home))
    _print_stored(stored)
    if folder is not None:
        export_weights(stored, folder.expanduser().absolute(), progress=progress)
        note(f"on the other machine: abs models import {shlex.quote(str(folder))}")


@command.command("verify", epilog=_NAME_HELP)
@click.argument("name", required=False, shell_complete=complete_model)
@click.pass_obj
def verify(home: Home, name: str | None) -> None:
    """Compute the sha256 of weights again and compare. Exit code 1 if a file differs or is missing.

    They are compared with what pull or import recorded, with the hub's digest, or with the digests that are pinned in
    this toolkit. Without NAME all weights on this machine are verified.
    """
    from abs_classify.models.download import verify_all, verify_model

    counts = {"ok": 0, "differs": 0, "missing": 0, "unrecorded": 0}
    for checked in verify_model(name, _store(home)) if name else verify_all(_store(home)):
        counts[checked.verdict] += 1
        detail = f", expected {checked.expected}" if checked.verdict == "differs" else ""
        source = f" ({checked.source})" if checked.source else ""
        click.echo(printable(f"{checked.verdict:<10} {checked.path} {checked.actual}{detail}{source}"))
    note(", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count or verdict == "ok"))
    if counts["differs"] or counts["missing"]:
        raise click.exceptions.Exit(ExitCode.FINDING)


@command.command("import")
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--as",
    "name",
    metavar="NAME",
    shell_complete=complete_model,
    help="Model that the weights are of: ARCH/TAG, ARCH, dino, dino:TIMM_NAME or hf-hub:ORG/REPO.",
)
@click.pass_obj
def import_(home: Home, source: Path, name: str | None) -> None:
    """Copy a weights file, or a folder with one, into the local store, after checking that it fits the named model.

    A folder made by `abs models pull --to` names its model itself. Safetensors, plain pickled tensors and OpenAI's
    published TorchScript archives are read; nothing that could run code is. The last line printed is the name to use.
    """
    from abs_classify.models.transfer import import_weights

    _print_stored(import_weights(source.expanduser().absolute(), name, _store(home), progress=progress))


command.add_command(check)


def _store(home: Home) -> WeightsStore:
    from abs_classify.models.store import WeightsStore

    return WeightsStore(home.models)


def _print_stored(stored: StoredWeights) -> None:
    for path, file in zip(stored.paths, stored.record.files, strict=True):
        note(f"{file.sha256}  {format_bytes(file.bytes)}  {path}")
    is_attention = stored.record.name.startswith("dino:")
    click.echo(printable(f"--{'attention' if is_attention else 'model'} {shlex.quote(stored.use)}"))


def _row_json(row: WeightsRow) -> dict[str, Any]:
    return {
        "name": row.entry.name,
        "use": row.use,
        "place": row.here.place if row.here else None,
        "bytes": row.here.bytes if row.here and row.here.files else None,
        "repository": row.entry.repository or None,
        "licence": asdict(row.entry.license) if row.entry.license else None,
        "plugin": plugin_value("model", row.entry.name),
    }


def _describe(row: WeightsRow, info: ModelInfo) -> Iterator[tuple[str, str]]:
    yield "name", row.entry.name
    count = info.parameters
    size = f", {count / 1e6:.1f} million parameters, {format_bytes(4 * count)} in float32" if count else ""
    yield "architecture", info.architecture + size
    yield "image", _image(info.preprocess)
    if info.grid:
        pooling = f", {info.pooling} pooling" if info.pooling else ""
        yield "tokens", f"a grid of {info.grid} x {info.grid}{pooling}"
    if not row.entry.is_attention:
        yield "embedding", f"{info.embed_dim} numbers"
        yield "texts", f"up to {info.context_length} tokens, tokenizer: {info.tokenizer}"
        if info.quick_gelu is not None:
            yield "QuickGELU", "yes" if info.quick_gelu else "no"
        if not info.remark:
            yield "feature windows", "yes" if info.grid else "no, crops only"
        backends = ", ".join(info.attention) or "none"
        yield "attention", f"by default {info.default_attention}; of its own: {backends}"
    if _is_registered(row):
        yield "note", "as the model says that its loader gave"
        return
    yield "runtimes", f"{', '.join(info.runtimes)} on a CPU"
    yield "note", info.remark or "read from the configuration, without the weights"


def _is_registered(row: WeightsRow) -> bool:
    return row.here is not None and row.here.place in ("plugin", "registered")


def _image(settings: Mapping[str, Any]) -> str:
    width, height = settings["size"]
    numbers = "; ".join(
        f"{key} {' '.join(f'{x:.4g}' for x in settings[key])}" for key in ("mean", "std") if key in settings
    )
    words = [str(settings[key]) for key in ("interpolation", "resize_mode") if key in settings]
    return "; ".join(filter(None, (f"{width} x {height} pixels", ", ".join(words), numbers)))


def _whereabouts(row: WeightsRow, digests: ExpectedDigests) -> Iterator[tuple[str, str]]:
    license = row.entry.license
    if license:
        yield "license", f"{license.name}: {license.source}"
        if license.note:
            yield "", license.note
    else:
        yield "license", "not known; read what its publisher says"
    if row.here is None:
        yield "here", f"no; run: abs models pull {row.entry.name}"
        return
    plugin = plugin_value("model", row.entry.name)
    if plugin is not None:
        yield "plugin", f"{plugin['name']}, {plugin['version']}"
    if row.here.files:
        yield "here", f"{row.here.place}, {format_bytes(row.here.bytes)}"
    for path, (digest, source) in digests.items():
        yield "file", str(path)
        yield "", f"{digest} ({source})" if digest else "sha256 not recorded; `abs models verify NAME` computes it"
    yield "use", f"--{'attention' if row.entry.is_attention else 'model'} {shlex.quote(row.use)}"
