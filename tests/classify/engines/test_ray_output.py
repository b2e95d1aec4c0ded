"""Output and signals around a start of Ray, without Ray."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from abs_classify.engines import ray_output
from abs_classify.engines.ray_output import kept_signals, quiet_core


def test_a_handler_is_kept_and_one_that_is_not_pythons_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with kept_signals():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGTERM) == before
    try:
        with monkeypatch.context() as patch:
            patch.setattr(signal, "getsignal", lambda _number: None)
            with kept_signals():
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_what_rays_core_writes_is_logged_and_the_rest_comes_later(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # that of the package may have the handler of a command that ran in this process before
    logger = logging.Logger("alone")
    logger.addHandler(caplog.handler)
    monkeypatch.setattr(ray_output, "_logger", logger)
    core = "[2026-11-29 18:13:07,948 I 7733 7733] logging.cc:303: Set ray log level"
    with quiet_core():
        os.write(2, f"{core}\nstopping\n".encode())
        assert capfd.readouterr().err == ""
    assert capfd.readouterr().err == "stopping\n"
    assert caplog.messages == [f"Ray: {core}"]


def test_without_room_for_a_file_everything_is_written_at_once(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
        with quiet_core():
            os.write(2, b"starting\n")
            assert capfd.readouterr().err == "starting\n"


def test_a_closed_stderr_is_no_error() -> None:
    code = "import os; os.close(2)\nfrom abs_classify.engines.ray_output import quiet_core\nwith quiet_core(): print(1)"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "1\n")
