"""Offline evaluation of any router on recorded scores.

It is exact, takes seconds, and ends with intervals and a verdict in words.
"""
