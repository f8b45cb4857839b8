"""Offline evaluation of any router on recorded scores: exact, in seconds, with intervals and a verdict in words."""
