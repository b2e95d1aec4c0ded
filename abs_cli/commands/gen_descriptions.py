"""``abs gen-descriptions``: class names in, a bundle of descriptions out."""

from __future__ import annotations

import json
from typing import Any

import click

from abs_cli.home import Home

__all__ = ["command"]


@click.command("gen-descriptions")
@click.argument("labels", metavar="LABELS")
@click.option("--name", required=True, help="Of the bundle; an existing one gets a new version if anything changed.")
@click.option("--backend", default="local", show_default=True, help="local or openai (also for vllm serve).")
@click.option("--model", help="A model of the backend.  [default for local: the embedded smollm2]")
@click.option("--base-url", metavar="URL", help="Of an OpenAI-compatible server.")
@click.option("--key-variable", metavar="NAME", help="Environment variable with the key for that server.")
@click.option("--prompts", default="auto", show_default=True, help="Prompt set: a shipped id or a YAML file.")
@click.option("--per-class", type=click.IntRange(min=1), default=10, show_default=True, help="Wanted of each class.")
@click.option("--tries", type=click.IntRange(min=1), default=4, show_default=True, help="Samples per description.")
@click.option("--max-tokens", type=click.IntRange(min=1), default=60, show_default=True, help="Of one reply.")
@click.option("--temperature", type=click.FloatRange(min=0), default=0.8, show_default=True, help="Of the draws.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the draws.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Of a local model.  [default: 64]")
@click.option("--concurrency", type=click.IntRange(min=1), help="Requests in flight to a server.  [default: 16]")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads of a local model.  [default: all cores]")
@click.option("--licence", default="not stated", show_default=True, help="Of the descriptions, for the bundle.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(home: Home, /, labels: str, name: str, as_json: bool, **options: Any) -> None:
    """Write descriptions for the classes in LABELS and store them as a bundle.

    LABELS is a text file with one class name a line, a CSV or JSON file, a folder with one sub-folder per class, or the
    name of a shipped label set. Interrupt it when you like: every reply is kept, and the same command goes on.

    \b
    abs gen-descriptions labels.txt --name pets
    abs gen-descriptions labels.txt --name pets --backend openai --model gpt-5-mini
    """
    from abs_cli.generating import GenerationOptions, generate_bundle

    made = generate_bundle(home, labels, name, GenerationOptions(**options))
    if as_json:
        click.echo(json.dumps(made.to_dict(), ensure_ascii=False))
    else:
        click.echo(made.text())
