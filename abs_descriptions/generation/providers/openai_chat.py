"""Any server that speaks the OpenAI chat protocol, through ``AsyncOpenAI``, with many requests at once.

An event loop runs in a thread of its own, so that the provider works in ordinary code and in a notebook alike. At most
``2 * concurrency`` requests are in flight or answered and not yet consumed, whatever their number.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import Any

from abs_core.errors import FatalProviderError, UsageError
from abs_core.extras import require
from abs_descriptions.generation.providers.base import (
    NO_ADAPTATION,
    Adaptation,
    Failure,
    Outcome,
    Reply,
    Request,
    Tokens,
    max_tokens_per_attempt,
)
from abs_descriptions.generation.providers.error_responses import ResponseProblem
from abs_descriptions.generation.providers.openai_server import OpenAIServer, refuses_schema, validate_extra_body
from abs_descriptions.generation.providers.parameter_refusals import (
    adapt_to_reasoning,
    adapt_to_refusal,
    apply_change,
    out_of_range,
)
from abs_descriptions.generation.providers.rate_limit import ConcurrencyWindow, RateLimiter, RateLimits
from abs_descriptions.generation.providers.response_validation import validate_body
from abs_descriptions.generation.providers.retry import RetryPolicy, RetryState, ServerHealth

__all__ = ["OpenAIChatProvider"]


# Attempts to reach a server that ends every connection before its first answer.
_FIRST_CONTACTS = 3


class OpenAIChatProvider:
    """A model on a server.

    Args:
        model: as the server calls it.
        base_url, key_variable: see ``OpenAIServer``.
        concurrency: the maximum of requests in flight at once; fewer as long as a server cannot answer them in time.
        requests_per_minute, tokens_per_minute: see ``RateLimits``; None for no limit.
        timeout: seconds for one attempt; None for that of the retry policy.
        extra_body: further members of each request, as JSON values.
        retry_policy: when to retry.

    Raises:
        UsageError: an invalid base URL, or one with credentials; a concurrency below 1; an invalid limit; an extra body
            with what has an option of its own.
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
        timeout: float | None = None,
        extra_body: Mapping[str, Any] | None = None,
        retry_policy: RetryPolicy | None = None,
    ) -> None:
        if concurrency < 1:
            raise UsageError(f"the concurrency must be at least 1, got {concurrency}", remedy="Give a larger number")
        self.model = model
        self.adaptation = Adaptation()
        self.server = OpenAIServer(base_url, key_variable)
        self.concurrency = concurrency
        self.limits = RateLimits(requests_per_minute, tokens_per_minute)
        self.retry_policy = (retry_policy or RetryPolicy()).with_timeout(timeout)
        self.extra_body = validate_extra_body(extra_body)
        self.window = ConcurrencyWindow(concurrency, self.retry_policy.timeout, time.monotonic)

    def key(self) -> Mapping[str, Any]:
        """Provider, base URL, model and extra body."""
        key: dict[str, Any] = {"backend": self.name, "base_url": self.server.base_url, "model": self.model}
        return key | ({"extra_body": dict(self.extra_body)} if self.extra_body else {})

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


@dataclass(slots=True, eq=False)
class _Attempts:
    """The attempts at one request.

    Args:
        request: the request.
        state: of the retry policy; None before the first attempt.
        lost: the tokens of those in vain.
        granted: tokens that a reply may have and that are reserved.
        schema, schema_refused: whether a list is requested with a schema, and whether the server may have refused it.
        adaptation, body: of the latest attempt.
    """

    request: Request
    state: RetryState | None = None
    lost: Tokens = field(default_factory=Tokens)
    granted: int = 0
    schema: bool = True
    schema_refused: bool = False
    adaptation: Adaptation = NO_ADAPTATION
    body: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.granted = self.request.parameters.max_tokens


