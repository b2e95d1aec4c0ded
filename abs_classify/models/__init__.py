"""Image-text models and attention backends: which there are, where their weights lie, how they are run."""
