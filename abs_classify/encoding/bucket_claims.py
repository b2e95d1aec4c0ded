"""Who computes what, between machines that share a bucket, which has no locks.

A claim is an object that is created on the condition that there is none, and is believed for a limited time. So a
machine that vanishes costs others a wait, and two machines at worst compute the same rows, which is harmless.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from abs_classify.encoding.store_processes import claim_work, wait_for_work
from abs_core.buckets import Bucket
from abs_core.errors import StorageError
from abs_core.files import atomic_write

__all__ = ["BucketClaims"]

_logger = logging.getLogger(__name__)

_FOLDER, _SUFFIX, _HOLDER_FILE = "claims/", ".claim", "holder"

# seconds for which a claim is believed
_LEASE = 600.0

# seconds between two looks at a claim of somebody else
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 5.0

# work that takes less than this many times what it takes to claim it is not claimed
_WORTH = 50.0


class BucketClaims:
    """Claims of this process. For several threads at once.

    Args:
        bucket: where they are.
        folder: of this machine, for claims between its own processes.
    """

    def __init__(self, bucket: Bucket, folder: Path) -> None:
        self._bucket, self._folder = bucket, folder
        self._home: str | None = None
        # what was claimed and is done, but whose rows others cannot see yet
        self._done: list[str] = []
        self._can_write, self._has_tidied = True, False
        # seconds: what claiming took at least, and what the last work took
        self._latency, self._work = float("inf"), float("inf")

    @contextmanager
    def claim(self, work: str) -> Iterator[bool]:
        """Claim a piece of work until its rows can be seen, which ``release`` says; False while another has it."""
        with claim_work(self._folder, work) as is_mine:
            path = _path_of(work)
            asks = is_mine and self._can_write and self._is_worth_it()
            is_claimed = asks and self._create(path)
            if asks and not is_claimed and self._can_write:
                yield False
                return
            start = time.monotonic()
            try:
                yield is_mine
            finally:
                if is_mine:
                    self._work = time.monotonic() - start
                if is_claimed:
                    self._done.append(path)

    @contextmanager
    def exclusive(self, work: str) -> Iterator[bool]:
        """Claim a piece of work that leaves nothing to be seen later, until the block ends."""
        path = _path_of(work)
        with claim_work(self._folder, work) as is_mine:
            is_claimed = is_mine and self._create(path)
            try:
                yield is_claimed
            finally:
                if is_claimed:
                    with suppress(StorageError):
                        self._bucket.remove([path])

    def wait_for(self, work: str, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds until nobody claims a piece of work; whether it is free.

        Raises:
            StorageError: the bucket cannot be asked.
        """
        end, pause = time.monotonic() + timeout, _FIRST_PAUSE
        if not wait_for_work(self._folder, work, timeout):
            return False
        while self._holder(_path_of(work)) is not None:
            left = end - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE)
        return True

    def done(self) -> list[str]:
        """The claims whose work is done, so that their rows can be shown; for ``release``."""
        return list(self._done)

    def release(self, done: Sequence[str]) -> None:
        """Let go of claims whose rows can be seen now, and once of those that nobody believes any more."""
        for path in done:
            self._done.remove(path)
        if done:
            with suppress(StorageError):  # they expire
                self._bucket.remove(done)
                if not self._has_tidied:
                    self._has_tidied = True
                    self.remove_expired()

    def disable(self) -> None:
        """Grant every claim: the bucket does not honour conditions."""
        self._can_write = False

    def remove_expired(self) -> Sequence[str]:
        """Remove the claims that nobody believes any more.

        Raises:
            StorageError: the bucket cannot be listed or written.
        """
        expired = [
            entry.path for entry in self._bucket.objects(_FOLDER) if time.time() - (entry.modified or 0.0) > _LEASE
        ]
        self._bucket.remove(expired)
        return expired

    def _is_worth_it(self) -> bool:
        return self._work > _WORTH * self._latency or self._latency == float("inf")

    def _create(self, path: str) -> bool:
        """Whether a claim is ours now; one that is expired, or of a process of this home that ended, is taken over."""
        start = time.monotonic()
        try:
            granted = self._bucket.create(path, self._token())
            self._latency = min(self._latency, time.monotonic() - start)
            if not granted and (holder := self._holder(path)) in (None, self._home_name()):
                # locks of this machine say that no other process of this home is at it
                self._bucket.remove([path] if holder else [])
                granted = self._bucket.create(path, self._token())
        except StorageError as error:
            _logger.info("work is not divided between machines: %s", error.message)
            self._can_write = False
            return False
        return granted

    def _holder(self, path: str) -> str | None:
        """The home that claims a piece of work; None if none does, or did for too long."""
        try:
            text = self._bucket.read(path, 0, 200).decode("ascii", "replace")
        except FileNotFoundError:
            return None
        home, _, stamp = text.partition(" ")
        with suppress(ValueError):
            # no clock is so far ahead, and who wrote this would be believed for years
            if abs(time.time() - float(stamp)) < _LEASE:
                return home
        with suppress(StorageError):
            self._bucket.remove([path])
        return None

    def _token(self) -> bytes:
        return f"{self._home_name()} {time.time():.0f}".encode("ascii")

    def _home_name(self) -> str:
        """A name that no other home has: claims that a killed process left are taken over by its successor."""
        if self._home is None:
            file = self._folder / _HOLDER_FILE
            with suppress(OSError):
                self._home = file.read_text("ascii")[:32]
            if not self._home:
                self._home = secrets.token_hex(16)
                with suppress(OSError, StorageError), atomic_write(file) as stream:
                    stream.write(self._home.encode("ascii"))
            # an image of a machine may have been started twice
            self._home += hashlib.sha256(os.fsencode(platform.node())).hexdigest()[:8]
        return self._home


def _path_of(work: str) -> str:
    return f"{_FOLDER}{hashlib.sha256(work.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}{_SUFFIX}"
