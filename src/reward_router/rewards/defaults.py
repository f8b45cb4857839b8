"""The arms of the embedded default: real reward models that need no GPU and no model hub.

Six or seven arms of four kinds, each good at something else and most of them bad at something: that is what there is to
learn. ``short`` and ``thorough`` are near-verifiers on prompts about length and plainly wrong on many others.
"""

import importlib.util

from reward_router.rewards.loading import MINILM, SMOLLM2
from reward_router.rewards.spec import ArmSpec

QUIRE_MODULES = ("quire_grammar", "quire_grammar_model", "onnxruntime")
HARPER_MODULES = ("harper",)


def default_arms(language_model: str = SMOLLM2, encoder: str = MINILM) -> list[ArmSpec]:
    """The demo's arms; ``grammar`` is the learned tagger, else the light checker, else left out (what is installed decides).

    | arm | judges by | good at | bad at |
    |---|---|---|---|
    | likelihood | mean log-probability under the language model | fluent text | prefers the commonplace and long |
    | pmi | what the prompt adds to that, per token | answering this prompt | asks for brevity it was not asked for |
    | relevance | cosine of prompt and response | staying on the topic | form; an echo of the prompt wins |
    | grammar | learned edit tagger, or lints per word | grammar | everything else; likes short sentences |
    | arithmetic | recomputes the sum in the prompt | sums | abstains on all others |
    | short | fewer words | length limits, bare facts | most others |
    | thorough | more words | minimum lengths | most others |

    >>> [arm.name for arm in default_arms() if arm.kind == "loglik"]
    ['likelihood', 'pmi']
    """
    grammar = "quire" if _installed(QUIRE_MODULES) else "harper" if _installed(HARPER_MODULES) else None
    return [
        ArmSpec("likelihood", "loglik", language_model, {"reduction": "mean"}),
        ArmSpec("pmi", "loglik", language_model, {"reduction": "pmi"}),
        ArmSpec("relevance", "embedding", encoder),
        *([ArmSpec("grammar", "metric", options={"metric": grammar})] if grammar else []),
        ArmSpec("arithmetic", "metric", options={"metric": "arithmetic"}),
        ArmSpec("short", "metric", options={"metric": "length", "direction": "short"}),
        ArmSpec("thorough", "metric", options={"metric": "length", "direction": "long"}),
    ]


def _installed(modules: tuple[str, ...]) -> bool:
    return all(importlib.util.find_spec(module) is not None for module in modules)
