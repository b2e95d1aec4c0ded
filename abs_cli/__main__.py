"""``python -m abs_cli`` is ``abs``."""

from abs_cli.main import main

main()
