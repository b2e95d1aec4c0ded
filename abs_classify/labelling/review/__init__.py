"""Reviewers correct the labels of a folder: a local server, its page, and the page as a file."""
