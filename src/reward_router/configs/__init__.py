"""Packaged configurations: the embedded default, the paper's settings, presets."""
