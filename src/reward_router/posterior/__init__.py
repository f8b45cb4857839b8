"""The linear algebra of Gaussian posteriors.

There is one posterior an arm, with or without forgetting; they lie side by side in memory. The
probability that an arm wins is computed from them.
"""
