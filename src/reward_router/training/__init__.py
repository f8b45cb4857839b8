"""Training on routed preferences: the losses, and the log-probabilities they are functions of."""
