"""Published data sets: their declarations (splits, sizes, layouts), how to read them, and what is missing on disk."""
