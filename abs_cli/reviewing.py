"""Sheets for reviewers out of the store, and their decisions back into it as a new version."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from abs_cli.console import note
from abs_core.errors import BundleError, UsageError
from abs_core.home import Home
from abs_descriptions.bundles.repository import find_bundle

if TYPE_CHECKING:
    from abs_descriptions.bundles import Bundle

__all__ = ["keep_review", "write_sheets"]


# More rows than a browser handles well; a spreadsheet takes a million.
_MAX_PAGE_ROWS = 50_000


def write_sheets(home: Home, reference: str, folder: Path) -> list[Path]:
    """Write the CSV sheet and the page of a bundle to ``folder``; the page only up to 50,000 descriptions.

    Raises:
        UnknownNameError, BundleError: the bundle cannot be read.
        UsageError: the folder has a sheet of that name with decisions on it, or one that cannot be read.
        StorageError: the folder cannot be written.
    """
    from abs_descriptions.bundles.review import write_page, write_review_file

    bundle = find_bundle(home, reference)
    stem = f"{bundle.header.name}-{bundle.header.version}-review"
    written = [folder / f"{stem}.csv"]
    _refuse_decided(written[0], bundle)
    write_review_file(bundle, written[0])
    if bundle.header.counts.records > _MAX_PAGE_ROWS:
        note(f"{bundle.header.counts.records} descriptions are too many for a page; there is only the CSV")
        return written
    written.append(folder / f"{stem}.html")
    write_page(bundle, written[1])
    return written


def keep_review(home: Home, reference: str, sheet: Path, reviewer: str, name: str | None) -> str:
    """Carry out the decisions of a sheet in a new version.

    Args:
        home: has the store.
        reference: the bundle that was reviewed.
        sheet: the CSV that came back.
        reviewer: who decided.
        name: of the new bundle; None: that of the reviewed one.

    Returns:
        The pinned reference of the new version; of the bundle itself if the sheet decides nothing.

    Raises:
        UsageError, BundleError, UnknownNameError, StorageError: what is named cannot be used.
    """
    from abs_descriptions.bundles.new_versions import add_version, child_version, timestamp
    from abs_descriptions.bundles.repository import BundleStore
    from abs_descriptions.bundles.review import read_review_file, write_reviewed

    bundle = find_bundle(home, reference)
    review = read_review_file(sheet, bundle)
    if not review.rows:
        note("the sheet decides nothing, so there is no new version")
        return bundle.reference
    chosen = bundle.header.name if name is None else name
    store = BundleStore(home.bundles)
    version = child_version(store, chosen, [bundle.header])

    def write(path: Path) -> Bundle:
        return write_reviewed(
            path, bundle, review, reviewer=reviewer, name=chosen, version=version, created=timestamp()
        )

    entry = add_version(store, write)
    counts = (review.count("accept"), review.count("edit"), review.count("reject"), review.undecided)
    note("{} accepted, {} edited, {} rejected, {} left as they were".format(*counts))
    left = {record.class_id for record in store.read(str(entry)).records()}
    for class_id in dict.fromkeys(record.class_id for record in bundle.records()):
        if class_id not in left:
            note(f"warning: the class {class_id} has no description left, so the new version is not complete")
    return str(entry)


def _refuse_decided(path: Path, bundle: Bundle) -> None:
    """Spreadsheets save over the sheet that they opened, so one that is there may be hours of somebody's work."""
    from abs_descriptions.bundles.review import read_review_file

    if not path.exists():
        return
    try:
        decided = len(read_review_file(path, bundle).rows)
    except BundleError:
        raise UsageError(
            f"{str(path)!r} is there and is no sheet of {bundle.reference}", remedy="Name another folder, or move it"
        ) from None
    if decided:
        raise UsageError(
            f"{str(path)!r} is there with {decided} decisions",
            remedy="Read it with --read, or name another folder with --out",
        )
