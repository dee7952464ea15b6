"""Experiments: several variants of a config, each trained and tested with several seeds, and their tables."""
