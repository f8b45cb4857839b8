"""BayesianRouter's offline stage.

What each reward model is good at, learned from labelled pairs, as a prior for a router.
"""
