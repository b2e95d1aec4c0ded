"""Bundles shared between stores: through a folder, a bucket, a web server or the Hugging Face hub.

    parse_location(text)       which places there are, and what none may hold
    open_remote(location)      a place as a ``Remote``: list, read, publish
    push, pull, list_remote    what a store does with one

The layout in every place is that of the local store, so a shared folder is a store. docs/sharing.md is normative.
"""

from __future__ import annotations

from abs_descriptions.bundles.sharing import RemoteListing, SharedBundle, list_remote, pull, push
from abs_descriptions.bundles.storage.base import PROTOCOLS, Location, Remote, parse_location

__all__ = [
    "PROTOCOLS",
    "Location",
    "Remote",
    "RemoteListing",
    "SharedBundle",
    "list_remote",
    "open_remote",
    "parse_location",
    "pull",
    "push",
]


def open_remote(location: Location) -> Remote:
    """The place that a location names. Nothing is asked of it yet.

    Raises:
        MissingExtraError: the package that speaks its protocol is not installed.
    """
    if location.protocol == "file":
        from abs_descriptions.bundles.storage.folder import FolderRemote

        return FolderRemote(location)
    if location.protocol in ("http", "https"):
        from abs_descriptions.bundles.storage.web import WebRemote

        return WebRemote(location)
    if location.protocol == "hf":
        from abs_descriptions.bundles.storage.hub import HubRemote

        return HubRemote(location)
    from abs_descriptions.bundles.storage.bucket import open_bucket

    return open_bucket(location)
