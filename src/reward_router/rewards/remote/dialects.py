"""How reward model servers are asked and what they answer, as read in their sources.

A dialect turns texts into one request body and an answer into scores. What it is given: ``Text``
items, each a prompt, a response and, where the dialect needs it, both rendered as one text. Every
dialect asks for raw scores where the server knows the difference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from reward_router.chat import Prompt
from reward_router.errors import InputError
from reward_router.rewards.remote.arm import UnreadableAnswer, number
from reward_router.rewards.remote.reading import fill, follow, parse_path, places, plain
from reward_router.rewards.template import answered, prompt_messages


@dataclass(frozen=True)
class Text:
    """One response to be scored.

    ``whole`` is prompt and response as the reward model reads them, '' where they are not rendered
    here.
    """

    prompt: Prompt
    response: str
    whole: str = ""


@dataclass(frozen=True)
class DialectOptions:
    """Options that some dialects take.

    Args:
        model: the name under which the server knows the model.
        output: an index or a label where a model has several outputs.
        reduction: how scores by token become one.
        request: the body of the generic dialect.
        answer: the path to the scores of the generic dialect.
        truncate: whether a text that is too long is cut.
        rendered: whether texts are rendered here.
    """

    model: str | None = None
    output: int | str | None = None
    reduction: str = "last"
    request: Any = None
    answer: str | None = None
    truncate: bool = False
    rendered: bool = False


class Dialect(Protocol):
    """How one server is asked; the version of it that was read stands at each class.

    ``path`` is appended to the URL unless it ends so. ``batch`` is the most texts of a request.
    ``needs_whole`` says whether texts must be rendered here, and ``facts`` holds the paths that
    tell what is served.
    """

    path: str
    batch: int
    needs_whole: bool
    facts: Sequence[str]

    def body(self, texts: Sequence[Text]) -> Any:
        """The request about these texts."""
        ...

    def scores(self, answer: Any, count: int) -> list[float | None]:
        """``count`` scores, None for an abstention; `UnreadableAnswer` where the answer is none."""
        ...


@dataclass
class VllmClassify:
    """vLLM ``POST /classify`` (0.33.0).

    ``use_activation`` is false because its default is a sigmoid for one label and a softmax for
    more.
    Chat messages go one conversation a request, so that the server renders its own model's
    template; rendered texts go in batches.
    """

    choice: DialectOptions
    path: str = "/classify"
    needs_whole: bool = False
    facts: Sequence[str] = ("/version", "/v1/models")

    @property
    def batch(self) -> int:
        """One conversation, or 32 rendered texts."""
        return 32 if self.choice.rendered else 1

    def body(self, texts: Sequence[Text]) -> Any:
        """Messages or texts."""
        return {**_model(self.choice), **_input(self.choice, texts), "use_activation": False}

    def scores(self, answer: Any, count: int) -> list[float | None]:
        """``data[i].probs``, which are logits with the activation off."""
        rows = _counted(_ordered(follow(answer, ["data"])), count)
        return [_one_of(follow(row, ["probs"]), self.choice.output) for row in rows]


@dataclass
class VllmPooling(VllmClassify):
    """vLLM ``POST /pooling`` (0.33.0): one score a text, asked for as ``/classify`` is.

    With a reduction it is ``task: token_classify`` for process reward models: one score a token,
    reduced to one a text.
    """

    path: str = "/pooling"

    def body(self, texts: Sequence[Text]) -> Any:
        """Messages or texts."""
        task = "classify" if self.choice.reduction == "none" else "token_classify"
        return {**super().body(texts), "task": task}

    def scores(self, answer: Any, count: int) -> list[float | None]:
        """``data[i].data``: outputs of the text, or of each token."""
        rows = _counted(_ordered(follow(answer, ["data"])), count)
        return [self._score(follow(row, ["data"])) for row in rows]

    def _score(self, data: Any) -> float | None:
        if self.choice.reduction == "none":
            return _one_of(data, self.choice.output)
        if not isinstance(data, list) or not data:
            raise UnreadableAnswer("data of a text is no list of scores by token")
        token_scores = []
        for outputs in data:
            score = _one_of(outputs, self.choice.output)
            if score is not None:
                token_scores.append(score)
        if not token_scores:
            return None
        reduced = {
            "last": token_scores[-1],
            "min": min(token_scores),
            "mean": sum(token_scores) / len(token_scores),
        }
        return reduced[self.choice.reduction]


@dataclass
class SglangClassify:
    """SGLang ``POST /classify`` (``--is-embedding``): rendered texts, raw scores."""

    choice: DialectOptions
    path: str = "/classify"
    batch: int = 32
    needs_whole: bool = True
    facts: Sequence[str] = ("/get_model_info",)

    def body(self, texts: Sequence[Text]) -> Any:
        """``text``: the rendered conversations."""
        return {**_model(self.choice), "text": [text.whole for text in texts]}

    def scores(self, answer: Any, count: int) -> list[float | None]:
        """``[i].embedding``."""
        rows = answer if isinstance(answer, list) else [answer]
        return [
            _one_of(follow(row, ["embedding"]), self.choice.output) for row in _counted(rows, count)
        ]


@dataclass
class TeiPredict:
    """Text Embeddings Inference ``POST /predict`` (1.7).

    A flat list of two texts would be read as ONE pair, so that every text is a list of its own.
    Without a rendered text the pair (prompt, response) is sent, as cross-encoders want it.
    """

    choice: DialectOptions
    path: str = "/predict"
    batch: int = 32
    needs_whole: bool = False
    facts: Sequence[str] = ("/info",)

    def body(self, texts: Sequence[Text]) -> Any:
        """``inputs``: one text, or a pair, each in a list of its own."""
        inputs = [
            [text.whole] if self.choice.rendered else [plain(text.prompt), text.response]
            for text in texts
        ]
        return {"inputs": inputs, "raw_scores": True, "truncate": self.choice.truncate}

    def scores(self, answer: Any, count: int) -> list[float | None]:
        """A list of labels a text; one text alone may come without the outer list."""
        rows = answer
        is_list = isinstance(answer, list) and bool(answer)
        flat = is_list and all(isinstance(label, Mapping) for label in answer)
        if flat and count == 1:
            rows = [answer]
        elif flat:
            rows = [[label] for label in answer]

        if not isinstance(rows, list):
            raise UnreadableAnswer("a list of predictions is expected")
        return [self._score(row) for row in _counted(rows, count)]

    def _score(self, labels: Any) -> float | None:
        if not isinstance(labels, list) or not labels:
            raise UnreadableAnswer("a text has no predictions")
        output = self.choice.output
        if isinstance(output, str):
            found = [each for each in labels if follow(each, ["label"]) == output]
            if not found:
                names = ", ".join(str(follow(each, ["label"])) for each in labels)
                raise UnreadableAnswer(f"no label {output!r} among {names}")
            return number(follow(found[0], ["score"]))
        if isinstance(output, int):  # sorted by score, so that a place in the list says nothing
            raise UnreadableAnswer(
                f"output={output} is an index, and predictions come sorted by score; name a label"
            )
        return _one_of([follow(each, ["score"]) for each in labels], None)


@dataclass
class OpenRlhf:
    """OpenRLHF ``POST /get_reward`` (0.11.2).

    ``query`` holds prompt and response rendered as one text. No gold goes out: labels are ''.
    """

    choice: DialectOptions
    path: str = "/get_reward"
    batch: int = 32
    needs_whole: bool = True
    facts: Sequence[str] = ()

    def body(self, texts: Sequence[Text]) -> Any:
        """``query``, ``prompts``, ``labels``."""
        return {
            "query": [text.whole for text in texts],
            "prompts": [plain(text.prompt) for text in texts],
            "labels": ["" for _ in texts],
        }

    def scores(self, answer: Any, count: int) -> list[float | None]:
        """``rewards``; some servers put each into a list of its own."""
        rows = _counted(follow(answer, ["rewards"]), count)
        return [_one_of(row if isinstance(row, list) else [row], None) for row in rows]


@dataclass
class Slime:
    """slime's ``--rm-url``: one sample a request, answered by a JSON number.

    No gold goes out: the label is ''.
    """

    choice: DialectOptions
    path: str = ""
    batch: int = 1
    needs_whole: bool = False
    facts: Sequence[str] = ()

    def body(self, texts: Sequence[Text]) -> Any:
        """``prompt``, ``response``, ``label``."""
        return {"prompt": plain(texts[0].prompt), "response": texts[0].response, "label": ""}

    def scores(self, answer: Any, count: int) -> list[float | None]:
        """The number."""
        return [None if answer is None else number(answer)]


@dataclass
class Generic:
    """Any other server: ``request`` is the body with places, ``answer`` the path to the score.

    Places of one text: ``{prompt}``, ``{response}``, ``{text}``, ``{messages}``. Where the template
    has ``{prompts}``, ``{responses}``, ``{texts}`` or ``{conversations}``, a request holds up to 32
    texts and the path leads to a list. ``{model}`` is the arm's model.
    """

    choice: DialectOptions
    path: str = ""
    facts: Sequence[str] = ("/version", "/info")
    many: bool = field(init=False)

    def __post_init__(self) -> None:
        """InputError where the template asks about nothing, or the path is none."""
        if self.choice.request is None or self.choice.answer is None:
            raise InputError(
                "dialect generic needs request (a body with {prompt} and {response}) "
                "and answer (a path)"
            )
        named = places(self.choice.request)
        unknown = sorted(named - {"model", *_ONE, *_MANY})
        if unknown:
            allowed = ", ".join(["model", *_ONE, *_MANY])
            raise InputError(f"request has a place {{{unknown[0]}}}; allowed {allowed}")
        self.many = bool(named & set(_MANY))
        has_text = bool(named & {"response", "text", "messages", *_MANY})
        is_mixed = self.many and bool(named & set(_ONE))
        if not has_text or is_mixed:
            raise InputError(
                "request needs places of one text ({prompt}, {response}) "
                "or of many ({prompts}, {responses}), not of both"
            )
        self.steps = parse_path(self.choice.answer, "answer")

    @property
    def batch(self) -> int:
        """32 where the template takes lists."""
        return 32 if self.many else 1

    @property
    def needs_whole(self) -> bool:
        """Whether a rendered text is asked for."""
        return bool(places(self.choice.request) & {"text", "texts"})

    def body(self, texts: Sequence[Text]) -> Any:
        """The filled template."""
        conversations = [[*prompt_messages(text.prompt), answered(text.response)] for text in texts]
        many: dict[str, Any] = {
            "prompts": [plain(text.prompt) for text in texts],
            "responses": [str(text.response) for text in texts],
            "texts": [text.whole for text in texts],
            "conversations": conversations,
        }
        # The names in the singular stand for the first text, for services that take one at a time.
        firsts = [many[name][0] for name in _MANY]
        one = dict(zip(_ONE, firsts, strict=True))
        return fill(self.choice.request, {"model": self.choice.model, **one, **many})

    def scores(self, answer: Any, count: int) -> list[float | None]:
        """What lies at the path."""
        found = follow(answer, self.steps)
        rows = _counted(found, count) if self.many else [found]
        return [
            _one_of(row if isinstance(row, list) else [row], self.choice.output) for row in rows
        ]


_ONE = ("prompt", "response", "text", "messages")
_MANY = ("prompts", "responses", "texts", "conversations")

DIALECTS: dict[str, Any] = {
    "vllm": VllmClassify,
    "vllm-pooling": VllmPooling,
    "sglang": SglangClassify,
    "tei": TeiPredict,
    "openrlhf": OpenRlhf,
    "slime": Slime,
    "generic": Generic,
}


def _model(choice: DialectOptions) -> dict[str, Any]:
    return {} if choice.model is None else {"model": choice.model}


def _input(choice: DialectOptions, texts: Sequence[Text]) -> dict[str, Any]:
    """vLLM's two forms: rendered texts, or one conversation that the server renders."""
    if choice.rendered:
        return {"input": [text.whole for text in texts]}
    return {"messages": [*prompt_messages(texts[0].prompt), answered(texts[0].response)]}


