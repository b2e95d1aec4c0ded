"""``abs bundle import, export, push, pull``: bundles and descriptions to and from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abs_cli.commands.bundle_signing import sign_with, verify_option
from abs_cli.completion_values import complete_bundle, complete_format, complete_labels, complete_location
from abs_cli.console import note, warn
from abs_cli.options import license_option, version_option
from abs_core.errors import UsageError
from abs_core.home import Home
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.versions import find_bundle, refuse_shipped

if TYPE_CHECKING:
    from abs_descriptions.bundles.sharing import CopiedBundle

__all__ = ["export_command", "import_command", "pull_command", "push_command"]


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", metavar="NAME", help="Name of the new bundle; imported bundles keep their names.")
@click.option(
    "--format",
    "format_name",
    metavar="FORMAT",
    help="Format of the file: cupl, clip-d, waffle, clip-benchmark, text or csv.  [default: by its ending and texts]",
    shell_complete=complete_format,
)
@click.option(
    "--labels",
    metavar="LABELS",
    help="Label set to match the file's classes with.  [default: the classes of the file]",
    shell_complete=complete_labels,
)
@version_option
@license_option(
    metavar="SPDX",
    help="License of the descriptions.  [default: not stated]",
)
@click.option("--source", metavar="TEXT", help="Who or what wrote the descriptions.  [default: not stated]")
@click.option(
    "--mapping",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help='With --labels: a JSON {"label": "class"} or a CSV of labels and classes, for labels that are not found.',
)
@click.option("--skip-unknown", is_flag=True, help="With --labels: skip labels that name no class, or several.")
@click.option(
    "--parent",
    metavar="BUNDLE",
    help="Bundle that FILE was exported from, then changed by hand.  [default for its CSV: the bundle --name]",
    shell_complete=complete_bundle,
)
@click.pass_obj
def import_command(
    home: Home,
    file: Path,
    name: str | None,
    format_name: str | None,
    labels: str | None,
    version: str | None,
    license_name: str | None,
    source: str | None,
    mapping: Path | None,
    skip_unknown: bool,
    parent: str | None,
) -> None:
    """Make a bundle from a CuPL, CLIP-D, WaffleCLIP or CLIP_benchmark JSON, a text file (class TAB sentence) or a CSV.

    Shows first which class each of the file's labels means, by id, name, alias or spelling; a label that names no class
    stops the import. Texts of a label that is the name of several classes go to all of them. Without --labels the
    file's labels are the classes; in a CSV with the columns class and name, class holds their ids.

    An export that was changed by hand becomes a child of its bundle: unchanged texts keep their provenance, and removed
    ones go to the rejected completions.

    A bundle (.jsonl), or an archive of bundles (.zip, .tar, .tar.gz), is added to the local store as it is, with its
    own name and version, if it is sound and no other bundle has them.
    """
    from abs_core.labels import read_labels
    from abs_descriptions.bundles.importing import holds_bundles, import_bundles, import_descriptions

    store = Repository.local(home.bundles)
    if format_name is None and holds_bundles(file):
        given = (name, labels, version, license_name, source, mapping, parent)
        if skip_unknown or any(value is not None for value in given):
            raise UsageError(
                f"{file.name!r} holds bundles, which have a name, a version, a label set, a license and sources",
                remedy="Leave out --name and the others, which are for files of other tools",
            )
        for manifest in import_bundles(store, file):
            click.echo(str(manifest))
        return
    if name is None:
        raise UsageError("the new bundle needs a name", remedy="Give --name NAME")
    manifest = import_descriptions(
        store,
        file,
        name=name,
        format_name=format_name,
        label_set=None if labels is None else read_labels(labels),
        license=license_name or "not stated",
        source=source or "not stated",
        mapping=mapping,
        skip_unknown=skip_unknown,
        parent=parent,
        version=version,
    )
    click.echo(str(manifest))


@click.command("export")
@click.argument("reference", metavar="BUNDLE", shell_complete=complete_bundle)
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--format",
    "format_name",
    metavar="FORMAT",
    required=True,
    help="Format to write: cupl, clip-d, waffle, clip-benchmark, text or csv.",
    shell_complete=complete_format,
)
@click.option(
    "--keys",
    "key",
    type=click.Choice(["name", "id", "source"]),
    default="name",
    show_default=True,
    help="Write each class by its name, its id, or its key in the file it was imported from.",
)
@click.option(
    "--keys-from",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write each class by the key that it has in FILE, a JSON of descriptions or a file of class names.",
)
@click.option(
    "--dataset-name",
    "dataset",
    metavar="NAME",
    help="With clip-benchmark: name of the data set there.  [default: by the label set]",
)
@click.pass_obj
def export_command(
    home: Home,
    reference: str,
    target: Path,
    format_name: str,
    key: Any,
    keys_from: Path | None,
    dataset: str | None,
) -> None:
    """Write the descriptions of a bundle in another tool's format; the same bundle gives the same bytes."""
    from abs_descriptions.bundles.exporting import export_bundle, keys_from_file

    if dataset is not None and format_name != "clip-benchmark":
        raise UsageError("--dataset needs --format clip-benchmark", remedy="Leave out --dataset")
    if keys_from is not None and (key != "name" or format_name == "csv"):
        raise UsageError("--keys-from does not go with --keys or with csv, which has ids", remedy="Leave one out")
    bundle = find_bundle(Repository.local(home.bundles), reference)
    if keys_from is not None:
        key, unknown = keys_from_file(keys_from, bundle.path)
        if unknown:
            note(f"{len(unknown)} keys of {keys_from} name no class of the bundle, such as {unknown[0]!r}")
    count = export_bundle(bundle.path, target, format_name, key=key, dataset=dataset)
    left_out = f", {count.left_out} of another kind left out" if count.left_out else ""
    note(f"{count.written} descriptions written to {target}{left_out}")
    if count.without_key:
        warn(f"{len(count.without_key)} classes have no key and are left out, such as {count.without_key[0]!r}")


