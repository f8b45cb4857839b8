"""Who says which response is better: the arm that was drawn (``single``), all arms (``ensemble``), or a ``committee``.

Three classes of one protocol, ``batch.VerdictMode``: a batch goes in with its units and decisions, its verdicts come out.
"""
