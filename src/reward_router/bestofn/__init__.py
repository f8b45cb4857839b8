"""Best of n: a routed arm picks one of n responses to each prompt, and nobody is trained (LASER, section 3.3)."""
