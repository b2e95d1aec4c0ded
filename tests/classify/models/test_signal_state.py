"""What native libraries change of a process's signals is undone, so that Ctrl-C still arrives."""

from __future__ import annotations

import ctypes
import mmap
import signal
import sys
import threading

import pytest
from model_weights import run_python

from abs_classify.models.signal_state import keep_signal_state
from abs_core.extras import is_installed

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="there is nothing to do elsewhere")


class Stack(ctypes.Structure):
    """A ``stack_t``."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def test_a_handler_that_a_library_sets_is_replaced_by_the_former_one() -> None:
    libc, received = ctypes.CDLL(None), []
    former = signal.signal(signal.SIGUSR1, lambda *_: received.append("python"))
    try:
        with keep_signal_state():
            libc.signal(int(signal.SIGUSR1), ctypes.c_void_p(1))  # SIG_IGN
            signal.raise_signal(signal.SIGUSR1)
            assert received == []
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, former)
    assert received == ["python"]


def test_the_stack_of_the_thread_is_the_former_one() -> None:
    libc = ctypes.CDLL(None)

    def stack() -> tuple[int | None, int, int]:
        found = Stack()
        assert libc.sigaltstack(None, ctypes.byref(found)) == 0
        return found.start, found.flags, found.size

    states = []

    def change() -> None:
        states.append(stack())
        with mmap.mmap(-1, 1 << 17) as memory:
            exported = ctypes.c_char.from_buffer(memory)
            with keep_signal_state():
                assert libc.sigaltstack(ctypes.byref(Stack(ctypes.addressof(exported), 0, 1 << 17)), None) == 0
                states.append(stack())
            del exported
        states.append(stack())

    thread = threading.Thread(target=change)
    thread.start()
    thread.join()
    before, inside, after = states
    assert inside[0] != before[0]
    assert after == before


# each model gives the thread a stack, and takes it back for that of the model before, which is gone by then
COMPILED = """
import gc, signal
import torch
from block_runtimes import small_clip
from abs_classify.models.open_clip import OpenClipModel
models = [OpenClipModel.from_model(small_clip(), name="small", runtime="openvino") for _ in range(2)]
assert [model.runtime.name for model in models] == ["openvino"] * 2
while models:
    del models[0]
    gc.collect()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.slow
@pytest.mark.skipif(not is_installed("openvino"), reason="openvino is not installed")
def test_ctrl_c_arrives_after_models_of_openvino_are_gone() -> None:
    ran = run_python(f"import sys; sys.path.insert(0, 'tests')\n{COMPILED}")
    assert ran.stdout.splitlines()[-1] == "interrupted"
