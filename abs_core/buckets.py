"""Buckets of S3 and of Google Cloud Storage, through fsspec's clients for them, with conditional writes.

An object is created by ``If-None-Match: *`` on S3 and by ``ifGenerationMatch=0`` on Google's, in one request: nobody
sees a part of it, and a writer that is killed leaves nothing. Credentials are those that the client finds; they are
never read, kept or shown here.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from abs_core.extras import require
from abs_core.locations import Location
from abs_core.service_errors import code_of, is_interrupted, problem_of, status_of

__all__ = ["Bucket", "BucketObject", "modification_time", "open_bucket"]

T = TypeVar("T")

_TIMEOUT = 60.0  # seconds

# botocore's mode that waits longer where a bucket asks for fewer requests; it sees no body that breaks off
_RETRIES = {"max_attempts": 5, "mode": "standard"}

# seconds before a read that was interrupted, or a write that met another one, is tried again
_PAUSES = (0.1, 0.5, 2.0)

_CONNECTIONS = 32

# one request for every object, up to the largest that S3 takes: parts of one could be left behind
_ONE_REQUEST = 5 << 30

# keys that S3 removes in one request
_MOST_REMOVED = 1000


@dataclass(frozen=True)
class BucketObject:
    """An object as a listing shows it.

    Args:
        path: relative to the folder that was opened.
        size: in bytes.
        modified: when it was written, in seconds since 1970; None where the service does not say it.
    """

    path: str
    size: int
    modified: float | None


def open_bucket(location: Location) -> Bucket:
    """The folder in a bucket at an s3: or gs: location. Nothing is asked of it yet.

    Raises:
        MissingExtraError: s3fs or gcsfs is not installed.
    """
    # Not fsspec.filesystem: its caches would show old listings, and instances are shared by all who ask.
    fresh = {"skip_instance_cache": True, "use_listings_cache": False}
    if location.protocol == "gs":
        return Bucket(location, require("gcsfs.core").GCSFileSystem(**fresh, timeout=_TIMEOUT))
    settings = {
        "connect_timeout": 10,
        "read_timeout": _TIMEOUT,
        "retries": _RETRIES,
        "max_pool_connections": _CONNECTIONS,
    }
    client = require("s3fs").S3FileSystem(**fresh, config_kwargs=settings)
    client.retries = 1  # botocore asks again as well, and knows better when
    return Bucket(location, client)


class Bucket:
    """A folder in a bucket. For several threads at once.

    Args:
        location: of the folder.
        client: the fsspec file system of its protocol.

    Attributes:
        address: where it is, for messages.
    """

    def __init__(self, location: Location, client: Any) -> None:
        self.address = str(location)
        self.root = location.path
        self.client = client
        self._is_s3 = location.protocol == "s3"

    def create(self, path: str, data: bytes) -> bool:
        """Write an object unless there is one; whether it was written.

        Raises:
            StorageError: it cannot be written.
        """
        options = {"chunksize": _ONE_REQUEST} if self._is_s3 else {}
        for pause in (*_PAUSES, None):
            try:
                self.client.pipe_file(f"{self.root}/{path}", data, mode="create", **options)
            except FileExistsError:
                return False
            except Exception as error:
                # not every client has its own error for an object that is there
                if status_of(error) == 412:
                    return False
                # 409 says only that another request for the name was under way, which may have removed the object or
                # failed: S3 asks for another try (API reference, PutObject, If-None-Match)
                if status_of(error) != 409 or pause is None:
                    raise problem_of(error, "write", self.address) from None
                time.sleep(pause * random.uniform(0.5, 1.5))  # so that two writers do not meet again
            else:
                return True
        raise AssertionError

    def honours_conditions(self, path: str) -> bool:
        """Whether an object that is there is not written again; not every server that speaks S3's language says so.

        Raises:
            StorageError: nothing can be written there.
        """
        return not self.create(path, b"") or not self.create(path, b"")

    def read(self, path: str, start: int = 0, end: int | None = None) -> bytes:
        """The bytes of an object from ``start`` to ``end``; fewer where it ends before.

        Raises:
            FileNotFoundError: there is no such object.
            StorageError: it cannot be read.
        """
        # without limits s3fs asks for the size first
        limits = {"start": start, "end": end if end is not None else _ONE_REQUEST}

        def ask() -> bytes:
            return bytes(self.client.cat_file(f"{self.root}/{path}", **limits))

        try:
            return _again_if_interrupted(ask)
        except FileNotFoundError as error:
            if code_of(error) == "NoSuchBucket":
                raise problem_of(error, "read", self.address) from None
            raise FileNotFoundError(path) from None
        except Exception as error:
            if status_of(error) == 416 or (isinstance(error, ValueError) and "range" in str(error).lower()):
                return b""  # it ends before; of Google's client that is a ValueError with the words of the service
            raise problem_of(error, "read", self.address) from None

    def objects(self, folder: str, after: str = "") -> list[BucketObject]:
        """The objects below a folder, by name.

        Args:
            folder: ends with a slash.
            after: the names that follow this one, relative to the folder; S3 does not look at the others.

        Raises:
            StorageError: it cannot be listed, or there is no such bucket.
        """
        try:
            pages = self._pages(folder, after) if self._is_s3 else self._entries(folder)
            return [entry for entry in pages if entry.path > folder + after]
        except FileNotFoundError as error:
            if self._is_s3 or not self._has_bucket():
                raise problem_of(error, "list", self.address) from None
            return []
        except Exception as error:
            raise problem_of(error, "list", self.address) from None

    def folders(self, folder: str) -> list[str]:
        """The names of the folders directly in a folder, which ends with a slash.

        Raises:
            StorageError: it cannot be listed.
        """
        try:
            paths = self.client.ls(f"{self.root}/{folder}", detail=True)
        except FileNotFoundError as error:
            if code_of(error) or not self._has_bucket():
                raise problem_of(error, "list", self.address) from None
            return []
        except Exception as error:
            raise problem_of(error, "list", self.address) from None
        return [entry["name"].rstrip("/").rpartition("/")[2] for entry in paths if entry["type"] == "directory"]

    def remove(self, paths: Sequence[str]) -> None:
        """Remove objects; those that are gone are gone.

        Raises:
            StorageError: the service refuses it.
        """
        for first in range(0, len(paths), _MOST_REMOVED):
            try:
                self._remove_part(paths[first : first + _MOST_REMOVED])
            except FileNotFoundError:
                continue
            except Exception as error:
                raise problem_of(error, "remove from", self.address) from None

    def _remove_part(self, paths: Sequence[str]) -> None:
        if not self._is_s3:
            self.client.rm([f"{self.root}/{path}" for path in paths])
            return
        bucket, _, prefix = self.root.partition("/")
        lead = f"{prefix}/" if prefix else ""
        keys = [{"Key": f"{lead}{path}"} for path in paths]
        answer = self.client.call_s3("delete_objects", Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
        for refused in answer.get("Errors", ()):
            raise _refusal(refused)

    def has_bucket(self) -> bool:
        """Whether the bucket exists: S3 says so itself, and of Google's the client hides it for a folder.

        Raises:
            StorageError: it cannot be listed.
        """
        return self._is_s3 or self._has_bucket()

    def _has_bucket(self) -> bool:
        if self._is_s3:
            return True
        try:
            self.client.ls(self.root.partition("/")[0], detail=False)
        except FileNotFoundError:
            return False
        except Exception as error:
            raise problem_of(error, "read", self.address) from None
        return True

    def _pages(self, folder: str, after: str) -> Iterator[BucketObject]:
        bucket, _, prefix = self.root.partition("/")
        lead = f"{prefix}/" if prefix else ""
        request = {"Bucket": bucket, "Prefix": f"{lead}{folder}"}
        if after:
            request["StartAfter"] = f"{lead}{folder}{after}"
        while True:
            page = self.client.call_s3("list_objects_v2", **request)
            for entry in page.get("Contents", ()):
                yield BucketObject(entry["Key"].removeprefix(lead), int(entry["Size"]), modification_time(entry))
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    def _entries(self, folder: str) -> Iterator[BucketObject]:
        entries = self.client.find(f"{self.root}/{folder}".rstrip("/"), detail=True)
        for path, entry in sorted(entries.items()):
            yield BucketObject(path.removeprefix(f"{self.root}/"), int(entry["size"]), modification_time(entry))


def _refusal(refused: dict[str, Any]) -> Exception:
    """What the service says of one of many objects, as an error with its code."""
    error = PermissionError(str(refused.get("Code", "")))
    error.response = {"Error": {"Code": str(refused.get("Code", ""))}}  # type: ignore[attr-defined]
    return error


def _again_if_interrupted(ask: Callable[[], T]) -> T:
    for pause in _PAUSES:
        try:
            return ask()
        except Exception as error:
            if not is_interrupted(error):
                raise
            time.sleep(pause)
    return ask()


def modification_time(entry: Any) -> float | None:
    """When an object was written, from an entry of a listing: s3fs has a time, gcsfs a text."""
    value = entry.get("LastModified") or entry.get("mtime") or entry.get("updated")
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    return value.timestamp() if isinstance(value, datetime) else None
