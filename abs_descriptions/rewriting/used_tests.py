"""Which images have tested a rewriting, so that a test that is repeated on the same images is known for one.

A test means what it says only the first time: who rewrites until a test is passed chooses by the test. Beside the
journals the folder ``tested`` has a folder for each set of classes, whatever the bundle is called, and there a file for
each test, named after what was tested on which images.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abs_core.bundle_scores import NetGain
from abs_core.canonical import canonical_json, digest
from abs_core.files import atomic_write, storage_errors
from abs_core.labels import LabelSet

__all__ = ["UsedTests"]

# of an image id, sha256 in hexadecimal; enough to tell apart all images of a test
_ID_DIGITS = 16

_FOLDER_DIGITS = 16

_MAX_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class UsedTests:
    """The tests of rewritings of one set of classes.

    Args:
        folder: of the files; None keeps none and knows of none.
    """

    folder: Path | None

    @classmethod
    def beside(cls, journal: Path | None, labels: LabelSet) -> UsedTests:
        """Those of bundles with these classes whose journals lie beside this one."""
        name = labels.digest.removeprefix("sha256:")[:_FOLDER_DIGITS]
        return cls(None if journal is None else journal.parent / "tested" / name)

    def overlap(self, image_ids: Sequence[str], tested: str) -> int:
        """How many of the images have tested another rewriting.

        Args:
            image_ids: of a test half.
            tested: the digest of what is to be tested. The same on the same images is the same test.

        Raises:
            StorageError: a file cannot be read.
        """
        this_test = self._key(image_ids, tested)
        images = set(map(_short, image_ids))
        used = set[str]()
        if self.folder is not None and self.folder.is_dir():
            for path in sorted(self.folder.glob("*.json")):
                if path.stem != this_test:
                    used |= images.intersection(_images(path))
        return len(used)

    def add(self, image_ids: Sequence[str], tested: str, gain: NetGain, about: dict[str, Any]) -> None:
        """Record a test.

        Raises:
            StorageError: the file cannot be written.
        """
        if self.folder is None:
            return
        value = {**about, "tested": tested, "gain": gain.model_dump(mode="json"), "images": [*map(_short, image_ids)]}
        with storage_errors(self.folder, "write"):
            self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.folder / f"{self._key(image_ids, tested)}.json") as stream:
            stream.write(canonical_json(value).encode() + b"\n")

    @staticmethod
    def _key(image_ids: Sequence[str], tested: str) -> str:
        return digest([sorted(image_ids), tested]).removeprefix("sha256:")[:16]


def _short(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:_ID_DIGITS]


def _images(path: Path) -> list[str]:
    """The images of a test; none where the file is damaged, which costs a warning at most."""
    with storage_errors(path, "read"):
        if path.stat().st_size > _MAX_BYTES:
            return []
        data = path.read_bytes()
    try:
        images = json.loads(data)["images"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
    return [image for image in images if isinstance(image, str)] if isinstance(images, list) else []
