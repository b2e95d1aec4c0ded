"""What both libraries and the command line stand on: errors, canonical JSON, files, shipped folders.

Imports the standard library only, so that everything above it starts fast.
"""

from __future__ import annotations