class _Session:
    """One call of ``complete``: a thread with an event loop, workers in it, and a queue out of it."""

    def __init__(self, provider: OpenAIChatProvider, key: str | None, requests: Iterator[Request]) -> None:
        self._provider, self._key, self._requests = provider, key, requests
        self._queue: SimpleQueue[tuple[Request, Outcome] | BaseException | None] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop
        self._room = asyncio.Semaphore(2 * provider.concurrency)
        self._limiter = RateLimiter(provider.limits)
        self._health = ServerHealth(provider.retry_policy.longest_outage)
        self._slots = self._in_flight = 0
        self._landed = asyncio.Event()
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
            if not await self._has_slot():
                return
            request = next(self._requests, None)
            if request is None:
                return
            try:
                self._queue.put((request, await self._ask(client, _Attempts(request))))
            except _StopError as stop:
                if stop.lost.total:
                    self._queue.put((request, stop.problem.failure(stop.problem.reason, stop.lost)))
                self._stop = self._stop or stop.problem
                self._limiter.close()
                self._landed.set()

    async def _has_slot(self) -> bool:
        """Wait until the window has room for a request; False if the run ends meanwhile."""
        while self._stop is None and self._slots >= self._provider.window.size:
            self._landed.clear()
            await self._landed.wait()
        return self._stop is None

    async def _ask(self, client: Any, attempts: _Attempts) -> Outcome:
        """Attempt a request until there is a reply or the retry policy allows no further attempt."""
        request = attempts.request
        while True:
            attempts.adaptation = self._provider.adaptation
            maximum = max_tokens_per_attempt(request, attempts.adaptation)
            if maximum.completion > attempts.granted:
                if not request.may_repeat(attempts.lost, maximum):
                    reason = f"the cost limit allows no reply of {maximum.completion} tokens, which reasoning needs"
                    return Failure(reason, attempts.lost, "cost limit", adaptation=attempts.adaptation)
                attempts.granted = maximum.completion
            answer = await self._attempt(client, attempts)
            if isinstance(answer, Reply):
                self._schema = self._schema and not attempts.schema_refused
                return replace(answer, lost=attempts.lost, adaptation=attempts.adaptation)
            attempts.lost += answer.lost(request, attempts.adaptation)
            if not self._adapts(client, answer, attempts):
                failure = await self._wait(answer, attempts, maximum)
                if failure is not None:
                    return failure
            elif not request.may_retry():
                return answer.failure(answer.reason, attempts.lost, attempts.adaptation)

    async def _attempt(self, client: Any, attempts: _Attempts) -> Reply | ResponseProblem:
        """Send a request once the window and the rate limits allow it."""
        provider, request = self._provider, attempts.request
        if not await self._has_slot():
            raise self._stopped(attempts)
        self._slots += 1
        try:
            reserved = replace(request, parameters=replace(request.parameters, max_tokens=attempts.granted))
            reservation = await self._limiter.acquire(reserved)
            if reservation is None:
                raise self._stopped(attempts)
            began = self._loop.time()
            # The wait for the rate limiter before the first attempt does not count.
            attempts.state = attempts.state or RetryState(provider.retry_policy, began)
            flight = provider.window.send(self._in_flight)
            self._in_flight += 1
            try:
                answer = await self._send(client, attempts)
            finally:
                self._in_flight -= 1
        finally:
            self._slots -= 1
            self._landed.set()
        if isinstance(answer, Reply):
            self._limiter.settle(reservation, request, answer)
            self._health.note_reply()
        else:
            self._health.note_problem(answer, id(attempts), began)
        if isinstance(answer, ResponseProblem) and (answer.throttled or answer.is_outage):
            provider.window.overload(flight)
        elif isinstance(answer, Reply) or answer.billed:
            provider.window.succeed(flight)
        return answer

    def _stopped(self, attempts: _Attempts) -> _StopError:
        return _StopError(self._stop or ResponseProblem("stop", "stopped"), attempts.lost)

    async def _send(self, client: Any, attempts: _Attempts) -> Reply | ResponseProblem:
        provider, server = self._provider, self._provider.server
        attempts.body = server.chat_body(
            provider.model,
            attempts.request,
            schema=attempts.schema and self._schema,
            adaptation=attempts.adaptation,
        )
        create = client.chat.completions.with_raw_response.create
        try:
            async with asyncio.timeout(provider.retry_policy.timeout):
                # The client takes some answers for text whose headers do not say that they are JSON.
                answer = (await create(**attempts.body, extra_body=dict(provider.extra_body))).http_response
        except self._client_errors as error:
            problem = server.classify_error(error, self._key, reached=self._reached)
            self._reached = self._reached or problem.status > 0
            return provider.retry_policy.cap(problem, server.host)
        self._reached = True
        reply = validate_body(
            answer.content,
            server.host,
            self._key,
            max_tokens=attempts.granted,
            charset=answer.charset_encoding,
        )
        return reply if isinstance(reply, Reply) else provider.retry_policy.cap(reply, server.host)

    def _adapts(self, client: Any, answer: ResponseProblem, attempts: _Attempts) -> bool:
        """Whether the request is to be sent again at once in another form."""
        provider, server, adaptation = self._provider, self._provider.server, attempts.adaptation
        change = adapt_to_refusal(adaptation, answer, attempts.body, provider.model)
        if change is None and answer.is_starved:
            change = adapt_to_reasoning(adaptation, attempts.granted)
        if change is not None:
            apply_change(provider, change)
            return True
        used_schema = "response_format" in attempts.body
        if used_schema and refuses_schema(attempts.request, answer, perhaps=True):
            # The reply is validated in any case, so a list can be requested without a schema.
            attempts.schema, attempts.schema_refused = False, refuses_schema(attempts.request, answer)
            return True
        parameter = out_of_range(answer, attempts.body)
        if parameter is not None:
            is_length = parameter in ("max_tokens", "max_completion_tokens")
            option = "--max-tokens" if is_length else f"--{parameter.replace('_', '-')}"
            remedy = f"Give another {option}" if is_length else f"Give another {option}, or {option} none"
            raise _StopError(replace(answer, action="stop", remedy=remedy, scope="run"), attempts.lost)
        url = server.alternative(answer)
        if url is not None:
            client.base_url = server.endpoint = url
            return True
        return False

    async def _wait(self, answer: ResponseProblem, attempts: _Attempts, maximum: Tokens) -> Failure | None:
        """Wait for the next attempt; the failure of the request if there is to be none.

        Raises:
            _StopError: the run ends.
        """
        state, lost, now = attempts.state, attempts.lost, self._loop.time()
        assert state is not None
        if answer.action == "stop":
            raise _StopError(answer, lost)
        if self._health.is_down(now):
            host = self._provider.server.host
            reason = (
                f"{host} has given no answer for {self._health.seconds(now):.0f} s; the last attempt: {answer.reason}"
            )
            remedy = "Check the server, and run the same command again; it resumes from here"
            raise _StopError(replace(answer, action="stop", reason=reason, remedy=remedy, scope="run"), lost)
        wait = state.wait_after(answer, now)
        is_unreached = answer.kind == "connection" and not self._reached
        if is_unreached and state.attempts > 1 and (wait is None or state.attempts >= _FIRST_CONTACTS):
            remedy = "Start the server, or check the base URL: it may have to begin with https://"
            reason = f"{self._provider.server.host} gives no answer: {answer.reason}"
            raise _StopError(replace(answer, action="stop", reason=reason, remedy=remedy, scope="run"), lost)
        if wait is None or not attempts.request.may_retry():
            return answer.failure(state.reason(answer), lost, attempts.adaptation)
        if answer.billed and not attempts.request.may_repeat(lost, maximum):
            reason = f"{state.reason(answer)}; the cost limit allows no further attempt"
            return answer.failure(reason, lost, attempts.adaptation)
        if answer.wait:
            # The server means all requests, not this one alone.
            self._limiter.throttle(wait)
        else:
            await self._limiter.pause(wait)
        return None
