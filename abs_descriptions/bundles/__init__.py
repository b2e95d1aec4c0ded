"""The bundle format, one concern a file; `abs_descriptions.bundle` is the door. docs/bundle-format.md is normative."""
