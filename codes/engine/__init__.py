"""Training and testing on one process or many."""
