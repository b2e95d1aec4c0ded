"""Any server that speaks the OpenAI chat protocol, through ``AsyncOpenAI``, with many requests at once.

An event loop runs in a thread of its own, so that the provider works in ordinary code and in a notebook alike. At most
``2 * concurrency`` requests are in flight or answered and not yet consumed, whatever their number.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

from abs_core.errors import FatalProviderError, UsageError
from abs_core.extras import require
from abs_descriptions.generation.providers.base import (
    Adaptation,
    Failure,
    Outcome,
    Reply,
    Request,
    Tokens,
    max_tokens_per_attempt,
)
from abs_descriptions.generation.providers.openai_server import OpenAIServer, refuses_schema
from abs_descriptions.generation.providers.rate_limit import RateLimiter, RateLimits
from abs_descriptions.generation.providers.response_validation import ResponseProblem, validate_completion
from abs_descriptions.generation.providers.retry import RetryPolicy, RetryState

__all__ = ["OpenAIChatProvider"]


class OpenAIChatProvider:
    """A model on a server.

    Args:
        model: as the server calls it.
        base_url, key_variable: see ``OpenAIServer``.
        concurrency: requests in flight at once.
        requests_per_minute, tokens_per_minute: see ``RateLimits``; None for no limit.
        retry_policy: when to retry.

    Raises:
        UsageError: an invalid base URL, or one with credentials; a concurrency below 1; an invalid limit.
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
        retry_policy: RetryPolicy | None = None,
    ) -> None:
        if concurrency < 1:
            raise UsageError(f"the concurrency must be at least 1, got {concurrency}", remedy="Give a larger number")
        self.model = model
        self.adaptation = Adaptation()
        self.server = OpenAIServer(base_url, key_variable)
        self.concurrency = concurrency
        self.limits = RateLimits(requests_per_minute, tokens_per_minute)
        self.retry_policy = retry_policy or RetryPolicy()

    def key(self) -> Mapping[str, Any]:
        """Provider, base URL and model."""
        return {"backend": self.name, "base_url": self.server.base_url, "model": self.model}

    def complete(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Outcome]]:
        """See ``base.Provider``; outcomes are yielded as they arrive.

        Raises:
            MissingExtraError: the extra "openai" is not installed.
            UsageError: the environment variable for the key is not set.
            FatalProviderError: a wrong key, an exhausted quota, an unknown model, a host that cannot be reached. Before
                that, requests in flight are waited for and yielded, because they are paid for; so are, as failures,
                those with paid attempts but no reply.
        """
        require("openai")
        return _Session(self, self.server.read_key(), iter(requests)).outcomes()


class _StopError(Exception):
    """Ends the run because of a problem; the attempts at the request took the tokens ``lost``."""

    def __init__(self, problem: ResponseProblem, lost: Tokens) -> None:
        super().__init__(problem.reason)
        self.problem, self.lost = problem, lost


class _Session:
    """One call of ``complete``: a thread with an event loop, workers in it, and a queue out of it."""

    def __init__(self, provider: OpenAIChatProvider, key: str | None, requests: Iterator[Request]) -> None:
        self._provider, self._key, self._requests = provider, key, requests
        self._queue: SimpleQueue[tuple[Request, Outcome] | BaseException | None] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop
        self._room = asyncio.Semaphore(2 * provider.concurrency)
        self._limiter = RateLimiter(provider.limits)
        self._task: asyncio.Task[None] | None = None
        self._cancelled = False
        self._stop: ResponseProblem | None = None
        self._reached = False
        self._schema = True
        openai = require("openai")
        self._client_errors = (openai.OpenAIError, TimeoutError, ValueError, RecursionError)

    def outcomes(self) -> Iterator[tuple[Request, Outcome]]:
        """Start the thread and yield what it queues; closing the iterator cancels the requests in flight."""
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
            end = FatalProviderError(self._stop.reason, remedy=self._stop.remedy)
        self._queue.put(end)

    async def _main(self) -> None:
        self._task = asyncio.current_task()
        if self._cancelled:
            return
        async with self._provider.server.open_async(self._key, self._provider.retry_policy.timeout) as client:
            workers = [asyncio.create_task(self._work(client)) for _ in range(self._provider.concurrency)]
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
                    self._queue.put((request, Failure(stop.problem.reason, stop.lost)))
                self._stop = self._stop or stop.problem
                self._limiter.close()

    async def _ask(self, client: Any, request: Request) -> Outcome:
        """Attempt a request until there is a reply or the retry policy allows no further attempt."""
        state: RetryState | None = None
        schema, refused, lost = True, False, Tokens()
        while True:
            reservation = await self._limiter.acquire(request)
            if reservation is None:
                raise _StopError(self._stop or ResponseProblem("stop", "stopped"), lost)
            # The wait for the rate limiter before the first attempt does not count.
            state = state or RetryState(self._provider.retry_policy, self._loop.time())
            schema = schema and self._schema
            answer = await self._attempt(client, request, schema)
            if isinstance(answer, Reply):
                self._limiter.settle(reservation, request, answer)
                self._schema = self._schema and not refused
                return replace(answer, lost=lost)
            lost += answer.lost(request)
            if schema and refuses_schema(request, answer, perhaps=True):
                # The reply is validated in any case, so a list can be requested without a schema.
                schema, refused = False, refuses_schema(request, answer)
                continue
            if answer.action == "stop":
                raise _StopError(answer, lost)
            wait = state.wait_after(answer, self._loop.time())
            if wait is None or not request.may_retry(answer.reason):
                return Failure(state.reason(answer), lost)
            if answer.billed and not request.may_repeat(lost, max_tokens_per_attempt(request)):
                return Failure(f"{state.reason(answer)}; the cost limit allows no further attempt", lost)
            if answer.wait:
                # The server means all requests, not this one alone.
                self._limiter.throttle(wait)
            else:
                await self._limiter.pause(wait)

    async def _attempt(self, client: Any, request: Request, schema: bool) -> Reply | ResponseProblem:
        body = self._provider.server.chat_body(self._provider.model, request, schema=schema)
        try:
            async with asyncio.timeout(self._provider.retry_policy.timeout):
                answer = await client.chat.completions.create(**body)
        except self._client_errors as error:
            problem = self._provider.server.classify_error(error, self._key, reached=self._reached)
            self._reached = self._reached or problem.status > 0
            return self._provider.retry_policy.cap(problem, self._provider.server.host)
        self._reached = True
        return validate_completion(answer, self._key)
