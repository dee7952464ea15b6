"""Build list files from the official lists of a dataset, or from folders and tables.

``catalog`` has the reader of each dataset, readers return ``base.Lists``, ``media_index`` finds the videos on disk, and
``matching`` combines both.
"""
