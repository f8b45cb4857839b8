"""Deterministic instructions whose answers rules can verify, split by content.

Every instruction is made from one content item (a fact, a pair of numbers, a topic with its words,
a sentence) and a phrasing. The item's hash alone decides its split and its phrasing, so no item of
one split occurs in another, in any category, and adding items moves none that exist. A task's id is
its category and the hash of its prompt.

Leaves out: phrasings are shared between splits, so the splits test new content, not new wordings.
"""

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain, zip_longest
from typing import Any, Literal, TypeVar

from reward_router.errors import InputError
from reward_router.keyed import uniform
from reward_router.tasks import facts, sentences, topics
from reward_router.tasks.verifiers import verify_check
from reward_router.words import words

TaskSplit = Literal["train", "fit", "dev", "test"]
SPLITS: tuple[TaskSplit, ...] = ("train", "fit", "dev", "test")
Check = dict[str, Any]
T = TypeVar("T")

COMPLETE: Check = {"kind": "complete"}
ANSWER_WORDS = 30  # a bare answer or a sentence; what 48 tokens cut off is mostly longer
TITLE_WORDS = 15


@dataclass(frozen=True)
class Task:
    """One instruction and the rule that verifies a response to it.

    `id` is stable over releases that keep the prompt; `answer` is the canonical answer where there
    is one; `check` is JSON-serialisable data for `verify_check`.
    """

    id: str
    prompt: str
    category: str
    answer: str | None
    check: dict[str, Any] = field(hash=False)


def _all(*checks: Check) -> Check:
    return {"kind": "all", "checks": list(checks)}


def _hash(purpose: str, item: str) -> float:
    return uniform(0, "data", 0, f"{purpose}:{item}")


def _pick(options: Sequence[T], purpose: str, item: str) -> T:
    return options[int(_hash(purpose, item) * len(options))]


def split_of(item: str) -> TaskSplit:
    """The split that a content item belongs to, by its hash alone.

    40 % are train, and 20 % each are fit, dev and test.
    ``fit`` is what reward models and priors are learned from, so that no run trains on prompts
    whose truth they have seen.
    """
    place = _hash("split", item)
    if place < 0.4:
        return "train"
    return "fit" if place < 0.6 else "dev" if place < 0.8 else "test"


def _task(category: str, prompt: str, check: Check, answer: str | None = None) -> Task:
    digest = blake2b(prompt.encode(), digest_size=5).hexdigest()
    return Task(f"{category}-{digest}", prompt, category, answer, check)


def _rows(table: str, split: TaskSplit) -> Iterator[list[str]]:
    """The table's rows of a split; a row's content is its first cell."""
    for line in table.strip().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if split_of(cells[0]) == split:
            yield cells


FACT_FORMS = (
    "{}",
    "{} Answer in one short sentence.",
    "{} Give a short answer.",
    "Please answer briefly: {}",
)


def _facts(split: TaskSplit) -> Iterator[Task]:
    for question, *answers in _rows(facts.TABLE, split):
        prompt = _pick(FACT_FORMS, "facts", question).format(question)
        check = _all(
            {"kind": "any_of", "phrases": answers},
            {"kind": "word_count", "low": 1, "high": ANSWER_WORDS},
        )
        yield _task("facts", prompt, check, answers[0])


SUM_FORMS = (
    "What is {a} + {b}?",
    "What is {a} plus {b}? Answer with the number only.",
    "Compute {a} + {b}. Reply with the number only.",
    "Please compute {a} + {b} and reply with the number only.",
    "I need to know {a} + {b}. Just give me the number.",
    "Add {a} and {b}. Reply with the number only.",
)


def _sums(split: TaskSplit) -> Iterator[Task]:
    """Sums of two two-digit numbers; {a, b} is the content, whatever the order."""
    for low in range(11, 50):
        for high in range(low, 50):
            item = f"{low}+{high}"
            # One pair in five is kept: all of them would be many more than the other tasks.
            is_kept = _hash("kept", item) < 0.2
            if not is_kept or split_of(item) != split:
                continue

            a, b = _pick(((low, high), (high, low)), "order", item)
            form = _pick(SUM_FORMS, "sums", item)
            prompt = form.format(a=a, b=b)
            check: Check = {"kind": "last_number", "value": low + high}
            yield _task("sums", prompt, check, str(low + high))


TOPIC_FORMS: dict[str, tuple[str, ...]] = {
    "include": (
        'Write a sentence about {topic} that uses the words "{one}" and "{two}".',
        'Describe {topic} in a sentence or two. Use the words "{one}" and "{two}".',
        'Tell me something about {topic}, and mention the words "{one}" and "{two}".',
    ),
    "exclude": (
        'Describe {topic} in one or two sentences without using the word "{avoid}".',
        'Write a sentence about {topic}. Do not use the word "{avoid}".',
        'In one sentence, tell me about {topic}, but never say "{avoid}".',
    ),
    "short": (
        "Describe {topic} in at most {limit} words.",
        "In {limit} words or fewer, tell me about {topic}.",
        "Write a caption of no more than {limit} words for a photo of {topic}.",
    ),
    "long": (
        "Write about {topic} in at least 20 words.",
        "Describe {topic}. Use at least 20 words.",
        "Tell me about {topic} in 20 words or more, in one or two sentences.",
    ),
    "question": (
        "Write a short message about {topic} that ends with a question.",
        "Say something about {topic} and end with a question.",
        "Start a conversation with me about {topic}. Finish with a question.",
    ),
    "number": (
        "Write one sentence about {topic} that contains a number in digits.",
        "Describe {topic} in a sentence with at least one number, written in digits.",
        "Tell me a small story about {topic} in one or two sentences. "
        "Use a number in digits, such as 7.",
    ),
    "title": (
        "Write a title for an article about {topic}. Use title case.",
        "Suggest a book title about {topic} in title case.",
        "Give me a headline about {topic}. Write it in title case.",
    ),
    "exclaim": (
        "Write an excited sentence about {topic} that ends with an exclamation mark.",
        "Say something enthusiastic about {topic}! End with an exclamation mark.",
        "Write a cheerful message about {topic}. It must end with an exclamation mark.",
    ),
}
LIMITS = (12, 15, 18)


