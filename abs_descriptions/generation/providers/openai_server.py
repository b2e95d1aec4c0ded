"""A server that speaks the OpenAI protocol: its address, the key for it, and clients that send no other key.

A key is read from the environment when requests are sent, is sent in one header to one host, and is stored nowhere.
Redirects are not followed. The client's own retries are off; ``RetryPolicy`` is the only one.
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

from abs_core.errors import UsageError
from abs_core.extras import require
from abs_core.http import is_loopback
from abs_descriptions.generation.providers.base import Request
from abs_descriptions.generation.providers.response_validation import LIST_SCHEMA, ResponseProblem, classify_status

__all__ = ["OpenAIServer", "refuses_schema"]

_OFFICIAL = "https://api.openai.com/v1"

# The headers of a request; the client would add others from the environment.
_HEADERS = frozenset(
    (
        "accept",
        "accept-encoding",
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "host",
        "transfer-encoding",
        "user-agent",
    )
)

_LIST = {
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "descriptions", "strict": True, "schema": LIST_SCHEMA},
    }
}

# How servers answer that do not support schemas.
_NO_SCHEMA = frozenset((400, 422, 501))
_OFFICIAL_HEADERS = _HEADERS | {"openai-organization", "openai-project"}


class OpenAIServer:
    """A server.

    Args:
        base_url: up to and including ``/v1``; by default ``OPENAI_BASE_URL`` from the environment, else OpenAI's own.
        key_variable: the environment variable that holds the key for this server. By default
            ``OPENAI_API_KEY`` for OpenAI's own server and for ``OPENAI_BASE_URL``, and no key for any other.

    Raises:
        UsageError: an invalid base URL, or one with credentials.
    """

    def __init__(self, base_url: str | None, key_variable: str | None) -> None:
        self.base_url = _validated_url(base_url or os.environ.get("OPENAI_BASE_URL") or _OFFICIAL)
        self.host = urlsplit(self.base_url).netloc
        self._key_variable = key_variable

    @property
    def is_official(self) -> bool:
        """Whether this is OpenAI's own server."""
        return self.base_url == _OFFICIAL

    def read_key(self) -> str | None:
        """The key for this server; None if it needs none.

        Raises:
            UsageError: the variable for it is not set, or holds no usable key.
        """
        variable = self._key_variable
        if variable is None:
            ambient = os.environ.get("OPENAI_BASE_URL")
            if not self.is_official and (ambient is None or ambient.rstrip("/") != self.base_url):
                return None
            variable = "OPENAI_API_KEY"
            if not self.is_official and variable not in os.environ:
                return None
        key = os.environ.get(variable, "").strip()
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            state = "holds no usable key" if key else "is not set"
            raise UsageError(
                f"the environment variable {variable} with the key for {self.host} {state}",
                remedy=f"Set {variable}, or name another one",
            )
        return key

    def open_async(self, key: str | None, timeout: float) -> Any:
        """An ``AsyncOpenAI`` for this server; the caller closes it.

        Args:
            key: from ``read_key``.
            timeout: seconds without a byte.
        """
        openai = require("openai")

        async def strip(request: Any) -> None:
            self._strip_headers(request, key)

        http = openai.DefaultAsyncHttpxClient(**self._http(strip))
        return openai.AsyncOpenAI(http_client=http, **self._arguments(key, timeout))

    def open(self, key: str | None, timeout: float) -> Any:
        """An ``OpenAI`` for this server, as ``open_async``."""
        openai = require("openai")
        http = openai.DefaultHttpxClient(**self._http(lambda request: self._strip_headers(request, key)))
        return openai.OpenAI(http_client=http, **self._arguments(key, timeout))

    def _arguments(self, key: str | None, timeout: float) -> dict[str, Any]:
        # The client must not look for a key itself: it would find one for another host. Nor must it take the header
        # from the environment. Without a key the header is removed again.
        return {
            "api_key": key or "none",
            "base_url": self.base_url,
            "max_retries": 0,
            "timeout": timeout,
            "default_headers": {"Authorization": f"Bearer {key or 'none'}"},
        }

    def _http(self, strip: Any) -> dict[str, Any]:
        loopback = is_loopback(self.base_url)
        return {"follow_redirects": False, "trust_env": not loopback, "event_hooks": {"request": [strip]}}

    def _strip_headers(self, request: Any, key: str | None) -> None:
        allowed = _OFFICIAL_HEADERS if self.is_official else _HEADERS
        for name in [name for name in request.headers if name.lower() not in allowed]:
            del request.headers[name]
        if key is None:
            request.headers.pop("authorization", None)

    def chat_body(self, model: str, request: Request, *, schema: bool = True) -> dict[str, Any]:
        """The JSON body of a chat completion; parameters that are None are not in it.

        Args:
            model: as the server calls it.
            request: what to send.
            schema: constrain the model to the schema of a list, if one is requested; not every server can.
        """
        given = request.parameters
        drawn = {"temperature": given.temperature, "top_p": given.top_p, "seed": request.draw_seed}
        return {
            "model": model,
            "messages": [{"role": turn.role, "content": turn.content} for turn in request.messages],
            # OpenAI's newer models refuse the old name; other servers only support the old one.
            "max_completion_tokens" if self.is_official else "max_tokens": given.max_tokens,
            **{name: value for name, value in drawn.items() if value is not None},
            **(_LIST if schema and request.answer == "list" else {}),
        }

    def classify_error(self, error: Exception, key: str | None, *, reached: bool) -> ResponseProblem:
        """What an exception of the client means.

        Args:
            error: an ``OpenAIError``, a ``TimeoutError``, or a ``ValueError`` or ``RecursionError``, which the client
                raises for a success with a body that is not JSON.
            key: it is redacted if the server repeats it.
            reached: whether the server has answered before.
        """
        openai = require("openai")
        if isinstance(error, openai.APIStatusError):
            return classify_status(error.status_code, error.response.headers, error.body, self.host, key)
        if isinstance(error, (TimeoutError, openai.APITimeoutError)):
            return ResponseProblem("again", "no reply in time", billed=True)
        if isinstance(error, openai.APIConnectionError):
            cause = type(error.__cause__ or error).__name__
            sent = cause not in ("ConnectError", "UnsupportedProtocol", "ProxyError")
            if reached or sent:
                return ResponseProblem("again", f"the connection broke ({cause})", billed=sent)
            return ResponseProblem(
                "stop", f"{self.host} cannot be reached", remedy="Start the server, or check the base URL"
            )
        return ResponseProblem("again", "the reply is not JSON", billed=True)


def refuses_schema(request: Request, answer: object, *, perhaps: bool = False) -> bool:
    """Whether a server may have refused a request because of the schema in it.

    Args:
        request: what was sent.
        answer: a reply, or what is wrong with it.
        perhaps: count a status 500 too, which llama.cpp's server answers, and which may also mean something else.
    """
    if request.answer != "list" or not isinstance(answer, ResponseProblem):
        return False
    return answer.status in _NO_SCHEMA or (perhaps and answer.status == 500)


def _validated_url(url: str) -> str:
    try:
        parts = urlsplit(url.strip())
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise UsageError(
            "the base URL must not contain credentials or a query", remedy="Put the key in an environment variable"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            f"the base URL must be an http or https URL, got {url[:100]!r}",
            remedy="Write it like http://127.0.0.1:8000/v1",
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
