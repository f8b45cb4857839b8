"""BayesianRouter's offline stage: what each reward model is good at, learned from labelled pairs, as a prior for a router."""
