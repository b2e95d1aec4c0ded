"""Published data sets, declared: parts, sizes, layouts, and what is missing of them on disk."""
