"""``abs gen-descriptions``: class names in, a bundle of descriptions out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from abs_core.home import Home
from abs_core.text import json_text

__all__ = ["command"]


# Options that are fields of BackendOptions; which of them a backend has, it says itself.
_REACH = (
    "model",
    "base_url",
    "key_variable",
    "concurrency",
    "requests_per_minute",
    "tokens_per_minute",
    "batch_size",
    "poll_interval",
    "threads",
)


_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("gen-descriptions")
@click.argument("labels", metavar="LABELS")
@click.option("--name", required=True, help="Of the bundle; an existing one gets a new version if anything changed.")
@click.option("--backend", default="local", show_default=True, help="local, openai (also for vllm serve) and others.")
@click.option("--model", help="A model of the backend.  [default for local and vllm: the embedded smollm2]")
@click.option("--base-url", metavar="URL", help="Of an OpenAI-compatible server.")
@click.option("--key-variable", metavar="NAME", help="Environment variable with the key for that server.")
@click.option("--prompts", default="auto", show_default=True, help="Prompt set: a shipped id or a YAML file.")
@click.option("--per-class", type=click.IntRange(min=1), default=10, show_default=True, help="Wanted of each class.")
@click.option("--tries", type=click.IntRange(min=1), default=4, show_default=True, help="Samples per description.")
@click.option("--max-tokens", type=click.IntRange(min=1), default=60, show_default=True, help="Of one reply.")
@click.option("--temperature", type=click.FloatRange(min=0), default=0.8, show_default=True, help="Of the draws.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the draws.")
@click.option(
    "--fit-model", metavar="MODEL", help="Reject what is too long for this image-text model; see `abs models`."
)
@click.option("--price-in", type=float, metavar="PRICE", help="Of a million tokens of prompts, in any currency.")
@click.option("--price-out", type=float, metavar="PRICE", help="Of a million tokens of replies.")
@click.option("--prices", type=_FILE, metavar="FILE", help="YAML or JSON with both by model: {MODEL: {in: 1, out: 4}}.")
@click.option("--max-cost", type=float, metavar="COST", help="Of this run; it ends with a partial bundle before that.")
@click.option("--dry-run", is_flag=True, help="Say how much would be asked and what it costs; ask and write nothing.")
@click.option("--report", type=_FILE, metavar="FILE", help="A line for each class, .csv or .json.")
@click.option("--concurrency", type=click.IntRange(min=1), help="Requests in flight to a server.  [default: 16]")
@click.option("--requests-per-minute", type=click.FloatRange(min=0, min_open=True), help="That a server allows.")
@click.option("--tokens-per-minute", type=click.FloatRange(min=0, min_open=True), help="That a server allows.")
@click.option("--poll-interval", type=click.FloatRange(min=0, min_open=True), help="Seconds, of a batch of a server.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Of a local model, or of a batch of a server.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads of a local model.  [default: all cores]")
@click.option("--licence", default="not stated", show_default=True, help="Of the descriptions, for the bundle.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(home: Home, /, labels: str, name: str, dry_run: bool, as_json: bool, **options: Any) -> int:
    """Write descriptions for the classes in LABELS and store them as a bundle.

    LABELS is a text file with one class name a line, a CSV or JSON file, a folder with one sub-folder per class, or the
    name of a shipped label set. Interrupt it when you like: every reply is kept, and the same command goes on.

    \b
    abs gen-descriptions labels.txt --name pets
    abs gen-descriptions labels.txt --name pets --backend openai --model gpt-5-mini --dry-run

    \b
    Label sets that ship with the toolkit:
      caltech101, cifar10, cifar100, cub-200-2011, demo, dtd, eurosat, fgvc-aircraft, flowers102, food101, imagenet,
      imagenet-a, imagenet-r, pets, places365, stanford-cars, sun397, ucf101
    Prompt sets:
      actions, animals, descriptors, descriptors-json, food, objects, objects-small, satellite, scenes, textures,
      vehicles

    Exit codes: 0 complete, 3 a partial bundle (--max-cost was reached, or a class has no description), 130 a partial
    bundle after Ctrl-C, 2 an error.
    """
    from abs_cli.generating import GenerationOptions, generate_bundle, look_ahead

    reach = {field: value for field in _REACH if (value := options.pop(field)) is not None}
    told = GenerationOptions(reach=reach, **options)
    if dry_run:
        ahead = look_ahead(home, labels, name, told)
        click.echo(json_text(ahead.to_dict()) if as_json else ahead.text())
        return 0
    made = generate_bundle(home, labels, name, told)
    click.echo(json_text(made.to_dict()) if as_json else made.text())
    return made.exit_code
