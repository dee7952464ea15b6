"""The built-in configs: one file per experiment, which combines files of _base_/."""
