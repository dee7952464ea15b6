"""Is a data set fit to train on: checks of records, and of what was found in their files.

``forms`` has the two forms of the check: the quick one, which a training begins with, and the full one of
``dsanet check``. Both return a :class:`report.Report` of findings.

What is checked is a :class:`splits.Split`; ``reading`` makes it of a data set or of a config. The checks are pure
functions: splits (and, for the full form, facts about files from ``codes/data_checks/probe.py``) go in, findings come
out. They are in ``labels``, ``repeats`` and ``files``; ``presence`` looks which files are there, and ``trial`` pushes
a video of each split through its pipeline.
"""
