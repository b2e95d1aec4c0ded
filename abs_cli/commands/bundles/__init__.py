"""The commands of ``abs bundle``, one file each."""

from __future__ import annotations
