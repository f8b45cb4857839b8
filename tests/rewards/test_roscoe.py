"""ROSCOE's metrics: laws, the formulas written out in loops, and input that cannot be right."""

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_router.errors import InputError
from reward_router.kinds import ARMS
from reward_router.rewards.fingerprint import fingerprint
from reward_router.rewards.kinds.roscoe import ELSEWHERE, METRICS, Roscoe
from reward_router.rewards.pool import RewardPool
from reward_router.rewards.roscoe import vectors
from reward_router.rewards.roscoe.steps import steps_of
from reward_router.rewards.spec import ArmSpec, check_spec

SOURCE = "Tom has 3 red apples. He buys 4 green pears. How many fruits has he?"
CHAIN = "Tom has 3 red apples. He buys 4 pears.\n3 + 4 = 7. So the answer is 7."
NEEDS_FILE = {"common_sense"}


class Words:
    """A vector for every word, the sum of them for a text; counts what it is asked to encode.

    Shorter texts are padded to the longest one, as an encoder's are.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []

    def word(self, word: str) -> np.ndarray:
        seed = int.from_bytes(word.encode()[:8], "little") % 2**32
        return np.random.default_rng(seed).normal(size=16)

    def encode(self, texts: Sequence[str], **options: Any) -> Any:
        self.asked += texts
        tokens = [[np.ones(16), *map(self.word, text.split()), np.ones(16)] for text in texts]
        sums = [np.sum(rows[1:-1], axis=0) for rows in tokens]
        if "output_value" not in options:
            return np.array(sums)
        longest = max(len(rows) for rows in tokens)
        encoded = []
        for rows, total in zip(tokens, sums, strict=True):
            padding = longest - len(rows)
            # What stands in the place of padding is anything but zero.
            padded = np.array([*rows, *np.full((padding, 16), 7.0)])
            mask = np.array([1] * len(rows) + [0] * padding)
            one = {"token_embeddings": padded, "attention_mask": mask, "sentence_embedding": total}
            encoded.append(one)
        return encoded


def score(metric: str, source: str, *responses: str, **options: Any) -> list[float]:
    arm = Roscoe(Words(), metric=metric, **options)
    return arm.score([source], [list(responses)])[0].tolist()


@pytest.fixture
def references(tmp_path: Path) -> str:
    path = tmp_path / "references.jsonl"
    rows = [{"prompt": SOURCE, "reference": "He has 3 apples and 4 pears. 3 + 4 = 7."}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


# The formulas, written out


def cos(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / math.sqrt((a @ a) * (b @ b)))


def by_hand(metric: str, source: str, response: str, reference: str) -> float:
    words = Words()

    def vector(text: str) -> np.ndarray:
        return np.sum([words.word(w) for w in text.split()], axis=0)

    def align(text: str, texts: Sequence[str]) -> float:
        return max((1 + cos(vector(text), vector(t))) / 2 for t in texts)

    h, s, r = steps_of(response), steps_of(source), steps_of(reference)
    source_words = [w for step in s for w in step.split()]
    to_s = [align(step, s) for step in h]
    to_r = [align(step, r) for step in h]
    r_to_h = [align(step, h) for step in r]
    r_to_s = [align(step, s) for step in r]
    s_to_h = [align(step, h) for step in s]
    earlier = list(itertools.combinations(range(len(h)), 2))
    match metric:
        case "faithfulness_step":
            return sum(to_s) / len(h)
        case "faithfulness_token":
            tokens = [align(w, source_words) for step in h for w in step.split()]
            return (sum(to_s) + sum(tokens)) / (len(h) + len(tokens))
        case "informativeness_step":
            return (sum(s_to_h) / len(s) + sum(to_s) / len(h)) / 2
        case "informativeness_chain":
            return (1 + cos(vector(response), vector(source))) / 2
        case "reasoning_alignment":
            return sum(to_r) / len(h)
        case "hallucination":
            return 1 - max((1 - a) * (1 - b) for a, b in zip(to_s, to_r, strict=True))
        case "redundancy":
            return min(to_r)
        case "common_sense":
            return 1 - max((1 - a) * (1 - b) for a, b in zip(r_to_h, r_to_s, strict=True))
        case "missing_step":
            return min(r_to_h)
        case "semantic_coverage_step":
            return 1 - abs(sum(r_to_s) / len(r) - sum(to_s) / len(h))
        case "semantic_coverage_chain":
            return (1 + cos(vector(response), vector(reference))) / 2
        case "repetition_step":
            return (1 - max(cos(vector(h[i]), vector(h[j])) for j, i in earlier)) / 2
        case "repetition_token":
            means = []
            for j, i in earlier:
                each = [align(w, h[j].split()) for w in h[i].split()]
                means.append(sum(each) / len(each))
            return 1 - max(means)
        case "coherence":
            near = [cos(vector(a), vector(b)) for a, b in itertools.pairwise(h)]
            return (1 + sum(near) / len(near)) / 2
    raise AssertionError(metric)


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_is_its_formula(metric: str, references: str) -> None:
    with_file = "reference" in METRICS[metric].compares
    reference = "He has 3 apples and 4 pears. 3 + 4 = 7."
    options = {"references": references} if with_file else {}
    [value] = score(metric, SOURCE, CHAIN, **options)
    assert value == pytest.approx(by_hand(metric, SOURCE, CHAIN, reference))
    if with_file and metric not in NEEDS_FILE:
        # Without a file the source stands for the reference.
        [value] = score(metric, SOURCE, CHAIN)
        assert value == pytest.approx(by_hand(metric, SOURCE, CHAIN, SOURCE))


# Laws

ALONE = sorted(set(METRICS) - NEEDS_FILE)
WORD = st.sampled_from(["a", "bb", "ccc", "dd7", "e5", "f"])
STEP = st.lists(WORD, min_size=1, max_size=4).map(" ".join)
TEXT = st.lists(STEP, min_size=1, max_size=4).map("\n".join)


@pytest.mark.parametrize("metric", ALONE)
@given(source=TEXT, response=TEXT)
def test_every_score_lies_between_0_and_1(metric: str, source: str, response: str) -> None:
    [value] = score(metric, source, response)
    assert 0.0 <= value <= 1.0


@pytest.mark.parametrize(
    "metric",
    [
        "faithfulness_step",
        "faithfulness_token",
        "hallucination",
        "informativeness_chain",
        "informativeness_step",
        "missing_step",
        "reasoning_alignment",
        "semantic_coverage_chain",
    ],
)
@given(source=TEXT, response=TEXT)
def test_nothing_is_above_a_copy_of_the_source(metric: str, source: str, response: str) -> None:
    copy, other = score(metric, source, source, response)
    assert copy == pytest.approx(1.0)
    assert other <= copy + 1e-9


@pytest.mark.parametrize("metric", ["repetition_step", "repetition_token"])
@given(response=TEXT)
def test_saying_it_again_is_the_worst_repetition(metric: str, response: str) -> None:
    twice, once = score(metric, "x", f"{response}\n{response}", response)
    assert twice == pytest.approx(0.0, abs=1e-9)
    assert twice <= once + 1e-9


@pytest.mark.parametrize("metric", sorted(set(ALONE) - {"coherence", "repetition_token"}))
@given(source=TEXT, response=TEXT, seed=st.integers(0, 9))
def test_the_order_of_steps_does_not_matter_where_the_formula_has_none(
    metric: str, source: str, response: str, seed: int
) -> None:
    lines = response.split("\n")
    shuffled = np.random.default_rng(seed).permutation(lines).tolist()
    first, second = score(metric, source, response, "\n".join(shuffled))
    assert first == pytest.approx(second)


def test_coherence_falls_where_neighbours_part() -> None:
    together, apart = score(
        "coherence", "x", "a b\na bb\nccc d\nccc dd", "a b\nccc d\na bb\nccc dd"
    )
    assert together > apart


def test_texts_are_encoded_in_one_pass_and_once_for_all_arms() -> None:
    encoder = Words()
    step = Roscoe(encoder, metric="faithfulness_step")
    step.score([SOURCE, SOURCE], [[CHAIN, CHAIN], ["So the answer is 7.", ""]])
    assert len(encoder.asked) == len(set(encoder.asked))
    before = len(encoder.asked)
    Roscoe(encoder, metric="repetition_step").score([SOURCE], [[CHAIN]])
    assert len(encoder.asked) == before


@pytest.mark.parametrize("room", [0, 3_000, 10**6])
def test_sharing_vectors_changes_no_score(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "SENTENCE_BYTES", room)
    monkeypatch.setattr(vectors, "TOKEN_BYTES", room)
    shared = Words()
    for text in (CHAIN, "a b\nccc d\na bb", CHAIN):
        for metric in ALONE:
            [alone] = score(metric, SOURCE, text)
            arm = Roscoe(shared, metric=metric)
            assert arm.score([SOURCE], [[text]])[0].tolist() == [alone]


def test_tokens_are_encoded_once_for_all_arms() -> None:
    encoder = Words()
    for metric in ("faithfulness_token", "repetition_token", "faithfulness_step", "coherence"):
        Roscoe(encoder, metric=metric).score([SOURCE], [[CHAIN]])
    assert sorted(encoder.asked) == sorted({*steps_of(CHAIN), *steps_of(SOURCE)})


def test_what_is_kept_stays_within_its_memory() -> None:
    kept = vectors.Kept(limit=100)
    rows = {name: np.zeros(4) for name in "abcd"}  # 32 bytes each
    kept.keep({name: rows[name] for name in "abc"})
    assert list(kept.known("abc")) == ["a", "b", "c"]
    assert list(kept.known("a")) == ["a"]
    kept.keep({"d": rows["d"], "a": rows["a"]})
    # b was used longest ago.
    assert list(kept.known("abcd")) == ["a", "c", "d"]
    kept.keep({"large": np.zeros(100)})
    assert not kept.known(["a", "c", "d", "large"])


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("", []),
        (" \n ", []),
        ("...", ["..."]),
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("It is 3.5, e.g. more.\n\n- next", ["It is 3.5, e.g. more.", "- next"]),
        ("1. Add.\n2. Take", ["1. Add.", "2. Take"]),
        ("**a)** Add\n---\nEnd", ["**a)** Add", "End"]),
        ("Take\n1.", ["Take", "1."]),
    ],
)
def test_steps_are_lines_and_sentences(text: str, steps: list[str]) -> None:
    assert steps_of(text) == steps


# Perplexity


@pytest.mark.parametrize("metric", ["perplexity_chain", "perplexity_step"])
def test_perplexity_is_that_of_a_plain_forward_pass(metric: str) -> None:
    torch = pytest.importorskip("torch")
    from reward_router.rewards.kinds.roscoe_lm import RoscoeLm
    from reward_router.rewards.tiny import tiny_llama

    model, tokenizer = tiny_llama()
    arm = RoscoeLm(model, tokenizer, metric=metric, max_tokens=30)
    [[value, again, blank]] = arm.score(["x"], [[CHAIN, CHAIN, " "]]).tolist()
    assert math.isnan(blank)
    perplexities = []
    for text in [CHAIN] if metric == "perplexity_chain" else steps_of(CHAIN):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"][:30]
        whole = torch.tensor([[tokenizer.bos_token_id, *ids]])
        with torch.no_grad():
            loss = model(whole, labels=whole).loss.item()
        perplexities.append(math.exp(loss))
    assert value == again == pytest.approx(1 / np.mean(perplexities), rel=1e-4)
    assert 0 < value <= 1


# Classifiers


def a_classifier(labels: dict[int, str]) -> tuple[Any, Any]:
    torch = pytest.importorskip("torch")
    from transformers import LlamaForSequenceClassification

    from reward_router.rewards.tiny import tiny_llama

    body, tokenizer = tiny_llama()
    config = body.config
    config.id2label = labels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = LlamaForSequenceClassification(config)
    return model.eval(), tokenizer


@pytest.mark.parametrize("metric", ["self_consistency", "source_consistency", "grammar"])
def test_classifiers_are_asked_step_by_step(metric: str) -> None:
    torch = pytest.importorskip("torch")
    from reward_router.rewards.kinds.roscoe_classifier import RoscoeClassifier

    labels = {0: "entailment", 1: "Contradiction", 2: "acceptable"}
    model, tokenizer = a_classifier(labels)
    arm = RoscoeClassifier(model, tokenizer, metric=metric, batch_size=3)
    [[value, single]] = arm.score([SOURCE], [[CHAIN, "Seven."]]).tolist()

    def probability(*texts: str) -> float:
        with torch.no_grad():
            logits = model(**tokenizer(*texts, return_tensors="pt")).logits[0]
        return float(logits.softmax(0)[2 if metric == "grammar" else 1])

    steps, source = steps_of(CHAIN), steps_of(SOURCE)
    if metric == "grammar":
        expected = np.mean([probability(step) for step in steps])
    elif metric == "self_consistency":
        expected = 1 - max(probability(a, b) for a, b in itertools.combinations(steps, 2))
        assert single == 1.0
    else:
        expected = 1 - max(probability(a, b) for a, b in itertools.product(source, steps))
    assert value == pytest.approx(expected, rel=1e-5)


def test_a_classifier_without_the_label_is_refused() -> None:
    from reward_router.rewards.kinds.roscoe_classifier import RoscoeClassifier

    model, tokenizer = a_classifier({0: "LABEL_0", 1: "LABEL_1"})
    with pytest.raises(InputError, match=r"'acceptable' is none .* LABEL_0, LABEL_1"):
        RoscoeClassifier(model, tokenizer, metric="grammar")
    RoscoeClassifier(model, tokenizer, metric="grammar", label="label_1")


# Bad input


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("roscoe", {"metric": "faithfulnes_step"}, "did you mean faithfulness_step?"),
        ("roscoe", {"metric": "perplexity_chain"}, "one of kind roscoe_lm"),
        ("roscoe", {"metric": "grammar"}, "one of kind roscoe_classifier"),
        ("roscoe", {}, "needs the option 'metric'"),
        ("roscoe", {"metric": "common_sense"}, "needs references"),
        ("roscoe", {"metric": "coherence", "references": "x"}, "compares no reference"),
        ("roscoe", {"metric": "redundancy", "references": "nowhere.jsonl"}, "nowhere.jsonl"),
        ("roscoe_lm", {"metric": "perplexity"}, "did you mean perplexity_step?"),
        ("roscoe_lm", {"metric": "coherence"}, "one of kind roscoe;"),
        ("roscoe_lm", {"metric": "perplexity_step", "max_tokens": 0}, "max_tokens is 0"),
        ("roscoe_classifier", {"metric": "grammar"}, "needs a model"),
    ],
)
def test_a_spec_that_cannot_be_right_is_one_line(
    kind: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError) as error:
        check_spec(ArmSpec("mine", kind, options=options))
    assert message in str(error.value)
    assert "arm 'mine'" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_blank_response_is_abstained_from_and_a_row_without_source_fails_alone() -> None:
    arm = Roscoe(Words(), metric="faithfulness_step")
    pool = RewardPool({}, models={"faithful": arm})
    result = pool.score("faithful", [SOURCE, " "], [[CHAIN, " "], ["a.", "b."]])
    assert np.isnan(result.scores_BN).tolist() == [[False, True], [True, True]]
    assert list(result.row_errors) == [1]
    assert "compares a response with its source" in result.row_errors[1]
    # A metric that reads the response alone needs none.
    [value] = score("repetition_step", " ", CHAIN)
    assert 0 <= value <= 1


def test_a_prompt_without_a_reference_is_abstained_from(references: str) -> None:
    arm = Roscoe(Words(), metric="reasoning_alignment", references=references)
    scores_BN = arm.score([SOURCE, "Another?"], [[CHAIN], [CHAIN]])
    assert np.isnan(scores_BN).tolist() == [[False], [True]]
    path = Path(references)
    before = fingerprint(spec(references))
    path.write_text(path.read_text().replace("7", "8"))
    assert fingerprint(spec(references)) != before
    path.write_text('{"prompt": "x", "answer": "y"}\n')
    with pytest.raises(InputError, match="reference is None"):
        Roscoe(Words(), metric="reasoning_alignment", references=references)


def spec(references: str) -> ArmSpec:
    options = {"metric": "reasoning_alignment", "references": references}
    return ArmSpec("mine", "roscoe", "tiny", options)


def test_every_metric_of_the_suite_has_one_kind() -> None:
    assert not METRICS.keys() & ELSEWHERE.keys()
    assert set(ELSEWHERE.values()) <= set(ARMS.names())
