"""The experiments of the two papers, each a command: one file an experiment."""
