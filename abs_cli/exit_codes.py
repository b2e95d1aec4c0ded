"""The exit codes of ``abs``: what each means, and which commands use those beside 0 and 2."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

__all__ = ["FINDINGS", "MEANINGS", "PARTIAL_RESULTS", "ExitCode"]


class ExitCode(IntEnum):
    """How a command ended."""

    DONE = 0
    FINDING = 1
    ERROR = 2
    PARTIAL = 3
    DEFECT = 70
    INTERRUPTED = 130


#: What docs/operations.md says of each.
MEANINGS: Final = {
    ExitCode.DONE: "done",
    ExitCode.FINDING: "done, and what was checked has a finding",
    ExitCode.ERROR: "an error: a wrong input, a missing package, a full disk; the last line says what and what to do",
    ExitCode.PARTIAL: "a partial result; the same command adds what is missing",
    ExitCode.DEFECT: "a defect of abs, with a traceback",
    ExitCode.INTERRUPTED: "interrupted by Ctrl-C, SIGTERM or SIGHUP; the same command resumes",
}

#: Command -> when it ends with ``FINDING``.
FINDINGS: Final = {
    "lint": "an error was found; with --strict, or a warning",
    "bundle edit": "conflicts are left, so there is no new version",
    "bundle merge": "conflicts are left, so there is no new version",
    "bundle review": "conflicts are left, so there is no new version",
    "bundle rewrite": "nothing was gained, so there is no new version",
    "bundle test": "the change does not pass",
    "label merge": "reviewers disagree on an image",
    "datasets check": "the data set cannot be used",
    "models verify": "a file differs or is missing",
    "models check": "a number differs from the published one",
    "cache verify": "there were damaged rows",
}

#: Command -> when it ends with ``PARTIAL``.
PARTIAL_RESULTS: Final = {
    "gen-descriptions": "a limit of cost or of failures was reached, or a class has too few descriptions",
    "bundle rewrite": "a limit of cost or of failures was reached",
    "label": "an image could not be labelled",
}
