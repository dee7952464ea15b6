"""From the lists that data sets are published with, or from folders and tables, to our list files.

``catalogue`` says which reader a data set has; readers return ``base.Lists``; ``media_index`` finds out which videos
there are; ``matching`` brings both together.
"""
