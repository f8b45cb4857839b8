"""The kinds of reward model, and the pool that loads them; importing this loads no torch."""
