"""The configs that come with DSANet: one file an experiment, made of the fragments in _base_/."""
