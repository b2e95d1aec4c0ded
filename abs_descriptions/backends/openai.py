"""Any server that speaks the OpenAI chat protocol, through ``AsyncOpenAI``.

The client's own retries are off; there is one policy, ``Patience``. A key is read from the environment when requests
are sent, travels in one header to one host, and is kept nowhere. Redirects are not followed.

An event loop runs in a thread of its own, so that replies can be taken from ordinary code and from a notebook alike.
At most ``2 * concurrency`` requests are under way or wait to be taken, whatever their number.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any
from urllib.parse import urlsplit

from abs_core.errors import FatalBackendError, UsageError
from abs_core.extras import require
from abs_descriptions.backends.base import Failure, Outcome, Reply, Request
from abs_descriptions.backends.verdicts import Verdict, judge_answer, judge_status

__all__ = ["OpenAIBackend", "Patience"]

_OFFICIAL = "https://api.openai.com/v1"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
# What a request may carry; the client adds more from the environment, which is none of the server's business.
_HEADERS = frozenset(
    ("accept", "accept-encoding", "authorization", "connection", "content-length", "content-type", "host", "user-agent")
)
_OFFICIAL_HEADERS = _HEADERS | {"openai-organization", "openai-project"}


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a request is asked and how long is waited between.

    Args:
        attempts: at most so many times, not counting those that the server answered with "too many requests".
        first_wait: seconds before the second attempt; each further wait is twice as long, and shortened at random by
            up to a half so that requests do not come in step.
        longest_wait: seconds, of such a wait.
        longest_retry_after: a server that asks to wait longer than this fails the request.
        give_up_after: seconds after which no request is asked again, whatever the server said.
        timeout: seconds for one attempt, from connecting to the last byte.
    """

    attempts: int = 6
    first_wait: float = 1.0
    longest_wait: float = 60.0
    longest_retry_after: float = 300.0
    give_up_after: float = 900.0
    timeout: float = 180.0


class OpenAIBackend:
    """A model on a server.

    Args:
        model: as the server calls it.
        base_url: up to and with ``/v1``; by default ``OPENAI_BASE_URL`` from the environment, else OpenAI's own.
        key_variable: the environment variable that holds the key for this very server. By default
            ``OPENAI_API_KEY`` for OpenAI's own server and for ``OPENAI_BASE_URL``, and no key for any other.
        concurrency: requests under way at once.
        patience: when to ask again.

    Raises:
        UsageError: a base URL that is none, or that holds credentials; a concurrency below 1.
    """

    name = "openai"

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        key_variable: str | None = None,
        concurrency: int = 16,
        patience: Patience | None = None,
    ) -> None:
        if concurrency < 1:
            raise UsageError("the concurrency is at least 1", remedy="Give a larger number")
        self.model = model
        self.base_url = _checked_url(base_url or os.environ.get("OPENAI_BASE_URL") or _OFFICIAL)
        self.host = urlsplit(self.base_url).netloc
        self.concurrency = concurrency
        self.patience = patience or Patience()
        self._key_variable = key_variable

    @property
    def is_official(self) -> bool:
        """Whether this is OpenAI's own server."""
        return self.base_url == _OFFICIAL

    def key(self) -> Mapping[str, Any]:
        """Backend, base URL and model."""
        return {"backend": self.name, "base_url": self.base_url, "model": self.model}

    def complete(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Outcome]]:
        """See ``base.Backend``; replies come as they arrive.

        Raises:
            MissingExtraError: the extra "openai" is not installed.
            UsageError: the variable that is to hold the key is not set.
            FatalBackendError: a wrong key, a spent quota, an unknown model, a host that cannot be reached. Requests
                that are under way then are waited for and handed out first, for they are paid.
        """
        require("openai")
        return _Session(self, self._read_key(), iter(requests)).outcomes()

    def _read_key(self) -> str | None:
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
                f"the environment variable {variable}, which is to hold the key for {self.host}, {state}",
                remedy=f"Set {variable}, or name another one",
            )
        return key


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url.strip())
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise UsageError(
            "the base URL holds credentials or a query", remedy="Put the key in an environment variable, not in the URL"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"the base URL {url[:100]!r} is none", remedy="Write it like http://127.0.0.1:8000/v1")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


