"""From the lists that datasets are published with, or from folders and tables, to our list files.

``catalog`` says which reader a dataset has; readers return ``base.Lists``; ``media_index`` finds out which videos
there are; ``matching`` brings both together.
"""
