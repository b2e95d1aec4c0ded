"""One file per command; ``abs_cli.main`` imports a command only when it runs."""

from __future__ import annotations
