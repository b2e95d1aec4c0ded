"""The page on which the sentences of a bundle are reviewed: one HTML file that needs nothing else."""
