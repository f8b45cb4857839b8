"""The arms of the embedded default: real reward models that need no GPU and no model hub.

Six or seven arms of four kinds, each good at something else and bad at something: that is what there is to learn. Three of
them are small reward models learned from preference pairs of the split ``fit``, on prompts that no run trains or is measured on.
"""

import importlib.util

from reward_router.rewards.loading import MINILM, SMOLLM2
from reward_router.rewards.spec import ArmSpec

QUIRE_MODULES = ("quire_grammar", "quire_grammar_model", "onnxruntime")
HARPER_MODULES = ("harper",)
EMBEDDED_HEADS = "embedded-heads"


def default_arms(language_model: str = SMOLLM2, encoder: str = MINILM) -> list[ArmSpec]:
    """The demo's arms; ``grammar`` is the learned tagger, else the light checker, else left out (what is installed decides).

    The learned arms need the encoder they were learned on (MiniLM), which ``relevance`` shares with them.

    | arm | judges by | learned from, or good at | bad at |
    |---|---|---|---|
    | likelihood | mean log-probability under the language model | fluent text, right facts | prefers the commonplace and long |
    | relevance | cosine of prompt and response | staying on the topic | form; an echo of the prompt wins |
    | grammar | learned edit tagger, or lints per word | grammar | everything else; likes short sentences |
    | thorough | more words | minimum lengths | most others |
    | marks | a learned head on the encoder | pairs of question and exclaim | content |
    | brief | a learned head on the encoder | pairs of short and title | given words |
    | content | a learned head on the encoder | pairs of include and number | lengths, titles |

    How often each head is right by category, on prompts it had not seen, is in ``artifacts/embedded-heads/CARD.md``.

    >>> [arm.name for arm in default_arms() if arm.kind == "head"]
    ['marks', 'brief', 'content']
    """
    grammar = "quire" if _installed(QUIRE_MODULES) else "harper" if _installed(HARPER_MODULES) else None
    return [
        ArmSpec("likelihood", "loglik", language_model, {"reduction": "mean"}),
        ArmSpec("relevance", "embedding", encoder),
        *([ArmSpec("grammar", "metric", options={"metric": grammar})] if grammar else []),
        ArmSpec("thorough", "metric", options={"metric": "length", "direction": "long"}),
        *(
            ArmSpec(head, "head", encoder, {"weights": EMBEDDED_HEADS, "head": head})
            for head in ("marks", "brief", "content")
        ),
    ]


def _installed(modules: tuple[str, ...]) -> bool:
    return all(importlib.util.find_spec(module) is not None for module in modules)
