"""A trained preference model as reward model: one logit of a sequence classifier over prompt and response.

Where a decoder's configuration names a pad token, its own rule (the last token that is not the pad
token) pools, and rows are padded on the right; where it names none, rows are padded on the left,
the last place is every row's last token, and positions are given. Either way a row in a batch
scores as it does alone. Encoders (with a [CLS] token and no chat template) get prompt and response
as a text pair.
"""

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reward_router.errors import InputError
from reward_router.kinds import ArmKind
from reward_router.rewards import template as chat
from reward_router.rewards.weights import context_of
from reward_router.types import Float

Row = tuple[tuple[int, ...], tuple[int, ...]]
"""Token ids, and their segment (0 prompt, 1 response) for an encoder that reads it."""

ONE = ("score", "scores", "reward", "rewards", "end_scores", "value", "values")
SEVERAL = ("rewards", "logits")
"""Names of outputs that hold the reward: read in this order, the other way round where single outputs are chosen."""

NO_TOKEN = -1
"""A pad id that equals no token, so that a model pools the last place of every row."""


@dataclass(frozen=True)
class Choice:
    """Which outputs of a classifier make the reward: their indices and weights; none given where there is one output only."""

    weights: Mapping[int, float] | None

    @classmethod
    def of(
        cls, config: Any, logit: int | str | None, logits: Mapping[int | str, float] | None
    ) -> "Choice":
        """From the options ``logit`` (index or label) and ``logits`` (index or label -> weight); InputError for unknown labels."""
        if logit is not None and logits is not None:
            raise InputError(
                "logit and logits are both given; logits alone is a weighted sum of outputs"
            )
        if logits is not None and (not isinstance(logits, Mapping) or not logits):
            raise InputError(f"logits is {logits!r}; write it as {{output: weight, ...}}")
        given = {logit: 1.0} if logit is not None else logits
        if given is None:
            return cls(None)
        found: dict[int, float] = {}
        for output, weight in given.items():
            if (
                isinstance(weight, bool)
                or not isinstance(weight, int | float)
                or not math.isfinite(weight)
            ):
                raise InputError(f"logits.{output} is {weight!r}; a finite weight is expected")
            found[_place(config, output)] = float(weight)
        return cls(found)

    def check(self, outputs: int, config: Any) -> None:
        """InputError where there are several outputs and no choice, or one is chosen that is not there."""
        if self.weights is None and outputs > 1:
            raise InputError(
                f"the classifier has {outputs} outputs ({_labels(config, outputs)}) and none is chosen; give logit: an index or a "
                "label, or logits: {output: weight, ...} for a weighted sum"
            )
        wrong = [place for place in self.weights or () if place >= outputs]
        if wrong:
            raise InputError(f"logit is {wrong[0]}; the classifier has {outputs}, counted from 0")

    def score(self, result: Any, config: Any) -> Any:
        """(R,) rewards from what the model's forward returned; InputError where it holds none of the known outputs."""
        value = _output(result, many=self.weights is not None)
        value_RL = value[:, None] if value.dim() == 1 else value
        if value_RL.dim() != 2:
            raise InputError(
                f"the model's output has shape {tuple(value.shape)}; (rows, outputs) is expected"
            )
        self.check(value_RL.shape[1], config)
        if self.weights is None:
            return value_RL[:, 0]
        if list(self.weights.values()) == [1.0]:
            return value_RL[:, next(iter(self.weights))]
        return sum(weight * value_RL[:, place].double() for place, weight in self.weights.items())


def _place(config: Any, output: int | str) -> int:
    """The index of an output that is named by its index or its label."""
    names = {str(label): int(i) for i, label in (getattr(config, "id2label", None) or {}).items()}
    if isinstance(output, str) and output in names:
        return names[output]
    text = str(output)
    if isinstance(output, bool) or not text.isdigit():
        raise InputError(
            f"output {output!r} is unknown; allowed: an index from 0, or a label: {', '.join(names) or 'none'}"
        )
    return int(text)


def _labels(config: Any, outputs: int) -> str:
    names = getattr(config, "id2label", None) or {}
    shown = [f"{i} {names.get(i, names.get(str(i), ''))}".strip() for i in range(min(outputs, 20))]
    return ", ".join(shown) + (", ..." if outputs > 20 else "")


def _output(result: Any, many: bool) -> Any:
    """The tensor that holds the rewards: a named output, the first of a tuple, or the tensor itself.

    ``many``: outputs were chosen, so the one that holds them all comes first.
    """
    import torch

    if isinstance(result, torch.Tensor):
        return result
    named = (
        dict(result)
        if isinstance(result, Mapping)
        else vars(result)
        if hasattr(result, "__dict__")
        else {}
    )
    for name in SEVERAL + ONE if many else ONE + SEVERAL:
        if isinstance(named.get(name), torch.Tensor):
            return named[name]
    if isinstance(result, tuple | list):
        tensors = [part for part in result if isinstance(part, torch.Tensor)]
        if tensors:
            return tensors[0]
    have = ", ".join(str(name) for name in named) or type(result).__name__
    raise InputError(
        f"the model returns {have}; known outputs are {', '.join(dict.fromkeys(ONE + SEVERAL))}, a tensor, or a tuple of tensors"
    )


