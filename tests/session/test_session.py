"""The middle on its own: no policy, no trainer, no torch.

Verdicts are compared with brute force; payoffs come now, later and from elsewhere.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reward_router import Dispatcher, Ledger, LinUCB, Session, Uniform
from reward_router.committee import Committee, LabelPolicy, OnlineCommittee
from reward_router.config import JudgeConfig
from reward_router.contexts import Hashing
from reward_router.errors import InputError
from reward_router.outcomes import Outcome, Trained
from reward_router.payoffs import order_accuracy
from reward_router.rewards.pool import RewardPool
from reward_router.testing import FakeArm
from reward_router.types import By
from reward_router.verdicts.asking import Asker, zscores
from reward_router.verdicts.batch import Batch
from reward_router.verdicts.committee import CommitteeOfArms

NAMES = ["long", "short", "vowels"]
TEXTS = [["yes", "a long answer", "aeiou"], ["seven", "7", "it is seven"], ["no", "no!", "never"]]
GOLD = [np.array([1.0, 0.0, 0.0]), np.array([1.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0])]


def vowels(text: str) -> float:
    return sum(map(text.count, "aeiou")) + len(text) / 1000


SCORE_OF = {"long": len, "short": lambda text: -len(text), "vowels": vowels}


def arms() -> dict[str, FakeArm]:
    return {name: FakeArm(SCORE_OF[name]) for name in NAMES}


def batch(step: int = 0, **fields: Any) -> Batch:
    ids = [f"p{i}" for i in range(3)]
    return Batch(step, [f"prompt number {i}" for i in range(3)], ids, TEXTS, GOLD, **fields)


def session(
    payoff: Any = "probe", verdicts: Any = "single", ledger: Ledger | None = None, **models: Any
) -> Session:
    dispatcher = Dispatcher(LinUCB(3, 8), NAMES, seed=5, ledger=ledger)
    return Session(dispatcher, {**arms(), **models}, Hashing(8), payoff, verdicts)


def test_the_drawn_arm_judges() -> None:
    s = session()
    done = s.judge(batch())
    again = Dispatcher(LinUCB(3, 8), NAMES, seed=5).route(Hashing(8)(done.prompts), done.ids, 0)
    assert [d.id for d in done.decisions] == [d.id for d in again]
    assert [d.name for d in done.decisions] == [d.name for d in again]
    for row, found in enumerate(s.judgements(done)):
        wanted = [SCORE_OF[found.arm](text) for text in TEXTS[row]]
        assert found.scores.tolist() == wanted
        assert list(found.ranking) == sorted(range(3), key=lambda n: -wanted[n])
        assert (found.row, found.columns, found.by) == (row, (0, 1, 2), By.ROUTER)
        assert found.propensity == again[row].propensity
        assert found.confidence is None  # nobody has measured it


def test_calibrated_scores_are_in_units_of_the_arms_own_spread() -> None:
    s = session()
    said: dict[str, list[float]] = {}
    for step in range(4):
        done = s.judge(batch(step))
        for found in s.judgements(done):
            said.setdefault(found.arm, []).extend(found.scores.tolist())
        for found in s.judgements(done):
            seen = said[found.arm]
            wanted = (found.scores - np.mean(seen)) / np.std(seen)
            np.testing.assert_allclose(found.calibrated, wanted, rtol=1e-9)


def test_a_payoff_teaches_the_router_what_brute_force_does() -> None:
    s = session()
    router, context_BD = LinUCB(3, 8), Hashing(8)(batch().prompts)
    for step in range(5):
        done = s.judge(batch(step))
        paid = s.learn(done)
        payoffs = []
        for row, decision in enumerate(done.decisions):
            score_N = [SCORE_OF[decision.name](text) for text in TEXTS[row]]
            wanted = order_accuracy(score_N, GOLD[row])
            assert paid[decision.id] == wanted
            payoffs.append(wanted)
        chosen = np.array([decision.arm for decision in done.decisions])
        router.update(context_BD, chosen, np.array(payoffs, np.float64))
    np.testing.assert_array_equal(s.dispatcher.router.probs(context_BD), router.probs(context_BD))
    assert s.dispatcher.counts()["labels"] == 5 * 3  # the gold order, for the report


def test_a_function_of_the_outcome_pays() -> None:
    seen: list[Outcome] = []

    def first_is_best(outcome: Outcome) -> float | None:
        seen.append(outcome)
        return None if outcome.unit == "p2" else float(int(np.argmax(outcome.scores[0])) == 0)

    s = session(first_is_best)
    done = s.judge(batch())
    paid = s.learn(done)
    assert [outcome.responses for outcome in seen] == [[texts] for texts in TEXTS]
    assert set(paid) == {decision.id for decision in done.decisions[:2]}
    assert s.dispatcher.pending == [done.decisions[2].id]
    assert s.payoff.counts["no_payoff"] == 1


def test_payoffs_come_later_and_from_another_process_by_id(tmp_path: Path) -> None:
    first = session(ledger=Ledger(tmp_path / "l.sqlite"))
    done = first.judge(batch())
    one, two, three = [decision.id for decision in done.decisions]
    assert first.learn(done, {"p0": 0.25, two: 0.75}) == {
        one: 0.25,
        two: 0.75,
    }  # known by its unit, or by its id
    first.dispatcher.close()
    later = session(ledger=Ledger(tmp_path / "l.sqlite"))
    assert later.dispatcher.pending == [three]
    assert later.dispatcher.feedback(three, 1.0)
    here = session()
    same = here.judge(batch())
    here.learn(same, {"p0": 0.25, "p1": 0.75})
    here.learn(same, {"p2": 1.0})
    x = Hashing(8)(["another prompt"])
    np.testing.assert_array_equal(later.dispatcher.router.probs(x), here.dispatcher.router.probs(x))


def test_losses_of_anybodys_trainer_pay() -> None:
    s = session("neg_loss")
    done = s.judge(batch())
    one, two, _ = [decision.id for decision in done.decisions]
    paid = s.learn(done, Trained(owner=[0, 0, 1, -1], loss_P=np.array([0.5, 1.5, 2.0, 9.0])))
    assert paid == {one: -1.0, two: -2.0}  # the third unit gave no pair; the last pair is nobody's
    skipped = s.judge(batch(1))
    assert s.learn(skipped, Trained([0], np.array([1.0]), skipped=True)) == {}


def test_an_ensemble_decides_without_an_arm() -> None:
    s = session(verdicts="ensemble")
    found = s.judgements(s.judge(batch()))
    z = []
    for score_of in SCORE_OF.values():
        known = {
            (b, n): float(score_of(text))
            for b, group in enumerate(TEXTS)
            for n, text in enumerate(group)
        }
        z.append(zscores(known))
    for row, judgement in enumerate(found):
        wanted = [np.mean([scores[row, n] for scores in z]) for n in range(3)]
        np.testing.assert_allclose(judgement.scores, wanted, rtol=1e-12)
        assert (judgement.arm, judgement.by, judgement.propensity) == ("", By.ENSEMBLE, 1.0)
    before = s.dispatcher.router.state_dict()
    s.learn(s.judge(batch(1)))
    after = s.dispatcher.router.state_dict()
    assert all(
        np.array_equal(before[name], after[name]) for name in before
    )  # nobody was drawn: nothing is learned


def test_a_committee_ranks_with_its_confidence() -> None:
    models = arms()
    pool = RewardPool({}, models=dict(models))
    online = OnlineCommittee(Committee(np.ones(3), gate="off"), LabelPolicy(share=1.0))
    committee = CommitteeOfArms(Asker(pool), online, NAMES, JudgeConfig(mode="committee"))
    s = Session(Dispatcher(Uniform(3), NAMES), pool, Hashing(8), "probe", committee)
    draw = np.random.default_rng(0)
    for step in range(2):  # 60 prompts with labels: a fit after ten of them is the first
        ids = [f"{step}-{i}" for i in range(30)]
        texts = [["x" * int(draw.integers(1, 30)) + str(n) for n in range(3)] for _ in ids]
        gold = [np.array([float(len(text) > 15) for text in group]) for group in texts]
        done = s.judge(Batch(step, ids, ids, texts, gold))
        s.learn(done)
    assert online.committee.plan is not None  # it has learned from labels
    sure = [found.confidence for found in s.judgements(done)]
    assert all(found.by is By.COMMITTEE and found.arm == "" for found in s.judgements(done))
    assert all(value is not None and 0.5 <= value <= 1.0 for value in sure)
    untaught = s.judge(Batch(99, ids, ids, texts, gold, learn=False))
    assert len(untaught.verdicts.rankings) == 30
    assert not [call for call in untaught.verdicts.calls if call.status == "label"]


def test_a_failing_arm_has_a_stand_in_and_no_payoff() -> None:
    s = Session(
        Dispatcher(Uniform(2), ["down", "long"], seed=2),
        {"down": FakeArm(len, fails=True), "long": FakeArm(len)},
        Hashing(8),
    )
    done = s.judge(batch())
    drawn = [decision.name for decision in done.decisions]
    assert set(drawn) == {"down", "long"}
    assert {found.arm for found in s.judgements(done)} == {"long"}
    paid = s.learn(done)
    failed = {decision.id for decision in done.decisions if decision.name == "down"}
    assert failed
    assert not failed & paid.keys()
    assert s.dispatcher.counts()["failures"] == len(failed)


def test_given_contexts_are_what_the_router_sees() -> None:
    x = np.random.default_rng(3).normal(size=(3, 8))
    s = Session(Dispatcher(LinUCB(3, 8), NAMES), arms())
    s.judge(batch(contexts=x))
    np.testing.assert_array_equal(s.dispatcher.ledger.decisions().context_BD, x)


def test_bad_input_is_one_line() -> None:
    with pytest.raises(InputError, match="payoff 'prob' is unknown; did you mean probe"):
        session("prob")
    with pytest.raises(InputError, match="verdicts='both'; allowed single, ensemble"):
        session(verdicts="both")
    with pytest.raises(InputError, match="arm 'other' of the dispatcher is none of the pool's"):
        Session(Dispatcher(Uniform(2), ["long", "other"]), arms())
    with pytest.raises(InputError, match="no contexts; give the session an encoder"):
        Session(Dispatcher(LinUCB(3, 8), NAMES), arms()).judge(batch())
    with pytest.raises(InputError, match="3 prompts, 2 ids and 3 groups"):
        session().judge(Batch(0, ["a", "b", "c"], ["1", "2"], TEXTS))
    s = session(lambda outcome: 7.0)
    done = s.judge(batch())
    with pytest.raises(InputError, match=r"payoff 7.0; allowed 0 to 1"):
        s.learn(done)
