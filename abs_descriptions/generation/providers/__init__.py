"""Providers of language models, one file each, behind one protocol; ``registry`` lists them."""
