"""A label set and a language model to descriptions: prompts, providers, cleaning, journal, cost."""
