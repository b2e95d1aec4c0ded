"""One file per command; ``abs_cli.main`` imports a command only when it runs."""
