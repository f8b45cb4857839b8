"""Routers of the user's own.

One that raises loses no ledger, one without ``dim`` sees the contexts it was routed with.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from reward_router.dispatch import Dispatcher
from reward_router.errors import InputError, LedgerError
from reward_router.ledger import Ledger
from reward_router.routers import Exp3, LinUCB, Uniform
from reward_router.types import AnyFloat, Float, Int, State

X = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])


class Spy(Uniform):
    """A router that keeps no ``dim`` and remembers what it is taught."""

    def __init__(self, n_arms: int) -> None:
        super().__init__(n_arms)
        self.seen: list[list[float]] = []
        self.error: BaseException | None = None

    def update(
        self, context_BD: AnyFloat, arm_B: Int, payoff_B: Float, propensity_B: Float | None = None
    ) -> None:
        self.seen += np.asarray(context_BD).tolist()
        if self.error is not None:
            raise self.error

    def state_dict(self) -> State:
        return {
            **super().state_dict(),
            "seen": np.array(self.seen, dtype=np.float64).reshape(-1, 2),
        }

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        super().load_state_dict({k: v for k, v in state.items() if k != "seen"})
        self.seen = state["seen"].tolist()


@pytest.mark.parametrize("contexts", ["full", "f32", "none"])
def test_a_router_without_dim_learns_from_what_was_routed(contexts: Any) -> None:
    router = Spy(2)
    dispatcher = Dispatcher(router, ["a", "b"], ledger=Ledger(":memory:", contexts=contexts))
    decisions = dispatcher.route(X, ["p", "q", "r"], 0)
    dispatcher.feedback_many([(d.id, 0.5) for d in decisions[::-1]])
    assert router.seen == X[::-1].tolist()


def test_contexts_that_are_lost_are_refused_not_invented(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    dispatcher = Dispatcher(Spy(2), ["a", "b"], ledger=Ledger(path, contexts="none"))
    [first] = dispatcher.route(X[:1], ["p"], 0)
    dispatcher.close()  # its snapshot holds the context
    router = Spy(2)
    dispatcher = Dispatcher(router, ["a", "b"], ledger=Ledger(path, contexts="none"))
    [lost] = dispatcher.route(X[1:2], ["q"], 1)
    dispatcher.ledger.close()  # killed before another snapshot
    dispatcher = Dispatcher(router := Spy(2), ["a", "b"], ledger=Ledger(path, contexts="none"))
    dispatcher.feedback(first.id, 1.0)
    assert router.seen == X[:1].tolist()
    with pytest.raises(LedgerError, match="its context was not kept"):
        dispatcher.feedback(lost.id, 1.0)
    assert router.seen == X[:1].tolist()


def test_routers_that_read_no_contexts_need_none_kept(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    dispatcher = Dispatcher(Exp3(2), ["a", "b"], ledger=Ledger(path, contexts="none"))
    [decision] = dispatcher.route(X[:1], ["p"], 0)
    dispatcher.ledger.close()
    dispatcher = Dispatcher(router := Exp3(2), ["a", "b"], ledger=Ledger(path, contexts="none"))
    assert dispatcher.feedback(decision.id, 1.0)
    assert router.sums_K.max() == pytest.approx(1 / decision.propensity)


class Stopped(BaseException):
    """Like KeyboardInterrupt: no Exception."""


ERRORS = [
    KeyError("x"), TypeError("x"), RuntimeError("x"), ZeroDivisionError("x"), MemoryError("x"),
    AssertionError("x"), np.linalg.LinAlgError("x"), Stopped(), NotImplementedError("x"),
    StopIteration("x"), SystemExit(3), KeyboardInterrupt(), ValueError("x"),
]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("raw", [False, True], ids=["payoff", "raw"])
def test_whatever_an_update_raises_the_ledger_goes_on(
    tmp_path: Path, error: BaseException, raw: bool
) -> None:
    path = tmp_path / "ledger.sqlite"
    router = Spy(2)
    dispatcher = Dispatcher(router, ["a", "b"], ledger=Ledger(path), hold_back=0)
    good, bad = dispatcher.route(X[:2], ["p", "q"], 0)
    dispatcher.feedback(good.id, 0.25)
    router.error = error
    with pytest.raises(type(error)):
        dispatcher.feedback_raw(bad.id, -1.0, source="loss") if raw else dispatcher.feedback(
            bad.id, 0.75
        )
    router.error = None
    assert dispatcher.counts()["payoffs"] == 1
    assert dispatcher.pending == [bad.id]
    [later] = dispatcher.route(X[2:], ["r"], 1)
    assert router.seen == X[:1].tolist()
    assert dispatcher.feedback(later.id, 0.5)
    assert dispatcher.feedback(bad.id, 0.75)
    dispatcher.close()
    again = Spy(2)
    Dispatcher(again, ["a", "b"], ledger=Ledger(path), hold_back=0).close()
    assert again.seen == X[[0, 2, 1]].tolist()


@pytest.mark.parametrize(
    "error",
    [np.linalg.LinAlgError("x"), ValueError("x"), Stopped()],
    ids=lambda e: type(e).__name__,
)
@pytest.mark.parametrize("held", [0, 3], ids=["at once", "released together"])
def test_an_update_that_raised_leaves_nothing_for_the_next_process(
    tmp_path: Path, error: BaseException, held: int
) -> None:
    path = tmp_path / "ledger.sqlite"
    router = Spy(2)
    dispatcher = Dispatcher(router, ["a", "b"], ledger=Ledger(path), hold_back=held)
    decisions = dispatcher.route(X, ["p", "q", "r"], 0)
    raws = [(decision.id, float(k)) for k, decision in enumerate(decisions)]
    dispatcher.feedback_raw_many(raws[:2], source="loss")
    router.error = error
    with pytest.raises(type(error)):
        dispatcher.feedback_raw_many(raws[2:], source="loss")
    dispatcher.ledger.close()  # it ends here, without a snapshot
    router = Spy(2)
    with Ledger(path) as ledger:
        dispatcher = Dispatcher(router, ["a", "b"], ledger=ledger, hold_back=held)
        assert dispatcher.pending == [decisions[2].id]
        assert router.seen == ([] if held else X[:2].tolist())
        assert dispatcher.feedback_raw_many(raws, source="loss") == [False, False, True]
        assert router.seen == X.tolist()
        assert ledger.check().ok


def test_truth_values_are_taken_alike_by_routers_and_the_dispatcher() -> None:
    one_hot = np.eye(3, dtype=bool)
    direct, numbers, routed = LinUCB(2, 3), LinUCB(2, 3), LinUCB(2, 3)
    arm_B, right_B = np.array([0, 1, 0]), np.array([True, False, True])
    direct.update(one_hot, arm_B, right_B)  # type: ignore[arg-type]
    numbers.update(one_hot.astype(float), arm_B, right_B.astype(float))
    by_numbers = numbers.probs(one_hot.astype(float))
    assert (direct.probs(one_hot) == by_numbers).all()  # type: ignore[arg-type]
    dispatcher = Dispatcher(routed, ["a", "b"])
    decisions = dispatcher.route(one_hot, ["p", "q", "r"], 0)
    assert dispatcher.feedback(decisions[0].id, True)


class MeanBest:
    """A router of the user's own.

    It inherits nothing, forces nothing, and its arms cannot come and go.
    """

    dim = None

    def __init__(self, n_arms: int, optimism: float = 1.0, warmup: int = 0) -> None:
        self.n_arms, self.optimism, self.warmup = n_arms, optimism, warmup
        self.sums_K = np.zeros(n_arms)
        self.pulls_K = np.zeros(n_arms)
        self.seen: list[list[float]] = []

    def probs(self, context_BD: AnyFloat) -> Float:
        mean_K = np.where(
            self.pulls_K > 0, self.sums_K / np.maximum(self.pulls_K, 1), self.optimism
        )
        best_K = mean_K == mean_K.max()
        return np.tile(best_K / best_K.sum(), (len(context_BD), 1))

    def update(
        self, context_BD: AnyFloat, arm_B: Int, payoff_B: Float, propensity_B: Float | None = None
    ) -> None:
        self.seen += np.asarray(context_BD).tolist()
        np.add.at(self.sums_K, arm_B, payoff_B)
        np.add.at(self.pulls_K, arm_B, 1.0)

    def state_dict(self) -> State:
        return {"sums_K": self.sums_K.copy(), "pulls_K": self.pulls_K.copy()}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        self.sums_K, self.pulls_K = state["sums_K"].copy(), state["pulls_K"].copy()


def test_a_class_that_inherits_nothing_is_warmed_up_and_reopened(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    dispatcher = Dispatcher(
        MeanBest(2, warmup=2), ["a", "b"], ledger=Ledger(path, contexts="none"), hold_back=0
    )
    for step in range(4):
        [decision] = dispatcher.route(X[:1], [f"p{step}"], step)
        dispatcher.feedback(decision.id, float(decision.arm))
    assert dispatcher.router.pulls_K.tolist() == [2.0, 2.0]  # type: ignore[attr-defined]
    assert dispatcher.router.seen == [X[0].tolist()] * 4  # type: ignore[attr-defined]
    dispatcher.close()
    again = Dispatcher(
        MeanBest(2, warmup=2), ["a", "b"], ledger=Ledger(path, contexts="none"), hold_back=0
    )
    assert again.router.probs(X[:1]).tolist() == [[0.0, 1.0]]


def test_what_a_router_lacks_is_said_at_once() -> None:
    dispatcher = Dispatcher(MeanBest(2), ["a", "b"])
    with pytest.raises(
        InputError, match="MeanBest cannot take on or drop arms at run time: it has no add_arm"
    ):
        dispatcher.add_arm("c")

    class Text:
        n_arms = 2

    with pytest.raises(
        InputError, match=r"Text is no router: it has no dim \(features of a context"
    ):
        Dispatcher(Text(), ["a", "b"])  # type: ignore[arg-type]
