"""The kinds of reward model, and the pool that loads them. Importing this package loads no model and no torch."""
