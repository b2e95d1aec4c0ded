"""The command line ``abs``: joins ``abs_descriptions`` and ``abs_classify`` and caches every stage."""

from __future__ import annotations
