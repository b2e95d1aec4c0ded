"""Classify images with class descriptions, without training: ABS and the methods it competes with."""
