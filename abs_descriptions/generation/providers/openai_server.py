"""A server that speaks the OpenAI protocol: its address, the key for it, and clients that send no other key.

A key is read from the environment when requests are sent, is sent in one header to one host, and is stored nowhere.
Redirects are not followed. The client's own retries are off; ``RetryPolicy`` is the only one.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from abs_core.errors import UsageError
from abs_core.extras import is_installed, require
from abs_core.network import EnvironmentProxy, explain_connection, proxy_for, tls_context
from abs_descriptions.generation.providers.base import NO_ADAPTATION, Adaptation, Message, Request
from abs_descriptions.generation.providers.error_responses import ResponseProblem, classify_status
from abs_descriptions.generation.providers.response_validation import LIST_SCHEMA

__all__ = ["OpenAIServer", "refuses_schema", "validate_extra_body"]

_OFFICIAL = "https://api.openai.com/v1"
_AZURE = re.compile(r"\.(?:openai\.azure|cognitiveservices\.azure|services\.ai\.azure)\.[a-z]+$")

# Seconds; a host that does not answer the first packet is not there.
_CONNECT_TIMEOUT = 30.0

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


# Members of a body that have an option of their own, and those on which the reading of the answer depends.
_OPTIONS = {
    "model": "--model",
    "max_tokens": "--max-tokens",
    "max_completion_tokens": "--max-tokens",
    "temperature": "--temperature",
    "top_p": "--top-p",
    "seed": "--seed",
}
_OURS = frozenset(("messages", "n", "best_of", "stream", "stream_options", "response_format", "tools", "tool_choice"))


class OpenAIServer:
    """A server.

    Args:
        base_url: up to and including ``/v1``; the path of a method behind it, such as ``/chat/completions``, is left
            out, and a query may only name Azure's ``api-version``. By default ``OPENAI_BASE_URL`` from the environment,
            else OpenAI's own.
        key_variable: the environment variable that holds the key for this server. By default
            ``OPENAI_API_KEY`` for OpenAI's own server and for ``OPENAI_BASE_URL``, and no key for any other.

    Raises:
        UsageError: an invalid base URL, or one with credentials.
    """

    def __init__(self, base_url: str | None, key_variable: str | None) -> None:
        self.base_url, self._query = _validated_url(base_url or os.environ.get("OPENAI_BASE_URL") or _OFFICIAL)
        self.host = urlsplit(self.base_url).netloc
        self.endpoint = self.base_url
        """The address that requests go to, once it is known better than by the base URL."""
        self._key_variable = key_variable
        self._proxy: EnvironmentProxy | None = None

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
            if not self.is_official and (ambient is None or _validated_url(ambient)[0] != self.base_url):
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
        """An ``AsyncOpenAI`` for this server that gives answers as they came; the caller closes it.

        Args:
            key: from ``read_key``.
            timeout: seconds without a byte.

        Raises:
            UsageError: a proxy or a file of certificates in the environment that cannot be used.
        """
        openai = require("openai")

        async def strip(request: Any) -> None:
            self._strip_headers(request, key)

        async def mark(response: Any) -> None:
            # By this header, which is not sent, the client knows that the answer is wanted as it came.
            response.request.headers["x-stainless-raw-response"] = "true"

        options = self._http(strip)
        options["event_hooks"]["response"] = [mark]
        http = openai.DefaultAsyncHttpxClient(**options)
        return openai.AsyncOpenAI(http_client=http, **self._arguments(key, timeout))

    def open(self, key: str | None, timeout: float) -> Any:
        """An ``OpenAI`` for this server, as ``open_async``."""
        openai = require("openai")
        http = openai.DefaultHttpxClient(**self._http(lambda request: self._strip_headers(request, key)))
        return openai.OpenAI(http_client=http, **self._arguments(key, timeout))

    def _arguments(self, key: str | None, timeout: float) -> dict[str, Any]:
        # The client must not look for a key itself: it would find one for another host. Nor must it take the header
        # from the environment. Without a key the header is removed again.
        headers = {"Authorization": f"Bearer {key or 'none'}"}
        if self._query and key is not None:
            headers["api-key"] = key
        return {
            "api_key": key or "none",
            "base_url": self.endpoint,
            "max_retries": 0,
            "timeout": require("openai").Timeout(timeout, connect=min(timeout, _CONNECT_TIMEOUT)),
            "default_headers": headers,
            "default_query": dict(self._query),
        }

    def _http(self, strip: Any) -> dict[str, Any]:
        # Proxies and certificates are read here, and not by the client, which does not say what is wrong with them.
        self._proxy = proxy_for(self.base_url)
        if self._proxy is not None and self._proxy.is_socks and not is_installed("socksio"):
            raise UsageError(
                f"{self._proxy.variable} names a SOCKS proxy, for which the package 'socksio' is not installed",
                remedy=f"Run: pip install socksio, or unset {self._proxy.variable}, or name an HTTP proxy",
            )
        options: dict[str, Any] = {"follow_redirects": False, "trust_env": False, "event_hooks": {"request": [strip]}}
        context = tls_context()
        if context is not None:
            options["verify"] = context
        if self._proxy is not None:
            options["proxy"] = self._proxy.url
        return options

    def _strip_headers(self, request: Any, key: str | None) -> None:
        allowed = _OFFICIAL_HEADERS if self.is_official else _HEADERS | ({"api-key"} if self._query else set())
        for name in [name for name in request.headers if name.lower() not in allowed]:
            del request.headers[name]
        # Azure takes a key in a header of its own, and a token of its directory in this one.
        if key is None or self._query:
            request.headers.pop("authorization", None)

    def chat_body(
        self,
        model: str,
        request: Request,
        *,
        schema: bool = True,
        adaptation: Adaptation = NO_ADAPTATION,
        extra: Mapping[str, Any] = MappingProxyType({}),
    ) -> dict[str, Any]:
        """The JSON body of a chat completion; parameters that are None are not in it.

        Args:
            model: as the server calls it.
            request: what to send.
            schema: constrain the model to the schema of a list, if one is requested; not every server can.
            adaptation: what the model does not take.
            extra: further members.
        """
        given, unsent = adaptation.applied_to(request.parameters), adaptation.unsent
        drawn = {"temperature": given.temperature, "top_p": given.top_p}
        if given.seed is not None:
            drawn["seed"] = request.draw_seed
        # OpenAI's newer models refuse the old name; other servers only support the old one.
        length = "max_completion_tokens" if self.is_official else "max_tokens"
        return {
            "model": model,
            "messages": _turns(request.messages, has_system="system" not in unsent),
            dict(adaptation.renamed).get(length, length): given.max_tokens,
            **{name: value for name, value in drawn.items() if value is not None},
            **(_LIST if schema and request.answer == "list" and "response_format" not in unsent else {}),
            **extra,
        }

    def alternative(self, problem: ResponseProblem) -> str | None:
        """A base URL that may be meant where nothing was found under this one; None if there is none.

        Args:
            problem: what the server answered.
        """
        parts = urlsplit(self.base_url)
        is_path = problem.status in (404, 405) and not (
            "model" in problem.words.lower() and "not found" in problem.words.lower()
        )
        if self.endpoint != self.base_url or self._query or not is_path or re.search(r"/v\d", parts.path):
            return None
        ending = "/openai/v1" if _AZURE.search(parts.hostname or "") and not parts.path else "/v1"
        return f"{self.base_url}{ending}"

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
            return classify_status(error.status_code, error.response.headers, error.response.content, self.host, key)
        if not isinstance(error, (TimeoutError, openai.APIConnectionError)):
            return ResponseProblem("again", "the reply is not JSON", billed=True, kind="not JSON")
        cause = type(error.__cause__ or error).__name__
        sent = cause not in ("ConnectError", "ConnectTimeout", "UnsupportedProtocol", "ProxyError")
        if sent and isinstance(error, (TimeoutError, openai.APITimeoutError)):
            return ResponseProblem("again", "no reply in time", billed=True, kind="timeout")
        if sent:
            return ResponseProblem("again", f"the connection broke ({cause})", billed=True, kind="connection")
        reason, remedy = explain_connection(error, self.host, proxy=self._proxy)
        if reached:
            return ResponseProblem("again", reason, kind="connection")
        return ResponseProblem("stop", reason, remedy=remedy, kind="connection", scope="run")


def _turns(messages: Sequence[Message], *, has_system: bool) -> list[dict[str, str]]:
    """The conversation; without system messages their text comes first in the next turn of the user."""
    turns, before = list[dict[str, str]](), list[str]()
    for turn in messages:
        if turn.role == "system" and not has_system:
            before.append(turn.content)
            continue
        content = turn.content
        if turn.role == "user":
            content = "\n\n".join([*before, content])
            before.clear()
        turns.append({"role": turn.role, "content": content})
    return turns


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


def validate_extra_body(extra: Mapping[str, Any] | None) -> dict[str, Any]:
    """Further members of a request.

    Raises:
        UsageError: no JSON object, or one with what has an option of its own or would change what comes back.
    """
    remedy = """Give an object such as '{"reasoning_effort": "low"}'"""
    if extra is None:
        return {}
    try:
        text = json.dumps(extra, allow_nan=False) if isinstance(extra, Mapping) else ""
        value = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        raise UsageError("the extra body must be a JSON object", remedy=remedy) from None
    for name in value:
        if name in _OPTIONS:
            raise UsageError(f"the extra body must not contain {name!r}", remedy=f"Use {_OPTIONS[name]}")
        if name in _OURS:
            raise UsageError(f"the extra body must not contain {name!r}, which is set here", remedy="Leave it out")
    return dict(value)


def _validated_url(url: str) -> tuple[str, dict[str, str]]:
    """The base URL without what the client adds to it, and the API version that Azure wants in the query."""
    try:
        parts = urlsplit(url.strip())
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    query = dict(parse_qsl(parts.query))
    if parts.username is not None or parts.password is not None or set(query) - {"api-version"} or parts.fragment:
        raise UsageError(
            "the base URL must not contain credentials or a query", remedy="Put the key in an environment variable"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or set(parts.netloc) & set(" <>\\\"'{}|^`"):
        raise UsageError(
            f"the base URL must be an http or https URL, got {url[:100]!r}",
            remedy="Write it like http://127.0.0.1:8000/v1",
        )
    path = re.sub(r"/+$", "", parts.path)
    path = re.sub(r"/+(?:chat/completions|completions|responses|models|batches|files)$", "", path).rstrip("/")
    if parts.netloc == "api.openai.com" and not path:
        path = "/v1"
    return f"{parts.scheme}://{parts.netloc}{path}", query
