"""The commands that are not training: one file each, named after the command.

``train`` is ``reward_router.run``; best of n and fit-prior are folders of their own, because they
have several parts.
"""
