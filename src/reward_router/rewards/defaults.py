"""The arms of the embedded default: real reward models that need no GPU and no model hub.

Six or seven arms of four kinds, each good at something else and most of them bad at something: that
is what there is to learn. Three are small learned reward models, each from preference data of its
own domain, as people have them.
"""

import importlib.util

from reward_router.rewards.loading import MINILM, SMOLLM2
from reward_router.rewards.spec import ArmSpec

QUIRE_MODULES = ("quire_grammar", "quire_grammar_model", "onnxruntime")
HARPER_MODULES = ("harper",)


HEADS = "embedded-heads"
"""The packaged artifact of `fit-arm` that holds the learned arms below."""


def default_arms(language_model: str = SMOLLM2, encoder: str = MINILM) -> list[ArmSpec]:
    """The demo's arms.

    What is installed decides about ``grammar``: it is the learned tagger, else the light checker,
    else left out.

    | arm | judges by | good at | bad at |
    |---|---|---|---|
    | likelihood | mean log-probability | facts, rewriting | prefers the commonplace and long |
    | relevance | cosine of prompt and response | staying on the topic | form; echoes win |
    | grammar | learned edit tagger, or lints per word | grammar | the rest; likes short sentences |
    | thorough | more words | minimum lengths | most others |
    | marks | learned from questions and exclamations | how it ends | near chance elsewhere |
    | brief | learned from word limits and titles | short responses | near chance elsewhere |
    | content | learned from words and numbers asked for | what it holds | near chance elsewhere |

    >>> [arm.name for arm in default_arms() if arm.kind == "head"]
    ['marks', 'brief', 'content']
    """
    grammar: str | None = None
    if _installed(QUIRE_MODULES):
        grammar = "quire"
    elif _installed(HARPER_MODULES):
        grammar = "harper"
    learned = [
        ArmSpec(name, "head", encoder, {"weights": HEADS, "head": name})
        for name in ("marks", "brief", "content")
    ]
    return [
        ArmSpec("likelihood", "loglik", language_model, {"reduction": "mean"}),
        ArmSpec("relevance", "embedding", encoder),
        *([ArmSpec("grammar", "metric", options={"metric": grammar})] if grammar else []),
        ArmSpec("thorough", "metric", options={"metric": "length", "direction": "long"}),
        *learned,
    ]


def _installed(modules: tuple[str, ...]) -> bool:
    return all(importlib.util.find_spec(module) is not None for module in modules)
