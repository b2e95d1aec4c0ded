"""Who sits at the keyboard: the default name of a reviewer."""

from __future__ import annotations

import getpass
import shutil
import subprocess
from contextlib import suppress

__all__ = ["login_name", "own_name"]

_PATIENCE = 5.0  # seconds that git may take to read its configuration


def login_name() -> str:
    """The login name; "reviewer" where the system has none."""
    with suppress(OSError, KeyError, ImportError):
        return getpass.getuser()
    return "reviewer"


def own_name() -> str:
    """``user.name`` of git, as it is in this folder; the login name where there is none."""
    git = shutil.which("git")
    if git is not None:
        with suppress(OSError, subprocess.SubprocessError, UnicodeDecodeError):
            asked = subprocess.run(  # noqa: S603
                [git, "config", "user.name"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=True,
                timeout=_PATIENCE,
            )
            if name := asked.stdout.decode("utf-8").strip():
                return name
    return login_name()
