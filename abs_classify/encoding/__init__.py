"""Images in, unit features out, each computed once: the stages, their cache, and rankings of classes."""