def _ordered(rows: Any) -> Any:
    """Rows by their ``index`` where every one has it."""
    if not isinstance(rows, list):
        return rows
    for row in rows:
        has_index = isinstance(row, Mapping) and isinstance(row.get("index"), int)
        if not has_index:
            return rows
    return sorted(rows, key=lambda row: int(row["index"]))


def _counted(rows: Any, count: int) -> list[Any]:
    """The rows, as many as were asked about."""
    if not isinstance(rows, list):
        raise UnreadableAnswer(f"a list of {count} scores is expected, found {type(rows).__name__}")
    if len(rows) != count:
        raise UnreadableAnswer(f"{len(rows)} scores for {count} responses")
    return rows


def _one_of(outputs: Any, which: int | str | None) -> float | None:
    """The score among a model's outputs, the only one or the chosen one; null is an abstention."""
    if not isinstance(outputs, list):
        outputs = [outputs]
    if isinstance(which, int):
        if not -len(outputs) <= which < len(outputs):
            raise UnreadableAnswer(f"output={which}, and the model has {len(outputs)}")
        outputs = [outputs[which]]
    if len(outputs) != 1:
        raise UnreadableAnswer(
            f"the model has {len(outputs)} outputs; the option output says which is the score"
        )
    return None if outputs[0] is None else number(outputs[0])
