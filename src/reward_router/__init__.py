"""reward-router: chooses which reward model should judge, and learns from what happens."""
