"""A headless browser for tests of pages: Chrome's own protocol over a pair of pipes, no package needed."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


# Seconds without a word from the browser, or until a page is there; a hang would tell nobody what is wrong.
_PATIENCE = 180


_KEY_CODES = {
    "Enter": 13, "Escape": 27, "Space": 32, "PageUp": 33, "PageDown": 34, "End": 35, "Home": 36,
    "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Tab": 9,
}  # fmt: skip


class Page:
    """One open page."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read = write, read
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        # An event may come before the answer to the call that set it off, so none is dropped.
        self._events: list[dict[str, Any]] = []
        self.said: list[str] = []
        """what the page logged: errors, and what its content security policy refused"""

    def call(self, method: str, /, **params: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self._events.append(answer)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], _PATIENCE)
            assert ready, f"the browser said nothing for {_PATIENCE} s"
            data = os.read(self._read, 1 << 16)
            assert data, "the browser is gone"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        if answer.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
            self.said.append(json.dumps(answer["params"]))
        return answer

    def open(self, url: str, downloads: Path) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads), eventsEnabled=True)
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=url)
        until = time.monotonic() + _PATIENCE
        while not self.run("location.protocol !== 'about:' && document.readyState === 'complete'"):
            assert time.monotonic() < until, f"{url} was not loaded in {_PATIENCE} s"
            time.sleep(0.02)

    def run(self, script: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def reload(self) -> None:
        self._events = [event for event in self._events if event.get("method") != "Page.loadEventFired"]
        self.call("Page.reload")
        self._wait_for_event("Page.loadEventFired")

    def wait_for_download(self) -> None:
        while self._wait_for_event("Browser.downloadProgress")["state"] != "completed":
            pass

    def _wait_for_event(self, method: str) -> dict[str, Any]:
        while True:
            event = self._events.pop(0) if self._events else self._next()
            if event.get("method") == method:
                parameters: dict[str, Any] = event["params"]
                return parameters

    def wait_for(self, script: str) -> Any:
        """Run a script until its value is true, and give that."""
        until = time.monotonic() + _PATIENCE
        while not (value := self.run(script)):
            assert time.monotonic() < until, f"{script} was not true in {_PATIENCE} s; the page said {self.said}"
            time.sleep(0.02)
        return value

    def press(self, *keys: str) -> None:
        """Press keys, one after another, as a keyboard does: ``a``, ``Enter``, ``Shift+ArrowRight``, ``Control+a``."""
        for name in keys:
            *held, key = name.split("+") if name != "+" else ["+"]
            modifiers = sum({"Alt": 1, "Control": 2, "Shift": 8}[modifier] for modifier in held)
            text = {"Enter": "\r", "Space": " "}.get(key, key if len(key) == 1 and not modifiers & 2 else "")
            event = {
                "key": " " if key == "Space" else key,
                "modifiers": modifiers,
                # the codes of signs are not theirs: that of "." deletes
                "windowsVirtualKeyCode": _KEY_CODES.get(key) or (ord(key.upper()) if key.isalnum() else 0),
            }
            self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **event)
            self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def resize(self, width: int, height: int = 800) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def prefer(self, scheme: str) -> None:
        """Whether the reader likes pages ``light`` or ``dark``."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def set_offline(self, offline: bool) -> None:
        """Let no request leave the page, or let them pass again."""
        self.call("Network.enable")
        conditions = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self.call("Network.emulateNetworkConditions", offline=offline, **conditions)

    def close(self) -> None:
        """Close the page, without asking it; another can be opened."""
        self._session = None
        for target in self.call("Target.getTargets")["targetInfos"]:
            if target["type"] == "page" and target["url"] != "about:blank":
                self.call("Target.closeTarget", targetId=target["targetId"])

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def browser(profile: Path, size: tuple[int, int] = (1200, 900)) -> Iterator[Page]:
    """Start the browser with an empty profile; it ends with the block."""
    assert CHROMIUM is not None
    to_browser, from_browser = os.pipe(), os.pipe()
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
        f"--window-size={size[0]},{size[1]}", f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank",
    ]  # fmt: skip

    def connect() -> None:
        # The browser reads commands from descriptor 3 and answers on 4; either may be taken by the other's pipe.
        commands, answers = (fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (to_browser[0], from_browser[1]))
        os.dup2(commands, 3)
        os.dup2(answers, 4)

    process = subprocess.Popen(
        command, preexec_fn=connect, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(to_browser[0])
    os.close(from_browser[1])
    page = Page(to_browser[1], from_browser[0])
    try:
        yield page
    finally:
        process.terminate()
        process.wait(120)
        os.close(to_browser[1])
        os.close(from_browser[0])
