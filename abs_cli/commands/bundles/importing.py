"""``abs bundle import``: other people's files, and bundles from elsewhere, into the store."""

from __future__ import annotations

from pathlib import Path

import click

from abs_core.errors import UsageError
from abs_core.home import Home

__all__ = ["command"]


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", help="Of the new bundle. A bundle that is imported keeps its own.")
@click.option(
    "--format", "format_name", help="cupl, clip-d, waffle, text or csv.  [default: by the file's ending, .json is cupl]"
)
@click.option(
    "--labels", metavar="SET", help="Label set to match the file's classes with.  [default: those of the file]"
)
@click.option("--licence", help="Of the texts.  [default: not stated]")
@click.option("--source", help="Who or what wrote the texts.  [default: not stated]")
@click.pass_obj
def command(
    home: Home,
    file: Path,
    name: str | None,
    format_name: str | None,
    labels: str | None,
    licence: str | None,
    source: str | None,
) -> None:
    """Make a bundle of a CuPL JSON, a CLIP-D or WaffleCLIP JSON, a text file (class TAB sentence) or a CSV.

    Shows first which class each of the file's labels means; a label that means none stops the import. Without --labels
    they are the classes; where a CSV has a column name, its column class holds their ids.

    A bundle (.jsonl), or an archive of bundles (.zip, .tar, .tar.gz), is added to the local store as it is, with its
    own name and version, if it is sound and no other bundle has them.
    """
    from abs_cli.importing import import_bundles, import_foreign, is_of_bundles

    if format_name is None and is_of_bundles(file):
        if any(given is not None for given in (name, labels, licence, source)):
            raise UsageError(
                f"{file.name!r} holds bundles, which have a name, a label set, a licence and sources of their own",
                remedy="Leave out --name, --labels, --licence and --source",
            )
        for entry in import_bundles(home, file):
            click.echo(str(entry))
        return
    if name is None:
        raise UsageError("the new bundle needs a name", remedy="Give --name NAME")
    stated = [text or "not stated" for text in (licence, source)]
    click.echo(str(import_foreign(home, file, name, format_name, labels, *stated)))
