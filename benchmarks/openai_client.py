"""What the openai backend costs above a bare asyncio loop with the same client.

    throughput   requests per second, the two in turn, against a real server or against one that answers after a while
    cpu          processor time of this process per request, against a stub in another process that answers at once
    memory       resident memory of this process after 10,000 and after 100,000 requests that come from a generator

The bare loop is what one would write by hand: workers in one event loop that take the next request and await
``AsyncOpenAI(...).chat.completions.create``; no limits, no second attempt, no checks. Without ``--base-url`` the server
is `transformers serve` with the embedded model (throughput) or the stub.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from openai import AsyncOpenAI

from abs_descriptions.generation.providers.base import Failure, Message, Parameters, Request
from abs_descriptions.generation.providers.openai_chat import OpenAIChatProvider

Work = Callable[[str, str, int, int], None]


def main() -> None:
    """Measure what is named on the command line and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("throughput", "cpu", "memory"))
    parser.add_argument("--base-url", help="a server that is running")
    parser.add_argument("--model", default="m", help="its model")
    parser.add_argument("--wait", type=float, help="throughput of a stub that answers after this number of seconds")
    parser.add_argument("--requests", type=int, help="a round; 64, 2000 and 100000 by default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=32)
    given = parser.parse_args()
    count = given.requests or {"throughput": 64, "cpu": 2000, "memory": 100_000}[given.what]
    with _server(given) as (url, model):
        if given.what == "memory":
            result = measure_memory(url, model, count, given.concurrency)
        else:
            result = measure_time(given.what, url, model, count, given.concurrency, given.rounds)
    print(json.dumps({"what": given.what, "requests": count, "concurrency": given.concurrency, **result}))


def measure_time(what: str, url: str, model: str, count: int, concurrency: int, rounds: int) -> dict[str, object]:
    """The least wall or processor time of several rounds, bare loop and backend in turn."""
    clock = time.perf_counter if what == "throughput" else time.process_time
    times: dict[str, list[float]] = {"bare": [], "backend": []}
    ways: dict[str, Work] = {"bare": run_bare, "backend": run_backend}
    for way in ways.values():
        way(url, model, min(count, 2 * concurrency), concurrency)  # what is imported and compiled once
    for _ in range(rounds):
        for name, way in ways.items():
            start = clock()
            way(url, model, count, concurrency)
            times[name].append(clock() - start)
    bare, provider = min(times["bare"]), min(times["backend"])
    shown: dict[str, object] = {name: [round(one, 3) for one in seconds] for name, seconds in times.items()}
    if what == "throughput":
        return {**shown, "backend_to_bare": round(bare / provider, 3)}
    per = {
        "bare_ms": 1e3 * bare / count,
        "backend_ms": 1e3 * provider / count,
        "above_ms": 1e3 * (provider - bare) / count,
    }
    return {**shown, **{name: round(value, 3) for name, value in per.items()}}


def measure_memory(url: str, model: str, count: int, concurrency: int) -> dict[str, object]:
    """Resident memory in MiB at a tenth, at half and at the end of one call."""
    provider = OpenAIChatProvider(model, base_url=url, concurrency=concurrency)
    marks = {count // 10, count // 2, count}
    seen = {}
    for number, (_, outcome) in enumerate(provider.complete(_requests(count)), 1):
        if isinstance(outcome, Failure):
            raise SystemExit(outcome.reason)
        if number in marks:
            seen[str(number)] = round(_resident() / 2**20, 1)
    return {"resident_mib": seen}


def run_bare(url: str, model: str, count: int, concurrency: int) -> None:
    """The loop that one would write by hand."""

    async def work(client: AsyncOpenAI, requests: Iterator[Request]) -> None:
        for request in requests:
            given = request.parameters
            await client.chat.completions.create(
                model=model,
                messages=[{"role": turn.role, "content": turn.content} for turn in request.messages],  # type: ignore[misc]
                max_tokens=given.max_tokens,
                temperature=given.temperature,
                top_p=given.top_p,
                seed=request.draw_seed,
            )

    async def run() -> None:
        requests = _requests(count)
        async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            await asyncio.gather(*(work(client, requests) for _ in range(concurrency)))

    asyncio.run(run())


def run_backend(url: str, model: str, count: int, concurrency: int) -> None:
    """The backend, its replies taken as they come."""
    provider = OpenAIChatProvider(model, base_url=url, concurrency=concurrency)
    for _, outcome in provider.complete(_requests(count)):
        if isinstance(outcome, Failure):
            raise SystemExit(outcome.reason)


def _requests(count: int) -> Iterator[Request]:
    parameters = Parameters(max_tokens=6)
    for number in range(count):
        yield Request((Message("user", f"Describe what class {number % 1000} looks like."),), parameters, number)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def _server(given: argparse.Namespace) -> Iterator[tuple[str, str]]:
    if given.base_url:
        yield given.base_url, given.model
    elif given.what == "throughput" and given.wait is None:
        with _embedded() as server:
            yield server
    else:
        with _stub(given.wait or 0.0) as url:
            yield url, "m"


@contextmanager
def _embedded() -> Iterator[tuple[str, str]]:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from real_server import transformers_serve  # type: ignore[import-not-found]

    from abs_descriptions.generation.providers.model_files import EMBEDDED_SHA256, find_embedded_model, unpack_gguf

    with tempfile.TemporaryDirectory() as scratch:
        folder = unpack_gguf(find_embedded_model(), EMBEDDED_SHA256, Path(scratch) / "models")
        home = Path(scratch) / "server"
        home.mkdir()
        with transformers_serve(folder, home) as server:
            yield server.url, server.model


@contextmanager
def _stub(wait: float) -> Iterator[str]:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there, wait), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}/v1"
    finally:
        process.kill()
        process.join()


class _Stub(asyncio.Protocol):
    """One HTTP connection on which every request gets the same reply."""

    def __init__(self, wait: float) -> None:
        self._wait, self._buffer = wait, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every request that has come as a whole."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
            if len(self._buffer) < end + 4 + length:
                return
            self._buffer = self._buffer[end + 4 + length :]
            asyncio.get_running_loop().call_later(self._wait, self._transport.write, _REPLY)


_BODY = json.dumps(
    {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {
                    "role": "assistant",
                    "content": "A cat is a small animal with soft fur, whiskers and a tail.",
                },
            }
        ],
        "usage": {"prompt_tokens": 30, "completion_tokens": 14, "total_tokens": 44},
    }
).encode()
_REPLY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(_BODY), _BODY)


def _serve(there: Connection, wait: float) -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(lambda: _Stub(wait), "127.0.0.1", 0)
        there.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


if __name__ == "__main__":
    main()