class Classifier:
    """One output of ``AutoModelForSequenceClassification``, higher is better: its only one, or the one that ``logit`` names.

    ``logit``: index or label of an output; ``logits``: {index or label: weight}, a weighted sum. A
    model with several outputs is refused without either. Models with their own code may return
    ``score``, ``rewards``, ``logits``, a tensor or a tuple.

    ``batch_tokens`` bounds padded positions per forward; a conversation over ``max_length`` tokens
    is abstained from (NaN). Equal conversations are computed once. Deterministic for the same call.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        chat_template: str | None = None,
        logit: int | str | None = None,
        logits: Mapping[int | str, float] | None = None,
        batch_tokens: int = 4096,
        max_length: int | None = None,
    ) -> None:
        """Checks the options; sets the pad token of a model that has none. A model with its own code reads one short row."""
        self.model, self.tokenizer, self.batch_tokens = model, tokenizer, batch_tokens
        self.own_code = not type(model).__module__.startswith("transformers.")
        self.choice = Choice.of(model.config, logit, logits)
        if not self.own_code:
            self.choice.check(int(model.config.num_labels), model.config)
        self.pairs = (
            chat_template is None
            and not tokenizer.chat_template
            and tokenizer.cls_token is not None
        )
        self.template = (
            None
            if self.pairs
            else chat.check_template(tokenizer, chat_template, "the classifier's tokenizer")
        )
        limit = context_of(model.config) or 2**31
        self.max_length = max_length or int(
            min(limit, tokenizer.model_max_length) if self.pairs else limit
        )
        self.left = model.config.pad_token_id in (None, NO_TOKEN)
        if self.left and not self.own_code:
            model.config.pad_token_id = NO_TOKEN
        self.pad = 0 if self.left else int(model.config.pad_token_id)
        self._takes_positions = "position_ids" in inspect.signature(model.forward).parameters
        if self.own_code and model.device.type != "meta":
            self._try()

    def render(self, prompt: chat.Prompt, response: str) -> str:
        """The text that is scored, to look at."""
        if self.pairs:
            return f"{chat.user_text(prompt)} {self.tokenizer.sep_token} {response}"
        conversation = [*chat.messages(prompt), chat.answered(response)]
        return chat.render(self.tokenizer, conversation, self.template, generate=False)

    def score(self, prompts: Sequence[chat.Prompt], responses: Sequence[Sequence[str]]) -> Float:
        """(B, N) logits, NaN where a row is shorter than the longest or a conversation does not fit the model."""
        scores_BN = np.full((len(prompts), max((len(r) for r in responses), default=0)), np.nan)
        places: dict[Row, list[tuple[int, int]]] = {}
        for b, (prompt, row) in enumerate(zip(prompts, responses, strict=True)):
            for n, response in enumerate(row):
                tokens = self._tokens(prompt, response)
                if len(tokens[0]) <= self.max_length:
                    places.setdefault(tokens, []).append((b, n))
        for tokens, value in zip(places, self._logits(list(places)), strict=True):
            for b, n in places[tokens]:
                scores_BN[b, n] = value
        return scores_BN

    def _tokens(self, prompt: chat.Prompt, response: str) -> Row:
        if self.pairs:
            encoded = self.tokenizer(chat.user_text(prompt), response)
            return tuple(encoded["input_ids"]), tuple(encoded.get("token_type_ids", ()))
        return tuple(chat.prompt_tokens(self.tokenizer, self.render(prompt, response))), ()

    def _logits(self, rows: list[Row]) -> list[float]:
        import torch

        from reward_router.rewards.prefix import padded

        out = [np.nan] * len(rows)
        widths = [len(ids) for ids, _ in rows]
        for group in self._groups(widths):
            ids, mask = padded([rows[r][0] for r in group], left=self.left)
            ids = ids.masked_fill(mask == 0, self.pad)
            inputs = {
                "input_ids": ids.to(self.model.device),
                "attention_mask": mask.to(self.model.device),
            }
            if self.left and self._takes_positions and not self.own_code:
                inputs["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0).to(self.model.device)
            if all(rows[r][1] for r in group):
                inputs["token_type_ids"] = padded([rows[r][1] for r in group], left=False)[0].to(
                    self.model.device
                )
            with torch.inference_mode():
                value_R = self.choice.score(self.model(**inputs), self.model.config)
            for r, value in zip(group, value_R.double().tolist(), strict=True):
                out[r] = value
        return out

    def _groups(self, widths: list[int]) -> list[list[int]]:
        """Rows of one forward. How a model's own code pools a padded row is not known: there only rows of one length share it."""
        from reward_router.rewards.prefix import batches

        if not self.own_code:
            return batches(widths, self.batch_tokens)
        groups = []
        for width in sorted(set(widths)):
            rows = [r for r, w in enumerate(widths) if w == width]
            size = max(1, self.batch_tokens // max(width, 1))
            groups += [rows[i : i + size] for i in range(0, len(rows), size)]
        return groups

    def _try(self) -> None:
        """One short row through a model's own code, to learn which output it has; InputError where it has none of the known ones."""
        try:
            self._logits([self._tokens("Say hi.", "Hi.")])
        except InputError:
            raise
        except Exception as error:  # foreign code
            said = " ".join(str(error).split())[:200]
            name = type(self.model).__name__
            raise InputError(
                f"the model's own code ({name}) fails on a short row: {type(error).__name__}: {said}"
            ) from error


KIND = ArmKind(
    "classifier",
    Classifier,
    "one output of a sequence classifier (a trained reward model)",
    loader="classifier",
    hidden=("model", "tokenizer"),
    ragged=True,
)
