# Registers the readers; the first one is the first choice of decoder='auto'.
from dsanet.datasets.video import pyav_reader, other_readers  # noqa: F401, I001
