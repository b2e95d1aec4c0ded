"""The methods as rows of one table: views, class texts and a scorer each; baselines beside ABS."""