def _topic_check(category: str, one: str, two: str, avoid: str, limit: int) -> Check:
    checks: dict[str, Check] = {
        "include": {"kind": "contains", "words": [one, two]},
        "exclude": _all({"kind": "excludes", "words": [avoid]}, COMPLETE),
        "short": {"kind": "word_count", "low": 2, "high": limit},
        "long": {"kind": "word_count", "low": 20},
        "question": {"kind": "ends_with", "marks": "?"},
        "number": {"kind": "has_digit"},
        "title": _all(
            {"kind": "title_case"},
            {"kind": "one_line"},
            {"kind": "word_count", "low": 2, "high": TITLE_WORDS},
        ),
        "exclaim": {"kind": "ends_with", "marks": "!"},
    }
    return checks[category]


def _about_topics(category: str, split: TaskSplit) -> Iterator[Task]:
    for topic, one, two, avoid in _rows(topics.TABLE, split):
        limit = _pick(LIMITS, "limit", topic)
        form = _pick(TOPIC_FORMS[category], category, topic)
        prompt = form.format(topic=topic, one=one, two=two, avoid=avoid, limit=limit)
        check = _topic_check(category, one, two, avoid, limit)
        yield _task(category, prompt, check)


_VERB = re.compile(r"\[([^|\]]+)\|([^\]]+)\]")
_SMALL = frozenset(
    words(
        "the a an my our his her two on of in to from for with by and at "
        "after before near over into under"
    )
)


def _kept_words(sentence: str) -> list[str]:
    """The first and the last content word of a sentence, its verbs left out.

    These are what a rewriting must keep.
    """
    content = [word for word in words(_VERB.sub("", sentence)) if word.lower() not in _SMALL]
    return [content[0], content[-1]]


PAST_FORMS = (
    "Rewrite this sentence in the past tense: {}",
    "Put this sentence into the past tense: {}",
    "Change the following sentence to the past tense: {}",
)


def _sentence_rows(split: TaskSplit) -> Iterator[str]:
    return (line for line in sentences.TABLE.strip().splitlines() if split_of(line) == split)


def _past(split: TaskSplit) -> Iterator[Task]:
    for line in _sentence_rows(split):
        # The table marks every verb as [present|past].
        present_sentence = _VERB.sub(r"\1", line)
        past_sentence = _VERB.sub(r"\2", line)
        verbs = _VERB.findall(line)
        present_verbs = [present for present, _ in verbs]
        past_verbs = [past for _, past in verbs]
        check = _all(
            {"kind": "contains", "words": past_verbs + _kept_words(line)},
            {"kind": "excludes", "words": present_verbs},
            {"kind": "word_count", "high": len(words(present_sentence)) + 8},
            COMPLETE,
        )
        prompt = _pick(PAST_FORMS, "past", line).format(present_sentence)
        yield _task("past", prompt, check, past_sentence)


CATEGORIES: tuple[str, ...] = ("facts", "sums", *TOPIC_FORMS, "past")


# The tables never change, and a run reads a split several times: to train, to measure, to tell in
# its manifest what it was trained on.
@functools.cache
def _pool(category: str, split: TaskSplit) -> tuple[Task, ...]:
    makers = {"facts": _facts, "sums": _sums, "past": _past}
    if category in makers:
        return tuple(makers[category](split))
    return tuple(_about_topics(category, split))


def generate(split: TaskSplit, n: int | None = None, seed: int = 0) -> list[Task]:
    """The first `n` tasks of a split (all for None).

    Categories take turns in the order of `CATEGORIES`. `seed` chooses the order inside each
    category, and so which tasks the first `n` are; never a task's text, id or split. Raises
    `InputError` for an unknown split or an `n` outside 1 .. the size of the split. O(size of the
    split).

    >>> [task.category for task in generate("train", n=2)]
    ['facts', 'sums']
    """
    if split not in SPLITS:
        raise InputError(f"unknown split {split!r}; allowed: {', '.join(SPLITS)}")
    pools = [
        sorted(_pool(name, split), key=lambda task: uniform(seed, "data", 1, task.id))
        for name in CATEGORIES
    ]
    tasks = [task for task in chain.from_iterable(zip_longest(*pools)) if task is not None]
    if n is not None and not 1 <= n <= len(tasks):
        raise InputError(f"n = {n} tasks asked of split {split!r}; allowed: 1 to {len(tasks)}")
    return tasks[:n]


def verify(task: Task, response: str) -> bool:
    """Whether a response does what its task asks, by `verify_check` of the task's check.

    O(len(response)).
    """
    return verify_check(task.check, response)
