"""Best of n: a routed arm picks one of n responses; nobody is trained (LASER, section 3.3)."""