class _StopError(Exception):
    """Ends the run with a verdict."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.reason)
        self.verdict = verdict


class _Session:
    """One call of ``complete``: a thread with an event loop, workers in it, and a queue out of it."""

    def __init__(self, backend: OpenAIBackend, key: str | None, requests: Iterator[Request]) -> None:
        self._backend, self._key, self._requests = backend, key, requests
        self._queue: SimpleQueue[tuple[Request, Outcome] | BaseException | None] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop
        self._room = asyncio.Semaphore(2 * backend.concurrency)
        self._task: asyncio.Task[None] | None = None
        self._cancelled = False
        self._stop: Verdict | None = None
        self._stopped = asyncio.Event()
        self._not_before = 0.0
        self._reached = False

    def outcomes(self) -> Iterator[tuple[Request, Outcome]]:
        """Start the thread and hand out what it queues; closing this cancels what is under way."""
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._run, name="openai", daemon=True)
        thread.start()
        try:
            while (item := self._queue.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
                self._call(self._room.release)
        finally:
            self._call(self._cancel)
            thread.join()

    def _call(self, function: Any) -> None:
        with suppress(RuntimeError):  # the loop has ended by itself
            self._loop.call_soon_threadsafe(function)

    def _cancel(self) -> None:
        self._cancelled = True
        if self._task is not None:
            self._task.cancel()

    def _run(self) -> None:
        end: BaseException | None = None
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._main())
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            end = error
        if end is None and self._stop is not None:
            end = FatalBackendError(self._stop.reason, remedy=self._stop.remedy)
        self._queue.put(end)

    async def _main(self) -> None:
        self._task = asyncio.current_task()
        if self._cancelled:
            return
        async with self._client() as client:
            workers = [asyncio.create_task(self._work(client)) for _ in range(self._backend.concurrency)]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    def _client(self) -> Any:
        openai = require("openai")
        loopback = (urlsplit(self._backend.base_url).hostname or "") in _LOOPBACK
        return openai.AsyncOpenAI(
            # The client must not look for a key itself: it would find one that is meant for another host. Nor must it
            # take a header for one from the environment. Without a key the header is taken off again.
            api_key=self._key or "none",
            base_url=self._backend.base_url,
            max_retries=0,
            timeout=self._backend.patience.timeout,
            default_headers={"Authorization": f"Bearer {self._key or 'none'}"},
            http_client=openai.DefaultAsyncHttpxClient(
                follow_redirects=False, trust_env=not loopback, event_hooks={"request": [self._strip_headers]}
            ),
        )

    async def _strip_headers(self, request: Any) -> None:
        allowed = _OFFICIAL_HEADERS if self._backend.is_official else _HEADERS
        if self._key is None:
            allowed = allowed - {"authorization"}
        for name in [name for name in request.headers if name.lower() not in allowed]:
            del request.headers[name]

    async def _work(self, client: Any) -> None:
        while self._stop is None:
            await self._room.acquire()
            request = next(self._requests, None)
            if request is None:
                return
            try:
                self._queue.put((request, await self._ask(client, request)))
            except _StopError as stop:
                self._stop = self._stop or stop.verdict
                self._stopped.set()

    async def _ask(self, client: Any, request: Request) -> Outcome:
        """Ask until there is a reply or the patience is spent."""
        patience, started = self._backend.patience, self._loop.time()
        wait, asked = patience.first_wait, 0
        while True:
            await self._pause()
            if self._stop is not None:
                raise _StopError(self._stop)
            answer = await self._attempt(client, request)
            if isinstance(answer, Reply):
                return answer
            if answer.action == "stop":
                raise _StopError(answer)
            asked += not answer.throttled
            spent = asked >= patience.attempts or self._loop.time() - started > patience.give_up_after
            if spent or answer.action == "give up" or (answer.wait or 0.0) > patience.longest_retry_after:
                return Failure(f"{answer.reason} (asked {asked} times)" if asked > 1 else answer.reason)
            if answer.wait:
                # The server speaks to all of us, not to this request alone.
                self._not_before = max(self._not_before, self._loop.time() + answer.wait)
            else:
                await self._sleep(wait * random.uniform(0.5, 1.0))
                wait = min(2 * wait, patience.longest_wait)

    async def _pause(self) -> None:
        while self._stop is None and (left := self._not_before - self._loop.time()) > 0:
            await self._sleep(left)

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopped.wait()

    async def _attempt(self, client: Any, request: Request) -> Reply | Verdict:
        openai = require("openai")
        try:
            async with asyncio.timeout(self._backend.patience.timeout):
                answer = await self._send(client, request)
        except openai.APIStatusError as error:
            self._reached = True
            headers = error.response.headers
            return judge_status(error.status_code, headers, error.body, self._backend.host, self._key)
        except (TimeoutError, openai.APITimeoutError):
            return Verdict("again", "no reply in time")
        except openai.APIConnectionError as error:
            return self._unreachable(error)
        except (openai.OpenAIError, ValueError):
            # A success with a body that is no JSON; the client lets the decoder's own error through.
            return Verdict("again", "the reply is no JSON")
        self._reached = True
        return judge_answer(answer, self._key)

    async def _send(self, client: Any, request: Request) -> Any:
        openai = require("openai")
        given = request.parameters
        # OpenAI's newer models refuse the old name; other servers know no other.
        limit = {"max_completion_tokens" if self._backend.is_official else "max_tokens": given.max_tokens}
        drawn = {"temperature": given.temperature, "top_p": given.top_p, "seed": request.draw_seed}
        return await client.chat.completions.create(
            model=self._backend.model,
            messages=[{"role": turn.role, "content": turn.content} for turn in request.messages],
            **limit,
            **{name: openai.omit if value is None else value for name, value in drawn.items()},
        )

    def _unreachable(self, error: Exception) -> Verdict:
        cause = type(error.__cause__ or error).__name__
        if self._reached or cause not in ("ConnectError", "UnsupportedProtocol", "ProxyError"):
            return Verdict("again", f"the connection broke ({cause})")
        return Verdict(
            "stop", f"{self._backend.host} cannot be reached", remedy="Start the server, or check the base URL"
        )
