"""verl 0.9: a reward manager, and a reward function, that ask ``reward-router serve``.

verl imports these modules itself, by the paths in its configuration; nothing of verl is imported
before. ``manager`` is the better one: it sees the prompt and ``uid``, the prompt's group.
``score`` is for set-ups that keep another manager.
"""
