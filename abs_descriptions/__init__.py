"""Write, clean, filter, store and share class descriptions. Knows nothing of images."""

from __future__ import annotations
