"""Any server that speaks the OpenAI chat protocol, through ``AsyncOpenAI``, many requests at once.

An event loop runs in a thread of its own, so that replies can be taken from ordinary code and from a notebook alike.
At most ``2 * concurrency`` requests are under way or wait to be taken, whatever their number.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

from abs_core.errors import FatalBackendError, UsageError
from abs_core.extras import require
from abs_descriptions.generation.providers.base import Failure, Outcome, Reply, Request, Tokens
from abs_descriptions.generation.providers.openai_server import OpenAIServer, refuses_schema
from abs_descriptions.generation.providers.rate_limit import RateLimiter, RateLimits
from abs_descriptions.generation.providers.response_validation import ValidatedResponse, validate_answer
from abs_descriptions.generation.providers.retry import RetryPolicy, RetryState

__all__ = ["OpenAIChatProvider"]


class OpenAIChatProvider:
    """A model on a server.

    Args:
        model: as the server calls it.
        base_url, key_variable: see ``OpenAIServer``.
        concurrency: requests under way at once.
        requests_per_minute, tokens_per_minute: see ``RateLimits``; None for no limit.
        patience: when to ask again.

    Raises:
        UsageError: a base URL that is none, or that holds credentials; a concurrency below 1; a limit of zero.
    """

    name = "openai"

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        key_variable: str | None = None,
        concurrency: int = 16,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        patience: RetryPolicy | None = None,
    ) -> None:
        if concurrency < 1:
            raise UsageError("the concurrency is at least 1", remedy="Give a larger number")
        self.model = model
        self.server = OpenAIServer(base_url, key_variable)
        self.concurrency = concurrency
        self.limits = RateLimits(requests_per_minute, tokens_per_minute)
        self.patience = patience or RetryPolicy()

    def key(self) -> Mapping[str, Any]:
        """Backend, base URL and model."""
        return {"backend": self.name, "base_url": self.server.base_url, "model": self.model}

    def complete(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Outcome]]:
        """See ``base.Backend``; replies come as they arrive.

        Raises:
            MissingExtraError: the extra "openai" is not installed.
            UsageError: the variable that is to hold the key is not set.
            FatalBackendError: a wrong key, a spent quota, an unknown model, a host that cannot be reached. Requests
                that are under way then are waited for and handed out first, for they are paid; so are, as failures,
                those that only had attempts that are paid.
        """
        require("openai")
        return _Session(self, self.server.read_key(), iter(requests)).outcomes()


class _StopError(Exception):
    """Ends the run with a verdict, and a request after attempts that took the tokens ``lost``."""

    def __init__(self, verdict: ValidatedResponse, lost: Tokens) -> None:
        super().__init__(verdict.reason)
        self.verdict, self.lost = verdict, lost


class _Session:
    """One call of ``complete``: a thread with an event loop, workers in it, and a queue out of it."""

    def __init__(self, backend: OpenAIChatProvider, key: str | None, requests: Iterator[Request]) -> None:
        self._backend, self._key, self._requests = backend, key, requests
        self._queue: SimpleQueue[tuple[Request, Outcome] | BaseException | None] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop
        self._room = asyncio.Semaphore(2 * backend.concurrency)
        self._gate = RateLimiter(backend.limits)
        self._task: asyncio.Task[None] | None = None
        self._cancelled = False
        self._stop: ValidatedResponse | None = None
        self._reached = False
        self._schema = True
        openai = require("openai")
        self._faults = (openai.OpenAIError, TimeoutError, ValueError, RecursionError)

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

    def _call(self, function: Callable[[], None]) -> None:
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
        async with self._backend.server.open_async(self._key, self._backend.patience.timeout) as client:
            workers = [asyncio.create_task(self._work(client)) for _ in range(self._backend.concurrency)]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, client: Any) -> None:
        while self._stop is None:
            await self._room.acquire()
            request = next(self._requests, None)
            if request is None:
                return
            try:
                self._queue.put((request, await self._ask(client, request)))
            except _StopError as stop:
                if stop.lost.total:
                    self._queue.put((request, Failure(stop.verdict.reason, stop.lost)))
                self._stop = self._stop or stop.verdict
                self._gate.close()

    async def _ask(self, client: Any, request: Request) -> Outcome:
        """Ask until there is a reply or the patience is spent."""
        tries: RetryState | None = None
        schema, refused, lost = True, False, Tokens()
        while True:
            spent = await self._gate.enter(request)
            if spent is None:
                raise _StopError(self._stop or ValidatedResponse("stop", "stopped"), lost)
            # The wait for the first turn is no fault of the server's.
            tries = tries or RetryState(self._backend.patience, self._loop.time())
            schema = schema and self._schema
            answer = await self._attempt(client, request, schema)
            if isinstance(answer, Reply):
                self._gate.settle(spent, request, answer)
                self._schema = self._schema and not refused
                return replace(answer, lost=lost)
            lost += answer.lost(request)
            if schema and refuses_schema(request, answer, perhaps=True):
                # The reply is checked in any case, so that it may be asked for in words alone.
                schema, refused = False, refuses_schema(request, answer)
                continue
            if answer.action == "stop":
                raise _StopError(answer, lost)
            wait = tries.wait_after(answer, self._loop.time())
            if wait is None:
                return Failure(tries.reason(answer), lost)
            if answer.billed and not request.may_repeat(lost):
                return Failure(f"{tries.reason(answer)}; the cost limit allows no further attempt", lost)
            if answer.wait:
                # The server speaks to all of us, not to this request alone.
                self._gate.hold_back(wait)
            else:
                await self._gate.pause(wait)

    async def _attempt(self, client: Any, request: Request, schema: bool) -> Reply | ValidatedResponse:
        body = self._backend.server.chat_body(self._backend.model, request, schema=schema)
        try:
            async with asyncio.timeout(self._backend.patience.timeout):
                answer = await client.chat.completions.create(**body)
        except self._faults as error:
            verdict = self._backend.server.judge_error(error, self._key, reached=self._reached)
            self._reached = self._reached or verdict.status > 0
            return self._backend.patience.cap(verdict, self._backend.server.host)
        self._reached = True
        return validate_answer(answer, self._key)
