"""Folders of images labelled, reviewed, corrected and exported."""
