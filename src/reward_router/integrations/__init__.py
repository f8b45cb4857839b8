"""The trainers that people use, met by their public hooks; each integration imports its trainer
when it is asked for.
"""
