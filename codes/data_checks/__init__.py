"""Check whether a dataset is ready for training.

``run`` has the quick check, which runs at the start of training, and the full check of ``dsanet check``. Both return a
:class:`report.Report` of findings.

The input is a list of :class:`splits.Split`, which ``reading`` makes from a dataset or a config. The checks in
``labels``, ``duplicates`` and ``files`` are pure functions of splits and, in the full check, of what ``probe`` found in
the files. ``existence`` looks for files without opening them, and ``pipeline`` runs the pipeline of each split on
a video.
"""
