"""A reward model behind an HTTP server.

The server is vLLM, SGLang, TEI, OpenRLHF, slime, or any other that answers JSON.
Leaves out: servers that ask back, streams, and anything but POST with JSON.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from reward_router.chat import Prompt
from reward_router.errors import InputError
from reward_router.kinds import ArmKind
from reward_router.rewards.metered import Answer, ArmFailed
from reward_router.rewards.names import nearest
from reward_router.rewards.remote.arm import Price, Question, RemoteArm, UnreadableAnswer
from reward_router.rewards.remote.dialects import DIALECTS, Dialect, DialectOptions, Text
from reward_router.rewards.remote.policy import CallPolicy
from reward_router.rewards.remote.reading import fill, places, plain
from reward_router.rewards.remote.wire import Wire
from reward_router.rewards.template import answered, prompt_messages, render_chat
from reward_router.secrecy import refuse_secrets
from reward_router.types import Float

REDUCTIONS = ("none", "last", "min", "mean")


class Http:
    """Scores of a served reward model.

    >>> from reward_router.testing.transport import FakeTransport
    >>> fake = FakeTransport(lambda request: {"data": [{"index": 0, "probs": [1.5]}]})
    >>> arm = Http("http://localhost:8000", calls={"canaries": 0}, transport=fake)
    >>> arm.score(["Say hi."], [["hi", "hello"]]).tolist()
    [[1.5, 1.5]]
    """

    groupwise = False

    def __init__(  # noqa: PLR0913 (the options of the kind)
        self,
        url: str,
        model: str | None = None,
        *,
        dialect: str = "vllm",
        text: str | None = None,
        tokenizer: str | None = None,
        output: int | str | None = None,
        reduction: str = "none",
        request: Any = None,
        answer: str | None = None,
        truncate: bool = False,
        raw: bool | None = None,
        batch: int | None = None,
        key_env: str | None = None,
        calls: Mapping[str, Any] | None = None,
        price: Mapping[str, Any] | None = None,
        transport: Any = None,
    ) -> None:
        """Sends nothing; InputError where an option cannot be right.

        Args:
            url: The server; the dialect's own path is added where the URL has none.
            model: The name it serves the model under, or a LoRA adapter's.
            dialect: One of `DIALECTS`.
            text: How prompt and response become one text, such as
                ``"User: {prompt} Assistant: {response}"``.
            tokenizer: A model whose chat template renders them instead (needs the extra ``train``).
            output: Which of several outputs is the score: an index, or TEI's label.
            reduction: ``vllm-pooling`` only: one score a text (none), or of its tokens the last,
                the min, the mean.
            request: ``generic`` only: the body, with places.
            answer: ``generic`` only: the path to the score.
            truncate: ``tei`` only: whether a text that is too long is cut; else it is a failure.
            raw: Whether unbounded scores are expected; canaries within [0, 1] are then suspicious.
                None: as the dialect has it.
            batch: Most texts a request; None: the dialect's.
            key_env: The environment variable that holds the server's key.
            calls: Limits and more, see `CallPolicy`.
            price: Prices a million tokens, see `Price`.
            transport: Takes the place of the network in tests.
        """
        refuse_secrets({"url": url, "request": request}, "kind http")
        if dialect not in DIALECTS:
            raise InputError(f"dialect {dialect!r} is unknown{nearest(str(dialect), DIALECTS)}")
        if reduction not in REDUCTIONS:
            raise InputError(
                f"reduction {reduction!r} is unknown{nearest(str(reduction), REDUCTIONS)}"
            )
        if text is not None and (not isinstance(text, str) or "response" not in places(text)):
            raise InputError(
                f"text is {text!r}; it needs a place for {{response}}, "
                "and mostly one for {prompt}"
            )
        rendered = text is not None or tokenizer is not None
        choice = DialectOptions(model, output, reduction, request, answer, truncate, rendered)
        self.dialect: Dialect = DIALECTS[dialect](choice)
        if self.dialect.needs_whole and not rendered:
            raise InputError(
                f"dialect {dialect} sends prompt and response as one text; "
                "give tokenizer (whose chat template renders them) or text"
            )
        self.text = text
        self.tokenizer = tokenizer
        self.batch = self.dialect.batch if batch is None else batch
        if not isinstance(self.batch, int) or not 1 <= self.batch <= 4096:
            raise InputError(f"batch is {batch!r}; allowed a whole number from 1 to 4096")
        if self.batch > 1 and self.dialect.batch == 1:
            raise InputError(
                f"batch is {batch}, and a request of this form holds one response; allowed 1"
            )
        # These two say nothing of their scores' range, so a bounded canary is no suspicion.
        says_no_range = dialect in ("generic", "slime")
        self.raw = not says_no_range if raw is None else raw
        self.facts = self.dialect.facts
        wire = Wire(
            _whole_url(url, self.dialect.path), CallPolicy.of(calls), key_env, transport=transport
        )
        self.arm = RemoteArm(wire, self, Price.of(price))
        self._tokenizer: Any = None

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Float:
        """(B, N) scores, NaN beyond a row's end and where the server abstains.

        The first failure is raised.
        """
        return self.score_with_bill(prompts, responses).scores()

    def score_with_bill(
        self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]
    ) -> Answer:
        """Scores with errors by row, seconds and prices."""
        return self.arm.score_with_bill(prompts, responses)

    def served(self) -> str:
        """A fingerprint of the served model."""
        return self.arm.served()

    def render(self, prompt: Prompt, response: str) -> str:
        """The text that is sent, as far as it is rendered here."""
        if self.text is not None:
            return str(fill(self.text, {"prompt": plain(prompt), "response": str(response)}))
        if self.tokenizer is None:
            return f"{plain(prompt)}\n\n{response}"
        return self._templated(prompt, response)

    def questions(
        self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]
    ) -> tuple[list[Question], dict[int, ArmFailed]]:
        """Responses in batches, in order."""
        texts: list[tuple[tuple[int, int], Text]] = []
        errors: dict[int, ArmFailed] = {}
        for b, (prompt, row) in enumerate(zip(prompts, responses, strict=True)):
            try:
                rendered = [self._text(prompt, response) for response in row]
            except InputError as error:  # a template that refuses these roles
                # One prompt that the template refuses must not fail the other rows.
                errors[b] = ArmFailed(str(error))
                continue
            texts += [((b, n), text) for n, text in enumerate(rendered)]

        questions = []
        for start in range(0, len(texts), self.batch):
            batch = texts[start : start + self.batch]
            questions.append(self._question(batch))
        return questions, errors

    def divided(self, question: Question) -> list[Question]:
        """One question a response."""
        if len(question.cells) < 2:
            return []
        held: Sequence[tuple[tuple[int, int], Text]]
        held = question.read.texts  # type: ignore[attr-defined]
        return [self._question([each]) for each in held]

    def note(self, questions: Sequence[Question], values: Sequence[Any]) -> None:
        """Nothing is measured."""

    def combine(
        self, scores_BN: Float, questions: Sequence[Question], values: Sequence[Any]
    ) -> None:
        """Each answer holds the scores of its cells."""
        for question, value in zip(questions, values, strict=True):
            if value is not None:
                for (b, n), score in zip(question.cells, value, strict=True):
                    scores_BN[b, n] = np.nan if score is None else score

    def _question(self, batch: Sequence[tuple[tuple[int, int], Text]]) -> Question:
        texts = [text for _, text in batch]
        cells = tuple(cell for cell, _ in batch)
        return Question(self.dialect.body(texts), cells, _Scores(self.dialect, batch))

    def _text(self, prompt: Prompt, response: str) -> Text:
        rendered = self.text is not None or self.tokenizer is not None
        return Text(prompt, response, self.render(prompt, response) if rendered else "")

    def _templated(self, prompt: Prompt, response: str) -> str:
        """Rendered with the tokenizer's template, without BOS.

        The server adds that when it tokenizes.
        """
        if self._tokenizer is None:
            from reward_router.rewards.loading import load_tokenizer

            self._tokenizer = load_tokenizer(str(self.tokenizer))
        whole = render_chat(
            self._tokenizer, [*prompt_messages(prompt), answered(response)], None, generate=False
        )
        # A second BOS would be a text that the model was never trained on.
        bos = self._tokenizer.bos_token
        return whole.removeprefix(bos) if bos else whole


class _Scores:
    """Reads the scores of a batch, and remembers what it holds."""

    def __init__(self, dialect: Dialect, texts: Sequence[tuple[tuple[int, int], Text]]) -> None:
        self.dialect = dialect
        self.texts = texts

    def __call__(self, answer: Any) -> list[float | None]:
        if answer is None:
            raise UnreadableAnswer("null instead of scores")
        return self.dialect.scores(answer, len(self.texts))


def _whole_url(url: Any, path: str) -> Any:
    """The URL with the dialect's path, unless it has a path of its own."""
    if not isinstance(url, str) or not path:
        return url
    # A URL with a path of its own is taken as it stands: servers sit behind proxies.
    bare = url.rstrip("/")
    return bare + path if urlsplit(url).path in ("", "/") else bare


KIND = ArmKind(
    "http",
    Http,
    "a reward model behind a server: vLLM, SGLang, TEI, OpenRLHF, slime, or any that answers JSON",
    hidden=("transport",),
    ragged=True,
    remote=True,
    names_model=True,
    check=lambda options: Http(**options).arm.wire.check(),
    code=lambda options: None,
)
