"""Kinds of reward model that run elsewhere, or that ask a language model: one file a kind."""
