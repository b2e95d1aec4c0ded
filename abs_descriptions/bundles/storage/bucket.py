"""Buckets of S3 and of Google Cloud Storage, through fsspec's clients for them.

The manifest is created by a conditional write: ``If-None-Match: *`` on S3, ``ifGenerationMatch=0`` on Google's.
Not every server that speaks S3's language honours the condition, so every push proves it on a small file of its own
before anything else is written.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from itertools import islice

from abs_core.buckets import Bucket, modification_time
from abs_core.errors import StorageError
from abs_core.service_errors import code_of, problem_of
from abs_descriptions.bundles.storage.base import BLOCK, MAX_NAMES, Blob, ListedFile, Storage

__all__ = ["BucketStorage"]

_PROOF = "conditional-write"
_MAX_FILES = 1_000_000

# Seconds after which a file that is there already is written again by a push: garbage is collected by age.
_YOUNG = 600.0


class BucketStorage(Storage):
    """A folder in a bucket as a storage.

    Args:
        bucket: the folder.
    """

    def __init__(self, bucket: Bucket) -> None:
        self.address = bucket.address
        self._root = bucket.root
        self._client = bucket.client
        self._bucket = bucket

    def names(self, folder: str) -> Sequence[str]:
        try:
            paths = self._client.ls(f"{self._root}/{folder}", detail=False)
        except FileNotFoundError as error:
            if code_of(error) or not self._bucket.has_bucket():
                raise problem_of(error, "read", self.address) from None
            return []
        except Exception as error:
            raise problem_of(error, "read", self.address) from None
        return [str(path).rstrip("/").rpartition("/")[2] for path in islice(paths, MAX_NAMES)]

    def blocks(self, path: str) -> Generator[bytes, None, None]:
        try:
            stream = self._client.open(f"{self._root}/{path}", "rb", block_size=4 * BLOCK, cache_type="readahead")
        except FileNotFoundError:
            raise FileNotFoundError(path) from None
        except Exception as error:
            raise problem_of(error, "read", self.address) from None
        with stream:
            while True:
                try:
                    block: bytes = stream.read(BLOCK)
                except Exception as error:
                    raise problem_of(error, "read", self.address) from None
                if not block:
                    return
                yield block

    def check_writable(self) -> None:
        if not self._bucket.honours_conditions(_PROOF):
            raise StorageError(
                f"{self.address} does not honour conditional writes, so two pushes could overwrite each other",
                remedy="Use a server that honours If-None-Match, or push to a folder",
            )

    def publish(self, blobs: Sequence[Blob], path: str, data: bytes) -> bool:
        try:
            for blob in blobs:
                if not self._is_kept(blob, path):
                    self._client.put_file(str(blob.file), f"{self._root}/{blob.path}")
        except Exception as error:
            raise problem_of(error, "write", self.address) from None
        return self._bucket.create(path, data)

    def files(self, folder: str) -> Sequence[ListedFile]:
        place = f"{self._root}/{folder}".rstrip("/")
        try:
            entries = self._client.find(place, detail=True)
        except FileNotFoundError as error:
            if code_of(error) or not self._bucket.has_bucket():
                raise problem_of(error, "read", self.address) from None
            return []
        except Exception as error:
            raise problem_of(error, "read", self.address) from None
        return [
            ListedFile(str(path).removeprefix(f"{self._root}/"), int(entry["size"]), modification_time(entry))
            for path, entry in islice(entries.items(), _MAX_FILES)
        ]

    def restore(self, blobs: Sequence[Blob]) -> None:
        try:
            for blob in blobs:
                self._client.put_file(str(blob.file), f"{self._root}/{blob.path}")
        except Exception as error:
            raise problem_of(error, "write", self.address) from None

    def delete(self, files: Sequence[ListedFile]) -> Sequence[ListedFile]:
        """As for every storage, as far as a second listing shows it: there is no deletion on a condition."""
        if not files:
            return files
        folders = sorted({file.path.partition("/")[0] for file in files})
        now = {file for folder in folders for file in self.files(folder)}
        unchanged = [file for file in files if file in now]
        if not unchanged:
            return []
        try:
            self._client.rm([f"{self._root}/{file.path}" for file in unchanged])
        except Exception as error:
            raise problem_of(error, "remove files from", self.address) from None
        # S3's client drops what the service says of single files
        left = {file.path for folder in folders for file in self.files(folder)}.intersection(
            file.path for file in unchanged
        )
        if left:
            raise StorageError(
                f"{len(left)} of {len(unchanged)} files could not be removed from {self.address}, such as {min(left)}",
                remedy="Check that the credentials allow it, on S3 s3:DeleteObject",
            )
        return unchanged

    def _is_kept(self, blob: Blob, manifest: str) -> bool:
        """Whether a file is there and will stay: it is young, or the manifest that names it is there."""
        try:
            # Buckets show no part of a file, so one of the right length is the one, or somebody's forgery: see pull.
            entry = self._client.info(f"{self._root}/{blob.path}")
        except FileNotFoundError:
            return False
        if entry["size"] != blob.file.stat().st_size:
            return False
        modified = modification_time(entry)
        if modified is not None and time.time() - modified < _YOUNG:
            return True
        try:
            self._client.info(f"{self._root}/{manifest}")
        except FileNotFoundError:
            return False
        return True
