"""The commands of ``abs bundle``, one file each."""
