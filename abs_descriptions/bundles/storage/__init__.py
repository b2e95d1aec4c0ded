"""Where bundles are kept: a folder, a bucket, a web server to read from, a dataset repository of the Hugging Face hub.

parse_location(text)    which locations there are, and what none may hold
open_storage(text)      a location as a ``Storage``, over which there is a ``Repository``
"""

from __future__ import annotations

from pathlib import Path

from abs_core.locations import PROTOCOLS, Location, parse_location
from abs_descriptions.bundles.storage.base import Blob, Storage

__all__ = ["PROTOCOLS", "Blob", "Location", "Storage", "open_storage", "parse_location"]


def open_storage(location: Location) -> Storage:
    """The storage at a location, which others write as well. Nothing is asked of it yet.

    Raises:
        MissingExtraError: the package that speaks its protocol is not installed.
    """
    if location.protocol == "file":
        from abs_descriptions.bundles.storage.folder import FolderStorage

        return FolderStorage(Path(location.path), shared=True)
    if location.protocol in ("http", "https"):
        from abs_descriptions.bundles.storage.web import WebStorage

        return WebStorage(location)
    if location.protocol == "hf":
        from abs_descriptions.bundles.storage.hub import HubStorage

        return HubStorage(location)
    from abs_core.buckets import open_bucket
    from abs_descriptions.bundles.storage.bucket import BucketStorage

    return BucketStorage(open_bucket(location))
