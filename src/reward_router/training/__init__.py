"""Training on routed preferences: losses (pure functions of log-probabilities) and how those are computed."""
