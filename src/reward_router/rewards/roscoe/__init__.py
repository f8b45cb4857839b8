"""Metrics of step-by-step reasoning: ROSCOE (Golovneva et al., 2023, arXiv 2212.07919).

A response is a chain of steps h_1..h_N (its sentences), the prompt is the source s_1..s_T, and
r_1..r_Q is a reference chain. `alignment` holds the metrics that compare vectors of a sentence
encoder, the kinds ``roscoe_lm`` and ``roscoe_classifier`` those that ask a language model or a
trained classifier. Every score lies in [0, 1] and higher is better, whatever the metric is called:
``hallucination`` 1 is a chain without one.
"""