@click.command("push")
@click.argument("reference", metavar="BUNDLE", shell_complete=complete_bundle)
@click.argument("location", required=False, shell_complete=complete_location)
@click.option("--with-parents", is_flag=True, help="Also copy the bundles that it was made from, and their parents.")
@click.option(
    "--sign",
    "key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="KEY",
    help="Sign the bundle first with this private SSH key, see `abs bundle sign`.",
)
@click.pass_obj
def push_command(home: Home, reference: str, location: str | None, with_parents: bool, key: Path | None) -> None:
    """Copy a bundle of the local store to a folder, s3://, gs:// or hf://datasets/OWNER/NAME, and print its reference.

    A version that exists there with other content is never overwritten. Credentials come from the environment, never
    from LOCATION, which may be the name of a remote, and be left out where there is a default (`abs bundle remote`).
    """
    from abs_descriptions.bundles.remotes import Remotes
    from abs_descriptions.bundles.sharing import copy_bundles
    from abs_descriptions.bundles.signatures import has_signature

    store, remote = (
        Repository.local(home.bundles),
        Repository.open(Remotes(home.remotes).find(location, or_new_folder=True).location),
    )
    refuse_shipped(store, reference)
    if key is not None:
        reference = sign_with(store, reference, key)
    copied = copy_bundles(reference, store, remote, with_parents=with_parents)
    for bundle in copied:
        note(f"{'pushed to' if bundle.is_new else 'already in'} {remote.address}")
        _print_copied(bundle, "the local store", remote.address)
        for fork in bundle.forks:
            version = f"{fork.name}@{fork.version}"
            warn(
                f"{remote.address} also has {version}, and neither was made of the other: each lacks the "
                f"other's changes; `abs bundle pull {version}{f' {location}' if location else ''}` and `abs bundle "
                f"merge {bundle.manifest.name}@{bundle.manifest.version} {version}` join both"
            )
    parents = [bundle.manifest for bundle in copied[1:]]
    unsigned = [f"{parent.name}@{parent.version}" for parent in parents if not has_signature(store, parent)]
    if key is not None and unsigned:
        note(
            f"{', '.join(unsigned)}: nobody signed these, so that `abs bundle pull --with-parents --verify` refuses "
            f"them; to vouch for one as well: `abs bundle sign {unsigned[0]} --key {key}`, and push again"
        )


@click.command("pull")
@click.argument("reference", metavar="BUNDLE", shell_complete=complete_bundle)
@click.argument("location", required=False, shell_complete=complete_location)
@click.option("--with-parents", is_flag=True, help="Also copy the bundles that it was made from, and their parents.")
@verify_option
@click.pass_obj
def pull_command(
    home: Home, reference: str, location: str | None, with_parents: bool, signers_file: Path | None
) -> None:
    """Fetch a bundle from a folder, s3://, gs://, http(s):// or hf://datasets/OWNER/NAME/FOLDER@REVISION.

    Digest, header and every record are checked before it enters the local store. Prints the pinned reference.
    NAME means the latest version that is not yanked; NAME@VERSION#sha256:... can only mean one file. LOCATION may be
    the name of a remote, and be left out where there is a default (`abs bundle remote`).

    With --verify, or from a remote that has signers, each bundle must be signed by one of them, parents too.
    """
    from abs_descriptions.bundles.remotes import Remotes
    from abs_descriptions.bundles.sharing import copy_bundles
    from abs_descriptions.bundles.signers import read_signers

    place = Remotes(home.remotes).find(location)
    signers_file = signers_file or place.signers
    signers = None if signers_file is None else read_signers(signers_file)
    store, remote = Repository.local(home.bundles), Repository.open(place.location)
    if remote.address.startswith("http:") and "#" not in reference and signers is None:
        note("http: is not encrypted; whoever is between can change what comes, unless the reference pins its digest")
    for bundle in copy_bundles(reference, remote, store, with_parents=with_parents, signers=signers):
        note(f"{'pulled from' if bundle.is_new else 'already here, as in'} {remote.address}")
        if bundle.signers:
            note(f"signed by {', '.join(bundle.signers)}")
        _print_copied(bundle, remote.address, "the local store")


def _print_copied(bundle: CopiedBundle, source: str, target: str) -> None:
    click.echo(str(bundle.manifest))
    if bundle.yanked is not None:
        warn(f"{bundle.manifest.name}@{bundle.manifest.version} is yanked: {bundle.yanked}")
    for yank in bundle.yanks:
        warn(f"{yank.name}@{yank.version}, which {target} has, is yanked there as well now: {yank.reason}")
    for parent in bundle.missing:
        note(f"its parent {parent} is not in {source}")
    if bundle.left_behind:
        parents = ", ".join(parent.partition("#")[0] for parent in bundle.left_behind)
        note(
            f"{target} lacks what it was made of, {parents}: without that it has no history there, and reviews of it "
            "cannot be merged three ways; --with-parents copies it too"
        )
