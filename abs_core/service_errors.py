"""Errors of services that keep files, such as S3, in our words, and which of them may pass.

A client library's own words are never shown: they may hold a signed URL or a header.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

from abs_core.errors import StorageError
from abs_core.http import retry_after

__all__ = ["code_of", "is_interrupted", "may_pass", "problem_of", "retried", "status_of"]

T = TypeVar("T")

# What a client library calls it -> (what it is called here, what to do). Its own words may hold a signed URL.
_REASONS = {
    "PermissionError": ("access was refused", "Check the credentials and rights, see docs/sharing.md"),
    "NoCredentialsError": ("no credentials were found", "Set them as docs/sharing.md says"),
    "FileNotFoundError": ("there is no such bucket", "Create it, or check its name"),
    "RepositoryNotFoundError": ("there is no such repository, or not for you", "Create it on the hub, or log in there"),
    "RevisionNotFoundError": ("there is no such revision", "Name a branch, a tag or a commit of the repository"),
    "TimeoutError": ("it did not answer in time", "Try again, or check the connection"),
    "TimeoutException": ("it did not answer in time", "Try again, or check the connection"),
    "ConnectTimeoutError": ("it did not answer in time", "Try again, or check the connection"),
    "EndpointConnectionError": ("it cannot be reached", "Check AWS_ENDPOINT_URL, if it is set, and the connection"),
    "ConnectionError": ("it cannot be reached", "Check the address and the connection"),
    "ConnectError": ("it cannot be reached", "Check the address and the connection"),
    "ClientConnectorError": ("it cannot be reached", "Check the address and the connection"),
    "OfflineModeIsEnabled": ("HF_HUB_OFFLINE forbids it", "Unset HF_HUB_OFFLINE"),
}

_REGION_REMEDY = "Set AWS_DEFAULT_REGION to the region of the bucket"
_KEY_REMEDY = "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, see docs/sharing.md"
_BUSY = ("it is busy", "Try again later")

#: of S3, by its own names; the address of a bucket's region is told in a header
_CODES = {
    "AccessDenied": ("access was refused", "Check the credentials and rights, see docs/sharing.md"),
    "AuthorizationHeaderMalformed": ("the bucket is in another region", _REGION_REMEDY),
    "ConditionalRequestConflict": ("others keep writing the same object", "Try again later"),
    "ExpiredToken": ("the credentials have expired", "Get new ones, such as with `aws sso login`"),
    "IllegalLocationConstraintException": ("the bucket is in another region", _REGION_REMEDY),
    "InternalError": ("it failed", "Try again later"),
    "InvalidAccessKeyId": ("the access key does not exist there", _KEY_REMEDY),
    "InvalidToken": ("the session token is not valid there", "Get new credentials, or unset AWS_SESSION_TOKEN"),
    "NoSuchBucket": _REASONS["FileNotFoundError"],
    "OperationAborted": ("others keep writing the same object", "Try again later"),
    "PermanentRedirect": ("the bucket is in another region", _REGION_REMEDY),
    "RequestTimeTooSkewed": ("the clock of this machine is wrong", "Set it"),
    "SignatureDoesNotMatch": ("the secret key does not fit the access key", _KEY_REMEDY),
    "SlowDown": _BUSY,
    "TokenRefreshRequired": ("the credentials have expired", "Get new ones, such as with `aws sso login`"),
}

_STATUSES = {
    301: ("it is elsewhere", _REGION_REMEDY),
    401: ("access was refused", "Check the credentials, see docs/sharing.md"),
    403: ("access was refused", "Check the credentials and rights, see docs/sharing.md"),
    409: ("others keep writing the same object", "Try again later"),
    429: ("it asks for fewer requests", "Try again later, or log in: a token raises the limit"),
    **dict.fromkeys((500, 502, 503, 504), ("it failed", "Try again later")),
}

_CODE = re.compile(r"[A-Za-z][A-Za-z0-9.]{2,60}")
_REGION = re.compile(r"[a-z]{2,8}(-[a-z0-9]{1,20}){1,4}")

# seconds before the second, third and fourth attempt, and the longest that a service may ask for
_PAUSES = (0.5, 2.0, 8.0)
_LONGEST_PAUSE = 60.0


def retried(call: Callable[[], T]) -> T:
    """The result of a request to a service, asked again where its failure may pass: 408, 425, 429, 5xx.

    Up to three more times, after a pause that grows; one that the service asks for is believed up to a minute.

    Args:
        call: makes the request; it must do no harm to make it twice.
    """
    for pause in _PAUSES:
        try:
            return call()
        except Exception as error:
            if not may_pass(error):
                raise
            wait = _wanted_pause(error)
            if wait > _LONGEST_PAUSE:
                raise
            time.sleep(max(wait, pause))
    return call()


def may_pass(error: Exception) -> bool:
    """Whether a service failed in a way in which it may not fail the next time."""
    status = status_of(error)
    return status is not None and (status in (408, 425, 429) or status >= 500)


# of clients, for a connection that broke off, also while a body came
_INTERRUPTIONS = frozenset(
    (
        "ClientPayloadError", "ConnectionClosedError", "ConnectionError", "EndpointConnectionError", "HTTPClientError",
        "IncompleteRead", "IncompleteReadError", "ResponseStreamingError", "TimeoutError",
    )
)  # fmt: skip


def is_interrupted(error: Exception) -> bool:
    """Whether a connection broke off, or took too long, before all of an answer was there."""
    # some carry a status that no server sent
    return not code_of(error) and any(
        kind.__name__ in _INTERRUPTIONS for link in _chain(error) for kind in type(link).__mro__
    )


def _wanted_pause(error: Exception) -> float:
    headers = getattr(getattr(error, "response", None), "headers", None)
    return (retry_after(headers, datetime.now(UTC)) if isinstance(headers, Mapping) else None) or 0.0


def problem_of(error: Exception, doing: str, address: str) -> StorageError:
    """An error of a client library in our words: never in its own, which may hold a signed URL or a header.

    Args:
        error: what the library raised.
        doing: continuing "cannot ...": "read", "write".
        address: of the storage.
    """
    kinds = [kind.__name__ for link in _chain(error) for kind in type(link).__mro__]
    code, status = code_of(error), status_of(error)
    reason, remedy = (
        _CODES.get(code)
        or next((_REASONS[kind] for kind in kinds if kind in _REASONS), None)
        or _STATUSES.get(status or 0)
        or (f"the client reports {type(error).__name__}", "Check the address, the connection and the credentials")
    )
    region = _region_of(error)
    if region and status in (301, 307, 400):
        reason, remedy = f"the bucket is in the region {region}", f"Set AWS_DEFAULT_REGION={region}"
    said = ", ".join([*([code] if code else []), *([f"HTTP {status}"] if status else [])])
    return StorageError(f"cannot {doing} {address}: {reason}{f' ({said})' if said else ''}", remedy=remedy)


def code_of(error: Exception) -> str:
    """The service's own name of an error of S3, such as ``SlowDown``; empty where there is none."""
    for link in _chain(error):
        response = getattr(link, "response", None)
        code = response.get("Error", {}).get("Code") if isinstance(response, Mapping) else None
        if isinstance(code, str) and _CODE.fullmatch(code):
            return code
    return ""


def _region_of(error: Exception) -> str:
    for link in _chain(error):
        response = getattr(link, "response", None)
        if isinstance(response, Mapping):
            headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
            region = headers.get("x-amz-bucket-region") or response.get("Error", {}).get("Region", "")
            if _REGION.fullmatch(region):
                return str(region)
    return ""


def _chain(error: BaseException) -> list[BaseException]:
    """An error and what caused it; at most a few, since clients wrap theirs once or twice."""
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and len(links) < 5:
        links.append(link)
        link = link.__cause__ or link.__context__
    return links


def status_of(error: Exception) -> int | None:
    """The HTTP status that an error of a client library, or what caused it, carries; None if there is none."""
    return next((code for link in _chain(error) if (code := _status(link)) is not None), None)


def _status(error: BaseException) -> int | None:
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):
        code = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        code = getattr(response, "status_code", None) or getattr(error, "code", None) or getattr(error, "status", None)
    return code if isinstance(code, int) and 100 <= code < 600 else None
