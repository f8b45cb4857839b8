"""``reward-router fit-prior``.

Score preference pairs with every arm, learn strengths, calibrate, save a prior, say how good it is.
"""
