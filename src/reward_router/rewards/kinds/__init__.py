"""One file for each kind of reward model.

A new file that ends with ``KIND = ArmKind(...)`` is a new kind; see CONTRIBUTING.md.
"""
