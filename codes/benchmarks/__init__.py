"""Measuring the speed and memory of models, modules, data loading, tests and program starts."""
