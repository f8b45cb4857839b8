"""A trained preference model as reward model: one logit of a sequence classifier.

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

from reward_router.chat import Prompt
from reward_router.errors import InputError
from reward_router.kinds import ArmKind
from reward_router.rewards import template as chat
from reward_router.rewards.weights import context_of
from reward_router.types import Float

TokenRow = tuple[tuple[int, ...], tuple[int, ...]]
"""Token ids, and their segment (0 prompt, 1 response) for an encoder that reads it."""

ONE = ("score", "scores", "reward", "rewards", "end_scores", "value", "values")
SEVERAL = ("rewards", "logits")
"""Names of outputs that hold the reward.

They are read in this order, and the other way round where single outputs are chosen.
"""

_SHOWN = 20  # outputs that a message names

NO_TOKEN = -1
"""A pad id that equals no token, so that a model pools the last place of every row."""


@dataclass(frozen=True)
class OutputChoice:
    """Which outputs of a classifier make the reward.

    ``weights``: by the index of an output, its weight; None where there is one output only.
    """

    weights: Mapping[int, float] | None

    @classmethod
    def of(
        cls, config: Any, logit: int | str | None, logits: Mapping[int | str, float] | None
    ) -> "OutputChoice":
        """From the options of the kind; InputError for unknown labels.

        Args:
            config: the model's configuration, which names its outputs.
            logit: the index or label of one output.
            logits: by index or label, the weight of an output.
        """
        if logit is not None and logits is not None:
            raise InputError(
                "logit and logits are both given; logits alone is a weighted sum of outputs"
            )
        if logits is not None and (not isinstance(logits, Mapping) or not logits):
            raise InputError(f"logits is {logits!r}; write it as {{output: weight, ...}}")
        weight_by_output = {logit: 1.0} if logit is not None else logits
        if weight_by_output is None:
            return cls(None)
        weights: dict[int, float] = {}
        for output, weight in weight_by_output.items():
            is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
            if not is_number or not math.isfinite(weight):
                raise InputError(f"logits.{output} is {weight!r}; a finite weight is expected")
            weights[_place(config, output)] = float(weight)
        return cls(weights)

    def check(self, outputs: int, config: Any) -> None:
        """InputError for several outputs without a choice, or for a choice that is not there."""
        if self.weights is None and outputs > 1:
            raise InputError(
                f"the classifier has {outputs} outputs ({_labels(config, outputs)}) "
                "and none is chosen; give logit: an index or a label, "
                "or logits: {output: weight, ...} for a weighted sum"
            )
        wrong = [place for place in self.weights or () if place >= outputs]
        if wrong:
            raise InputError(f"logit is {wrong[0]}; the classifier has {outputs}, counted from 0")

    def score(self, result: Any, config: Any) -> Any:
        """(R,) rewards from what the model's forward returned.

        InputError where it holds none of the known outputs.
        """
        value = _output(result, many=self.weights is not None)
        # One output may come without its axis.
        value_RL = value[:, None] if value.dim() == 1 else value
        if value_RL.dim() != 2:
            raise InputError(
                f"the model's output has shape {tuple(value.shape)}; (rows, outputs) is expected"
            )
        self.check(value_RL.shape[1], config)

        if self.weights is None:
            return value_RL[:, 0]
        if list(self.weights.values()) == [1.0]:
            # As it is: a sum in float64 would change its digits.
            [only] = self.weights
            return value_RL[:, only]
        return sum(weight * value_RL[:, place].double() for place, weight in self.weights.items())


def _place(config: Any, output: int | str) -> int:
    """The index of an output that is named by its index or its label."""
    names = {str(label): int(i) for i, label in (getattr(config, "id2label", None) or {}).items()}
    if isinstance(output, str) and output in names:
        return names[output]
    text = str(output)
    if isinstance(output, bool) or not text.isdigit():
        raise InputError(
            f"output {output!r} is unknown; allowed: an index from 0, "
            f"or a label: {', '.join(names) or 'none'}"
        )
    return int(text)


def _labels(config: Any, outputs: int) -> str:
    names = getattr(config, "id2label", None) or {}
    shown = []
    for i in range(min(outputs, _SHOWN)):
        label = names.get(i, names.get(str(i), ""))
        shown.append(f"{i} {label}".strip())
    if outputs > _SHOWN:
        shown.append("...")
    return ", ".join(shown)


def _output(result: Any, many: bool) -> Any:
    """The tensor of rewards: a named output, the first of a tuple, or the tensor itself.

    ``many``: outputs were chosen, so the one that holds them all comes first.
    """
    import torch

    if isinstance(result, torch.Tensor):
        return result
    named: dict[str, Any] = {}
    if isinstance(result, Mapping):
        named = dict(result)
    elif hasattr(result, "__dict__"):
        named = vars(result)
    for name in SEVERAL + ONE if many else ONE + SEVERAL:
        if isinstance(named.get(name), torch.Tensor):
            return named[name]
    if isinstance(result, tuple | list):
        tensors = [part for part in result if isinstance(part, torch.Tensor)]
        if tensors:
            return tensors[0]
    have = ", ".join(str(name) for name in named) or type(result).__name__
    raise InputError(
        f"the model returns {have}; known outputs are {', '.join(dict.fromkeys(ONE + SEVERAL))}, "
        "a tensor, or a tuple of tensors"
    )


class Classifier:
    """One output of ``AutoModelForSequenceClassification``; higher is better.

    A model with several outputs is refused without a choice among them. Models with their own code
    may return ``score``, ``rewards``, ``logits``, a tensor or a tuple. Equal conversations are
    computed once. Deterministic for the same call.
    """

    def __init__(  # noqa: PLR0913 (the options of the kind)
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
        """Checks the options; sets the pad token of a model that has none.

        A model with its own code reads one short row.

        Args:
            model: A sequence classifier.
            tokenizer: Its own.
            chat_template: None for the tokenizer's own, ``plain``, or Jinja text.
            logit: The index or label of the output that is the score.
            logits: By index or label, the weights of outputs whose sum is the score.
            batch_tokens: Most padded positions a forward pass.
            max_length: Tokens beyond which a conversation is abstained from (NaN).
        """
        self.model = model
        self.tokenizer = tokenizer
        self.batch_tokens = batch_tokens
        self.own_code = not type(model).__module__.startswith("transformers.")
        self.choice = OutputChoice.of(model.config, logit, logits)
        if not self.own_code:
            self.choice.check(int(model.config.num_labels), model.config)
        has_template = chat_template is not None or bool(tokenizer.chat_template)
        self.pairs = not has_template and tokenizer.cls_token is not None
        self.template: str | None = None
        limit = context_of(model.config) or 2**31
        if self.pairs:
            limit = min(limit, tokenizer.model_max_length)
        else:
            name = "the classifier's tokenizer"
            self.template = chat.check_template(tokenizer, chat_template, name)
        self.max_length = max_length or int(limit)
        self.left = model.config.pad_token_id in (None, NO_TOKEN)
        if self.left and not self.own_code:
            model.config.pad_token_id = NO_TOKEN
        self.pad = 0 if self.left else int(model.config.pad_token_id)
        self._takes_positions = "position_ids" in inspect.signature(model.forward).parameters
        if self.own_code and model.device.type != "meta":
            self._try()

    def render(self, prompt: Prompt, response: str) -> str:
        """The text that is scored, to look at."""
        if self.pairs:
            return f"{chat.user_text(prompt)} {self.tokenizer.sep_token} {response}"
        conversation = [*chat.prompt_messages(prompt), chat.answered(response)]
        return chat.render_chat(self.tokenizer, conversation, self.template, generate=False)

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Float:
        """(B, N) logits.

        NaN where a row is shorter than the longest, or a conversation does not fit the model.
        """
        n_responses = max((len(row) for row in responses), default=0)
        scores_BN = np.full((len(prompts), n_responses), np.nan)

        # Equal token rows are computed once, so each keeps the places it stands for.
        places: dict[TokenRow, list[tuple[int, int]]] = {}
        for b, (prompt, row) in enumerate(zip(prompts, responses, strict=True)):
            for n, response in enumerate(row):
                tokens = self._tokens(prompt, response)
                ids = tokens[0]
                if len(ids) <= self.max_length:
                    places.setdefault(tokens, []).append((b, n))

        logits = self._logits(list(places))
        for tokens, value in zip(places, logits, strict=True):
            for b, n in places[tokens]:
                scores_BN[b, n] = value
        return scores_BN

    def _tokens(self, prompt: Prompt, response: str) -> TokenRow:
        if self.pairs:
            encoded = self.tokenizer(chat.user_text(prompt), response)
            ids = encoded["input_ids"]
            segments = encoded.get("token_type_ids", ())
            return tuple(ids), tuple(segments)
        text = self.render(prompt, response)
        ids = chat.prompt_tokens(self.tokenizer, text)
        return tuple(ids), ()

    def _logits(self, rows: list[TokenRow]) -> list[float]:
        import torch

        from reward_router.rewards.prefix import padded

        device = self.model.device
        gives_positions = self.left and self._takes_positions and not self.own_code
        out = [np.nan] * len(rows)
        widths = [len(ids) for ids, _ in rows]
        for group in self._groups(widths):
            ids, mask = padded([rows[r][0] for r in group], left=self.left)
            ids = ids.masked_fill(mask == 0, self.pad)
            inputs = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
            if gives_positions:
                # Padding on the left must not move a text's own positions.
                positions = (mask.cumsum(1) - 1).clamp(min=0)
                inputs["position_ids"] = positions.to(device)
            segments = [rows[r][1] for r in group]
            if all(segments):
                segment_ids, _ = padded(segments, left=False)
                inputs["token_type_ids"] = segment_ids.to(device)

            with torch.inference_mode():
                value_R = self.choice.score(self.model(**inputs), self.model.config)
            values = value_R.double().tolist()
            for r, value in zip(group, values, strict=True):
                out[r] = value
        return out

    def _groups(self, widths: list[int]) -> list[list[int]]:
        """Rows of one forward.

        How a model's own code pools a padded row is not known, so that only rows of one length
        share a forward there.
        """
        from reward_router.rewards.prefix import width_batches

        if not self.own_code:
            return width_batches(widths, self.batch_tokens)
        groups = []
        for width in sorted(set(widths)):
            rows = [r for r, w in enumerate(widths) if w == width]
            size = max(1, self.batch_tokens // max(width, 1))
            groups += [rows[i : i + size] for i in range(0, len(rows), size)]
        return groups

    def _try(self) -> None:
        """One short row through a model's own code, to learn which output it has.

        InputError where it has none of the known ones.
        """
        try:
            self._logits([self._tokens("Say hi.", "Hi.")])
        except InputError:
            raise
        except Exception as error:  # foreign code
            message = " ".join(str(error).split())[:200]
            name = type(self.model).__name__
            raise InputError(
                f"the model's own code ({name}) fails on a short row: "
                f"{type(error).__name__}: {message}"
            ) from error


KIND = ArmKind(
    "classifier",
    Classifier,
    "one output of a sequence classifier (a trained reward model)",
    loader="classifier",
    hidden=("model", "tokenizer"),
    ragged=True,
)
