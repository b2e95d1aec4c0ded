"""Where the toolkit keeps what it keeps: in the folders that the system has for data and caches, unless the user says
otherwise. A folder ``~/.abs`` of an earlier release stays in use, with the cache in it.
"""

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
        root: holds bundles, journals and results (``ABS_HOME``).
        cache: the cache, in a ``root`` that was named unless it is named itself; may lie on another disk and may be
            shared by several processes (``ABS_CACHE``).
        bucket: the address of the features where they do not lie in ``cache``, such as ``s3://team/cache``: without a
            final slash, so that every way to write it is one store.
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
        home, cache = root or os.environ.get("ABS_HOME"), cache or os.environ.get("ABS_CACHE")
        base = _folder("--home", home or _default_root())
        size = _size(cache_size or os.environ.get("ABS_CACHE_SIZE"))
        local = base / "cache" if home else _default_cache()
        if isinstance(cache, str) and is_address(cache):
            location = parse_location(cache)
            if location.protocol not in ("s3", "gs"):
                raise UsageError(
                    f"--cache must be a folder or a bucket, got the address {cache.partition('://')[0]}://...",
                    remedy="Name a folder, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER",
                )
            return cls(base, local, size, str(location))
        return cls(base, _folder("--cache", cache or local), size)

    @property
    def indexes(self) -> Path:
        """Where to find features fast: beside them, or in ``root`` where they may lie on another, slower disk."""
        if self.bucket:
            return self.indexes_of(self.bucket)
        is_beside = self.root in self.cache.parents or self._has_default_cache
        return self.cache / "index" if is_beside else self.indexes_of(self.cache)

    def indexes_of(self, place: Path | str) -> Path:
        """Where to find fast what lies at another place: a folder, or an address."""
        name = place.rstrip("/") if isinstance(place, str) else place
        return self.root / "index" / sha256_bytes(os.fsencode(name)).removeprefix("sha256:")[:16]

    @property
    def _has_default_cache(self) -> bool:
        try:
            return self.cache == _default_cache()
        except UsageError:
            return False

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


def _former_root() -> Path | None:
    """The folder of earlier releases, where the user has it."""
    try:
        folder = Path("~/.abs").expanduser()
        return folder if folder.is_dir() else None
    except (RuntimeError, OSError):
        return None


def _default_root() -> Path:
    from platformdirs import user_data_path  # not where both folders are named

    former = _former_root()
    try:
        return user_data_path("abs", appauthor=False) if former is None else former
    except RuntimeError:
        raise _no_home("data") from None


def _default_cache() -> Path:
    from platformdirs import user_cache_path

    former = _former_root()
    try:
        return user_cache_path("abs", appauthor=False) if former is None else former / "cache"
    except RuntimeError:
        raise _no_home("a cache") from None


def _no_home(what: str) -> UsageError:
    return UsageError(
        f"this user has no home folder for {what}",
        remedy="Name a folder in the variable ABS_HOME, or with --home",
    )


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
        remedy = (
            "Name a local folder" if option == "--home" else "Name a folder, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER"
        )
        raise UsageError(f"{option} must be a folder, got the address {written!r}", remedy=remedy)
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:
        raise _no_home(repr(str(path))) from None
    except FileNotFoundError:
        raise UsageError(
            f"the working folder, in which {str(path)!r} is to be, no longer exists",
            remedy="Change to another folder",
        ) from None
