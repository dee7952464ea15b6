"""Is a dataset fit to train on: checks of records, and of what was found in their files.

``run`` has the two forms of the check: the quick one, which a training begins with, and the full one of
``dsanet check``. Both return a :class:`report.Report` of findings.

What is checked is a :class:`splits.Split`; ``reading`` makes it from a dataset or a config. The checks in ``labels``,
``duplicates`` and ``files`` are pure functions: splits go in, and for the full form facts about files from ``probe``;
findings come out. ``existence`` looks which files are there, and ``pipeline`` runs a video of each split through its
pipeline.
"""
