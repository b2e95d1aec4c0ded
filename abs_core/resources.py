"""The folders prompts/ and data/: at the top of a checkout, inside this package in a wheel."""

from __future__ import annotations

from pathlib import Path

__all__ = ["data_folder", "prompts_folder"]


def prompts_folder() -> Path:
    """The folder with the shipped prompt sets (llm/) and CLIP template sets (clip/)."""
    return _folder("prompts")


def data_folder() -> Path:
    """The folder with the shipped label sets (labels/) and bundles (bundles/)."""
    return _folder("data")


def _folder(name: str) -> Path:
    installed = Path(__file__).parent / "shipped" / name
    if installed.is_dir():
        return installed
    return Path(__file__).parents[1] / name
