"""The linear algebra of Gaussian posteriors: one an arm, side by side in memory, with and without forgetting, and P(arm wins)."""
