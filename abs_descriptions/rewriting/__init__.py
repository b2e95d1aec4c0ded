"""Sentences for the classes that images confuse: what is asked, what is chosen, and the child version."""
