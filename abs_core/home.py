"""Where the toolkit keeps what it keeps: one folder, ``~/.abs`` unless the user says otherwise."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from abs_core.canonical import sha256_bytes
from abs_core.errors import UsageError
from abs_core.locations import is_address, parse_location
from abs_core.text import parse_bytes

__all__ = ["Home"]


@dataclass(frozen=True)
class Home:
    """The user's folders.

    Args:
        root: holds bundles, journals, results and, unless ``cache`` says otherwise, the cache (``ABS_HOME``).
        cache: the cache; may lie on another disk and may be shared by several processes (``ABS_CACHE``).
        bucket: the address of the features where they do not lie in ``cache``, such as ``s3://team/cache``.
        cache_size: the bytes that features may take in it, ``inf`` for no limit, 0 to keep no new ones; None: a fifth
            of the disk that would be free without them (``ABS_CACHE_SIZE``).
    """

    root: Path
    cache: Path
    cache_size: float | None = None
    bucket: str = ""

    @classmethod
    def at(cls, root: Path | None, cache: Path | str | None, cache_size: str | None = None) -> Home:
        """The folders for the options; None: those of the variables, or their defaults.

        Args:
            root, cache: the folders; ``cache`` may be the address of a bucket.
            cache_size: such as 500M or 5G; "none" for no limit.

        Raises:
            UsageError: an address in place of a folder, no home folder to put the default into, or no size.
        """
        base = _folder("--home", root or os.environ.get("ABS_HOME") or "~/.abs")
        size = _size(cache_size or os.environ.get("ABS_CACHE_SIZE"))
        place = cache or os.environ.get("ABS_CACHE") or base / "cache"
        if isinstance(place, str) and is_address(place):
            if parse_location(place).protocol not in ("s3", "gs"):
                raise UsageError(
                    f"--cache must be a folder or a bucket, got the address {place.partition('://')[0]}://...",
                    remedy="Name a folder, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER",
                )
            return cls(base, base / "cache", size, place)
        return cls(base, _folder("--cache", place), size)

    @property
    def indexes(self) -> Path:
        """Where to find features fast: beside them, or in ``root`` where they may lie on another, slower disk."""
        if self.bucket:
            return self.indexes_of(self.bucket)
        return self.cache / "index" if self.root in self.cache.parents else self.indexes_of(self.cache)

    def indexes_of(self, place: Path | str) -> Path:
        """Where to find fast what lies at another place: a folder, or an address."""
        name = place.rstrip("/") if isinstance(place, str) else place
        return self.root / "index" / sha256_bytes(os.fsencode(name)).removeprefix("sha256:")[:16]

    @property
    def bundles(self) -> Path:
        """The local bundle store."""
        return self.root / "bundles"

    @property
    def remotes(self) -> Path:
        """The file with the names of the places that bundles are pushed to and pulled from."""
        return self.root / "remotes.json"

    @property
    def journals(self) -> Path:
        """The append-only journals of replies from language models."""
        return self.root / "journals"

    @property
    def models(self) -> Path:
        """The models that were imported, and the records of those that were pulled."""
        return self.root / "models"

    @property
    def results(self) -> Path:
        """The result files of evaluations."""
        return self.root / "results"

    @property
    def scores(self) -> Path:
        """What bundles won and cost when they were last scored, see ``BundleScores.path_in``."""
        return self.root / "scores"


# as pathlib leaves it: two slashes have become one
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/+")


def _size(text: str | None) -> float | None:
    if not text:
        return None
    try:
        return float("inf") if text.strip().lower() == "none" else parse_bytes(text)
    except ValueError as error:
        raise UsageError(f"--cache-size {error}", remedy='Give a size, "none" for no limit, or 0') from None


def _folder(option: str, path: str | Path) -> Path:
    address = _ADDRESS.match(str(path))
    if address is not None:
        written = address[0].rstrip("/") + "//" + str(path)[address.end() :]
        raise UsageError(f"{option} must be a folder, got the address {written!r}", remedy="Name a local folder")
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:
        raise UsageError(
            f"this user has no home folder for {str(path)!r}",
            remedy="Name a folder in the variable ABS_HOME, or with --home",
        ) from None
    except FileNotFoundError:
        raise UsageError(
            f"the working folder, in which {str(path)!r} is to be, no longer exists",
            remedy="Change to another folder",
        ) from None
