"""A router whose default is safe: overall strengths first, contexts as far as the payoffs say.

Two opinions are weighed by their evidence. The *plain* one reads no context: strengths of all arms
pooled (``pooled``). The *contextual* one adds x'w_k (``context_belief``). Both choose by Thompson
sampling narrowed to ``width`` sds, about the mean plus what pulling the arm is worth for the rows
that are left. No arm is forced, so there is no warm-up; an arm of many that looks poor is dropped
by the same rule. Variances are learned again on a schedule that counts applied payoffs and nothing
else.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_router import checks
from reward_router.errors import InputError
from reward_router.kinds import RouterKind
from reward_router.posterior.model import LinearModel
from reward_router.posterior.model_state import loaded, state_of
from reward_router.posterior.win_probability import win_probability
from reward_router.routers import context_belief, pooled
from reward_router.routers.context_belief import Belief, empty_model, model_of, unbelieving
from reward_router.routers.context_rows import ArmRows
from reward_router.routers.decide import with_floor
from reward_router.routers.guard import checked_decision_margin, within_margin
from reward_router.types import AnyFloat, Float, Int, State

STATE_KIND = "Adaptive"
WIDTH = 0.3
# Rows that are expected at least where no horizon is given; later as many as came so far.
ROWS_AHEAD = 300.0
# When contexts are weighed: early, because eight payoffs can tell where contexts tell all, and then
# at these multiples of the payoffs.
FIRST_LOOK = 8
SHORTEST_GAP = 32
"""Payoffs between two looks at least, where payoffs are forgotten."""
GROWTH = 1.5
LATE = 512
LATE_GROWTH = 2.0
POOL_GROWTH = 0.1
LONGEST = 1e6  # a context's norm may be at most this


class Adaptive:
    """Thompson sampling that learns how much to explore.

    It also learns how much arms differ, and whether contexts matter. Contexts are (B, D) of any
    length up to 1e6; payoffs lie in [0, 1].

    Args:
        n_arms: K, the number of arms.
        dim: D, the number of features of a context.
        horizon: payoffs that will come in all; None: as many more as came so far, at least 300.
        width: share of a posterior sd that is sampled, at least 0.
        discount: what a payoff counts for after each further one, in (0, 1].
        explore: share of the uniform distribution that is mixed in, in [0, 1].
        decision_margin: expected payoff, by the posterior, that one decision may give up against
            the arm of the best mean; None: any.

    ``probs`` O(K) while contexts are not believed, else as `LinearThompson`; ``update`` O(D) a row
    plus O(D^2) amortised; at payoffs 8, 12, 18, 27, 41, ... (a doubling from 512 on) variances are
    learned in O(K D^2 min(rows, D)).

    >>> router = Adaptive(2, 1)
    >>> router.update(np.ones((2, 1)), np.array([0, 1]), np.array([0.0, 1.0]))
    >>> bool(router.probs(np.ones((1, 1)))[0, 1] > 0.5)
    True
    """

    warmup = 0
    takes_penalty = True
    takes_forced = True

    def __init__(  # noqa: PLR0913 - its keywords are what a configuration may set
        self,
        n_arms: int,
        dim: int,
        horizon: int | None = None,
        width: float = WIDTH,
        discount: float = 1.0,
        explore: float = 0.0,
        decision_margin: float | None = None,
    ) -> None:
        """InputError names the argument that is out of range."""
        arms = checks.whole("n_arms", n_arms, 1, checks.MAX_ARMS)
        self.dim = checks.whole("dim", dim, 1, checks.MAX_DIM)
        self.horizon = None if horizon is None else checks.whole("horizon", horizon, 1, 10**12)
        self.width = checks.real("width", width, 0.0, 1e3)
        self.discount = checks.real("discount", discount, 0.0, 1.0, above=True)
        self.explore = checks.real("explore", explore, 0.0, 1.0)
        self.decision_margin = checked_decision_margin(decision_margin)
        self.totals_K3 = np.zeros((arms, 3))
        self.clock = 0
        self.rows_K = [ArmRows(self.dim + 1, self.discount) for _ in range(arms)]
        self.population = pooled.start()
        self.belief = unbelieving(self.dim)
        self.model: LinearModel | None = None
        self.next_pool = 1
        self.next_look = FIRST_LOOK
        # the last row with a 1 before it, and which payoff was the first in a row of this context
        self.last_Z = np.zeros(self.dim + 1)
        self.run_start = 0
        self._plain: tuple[Float, Float, Float] | None = None

    @property
    def n_arms(self) -> int:
        """Number of arms now."""
        return len(self.rows_K)

    @property
    def context_weight(self) -> float:
        """Posterior probability that contexts tell arms apart, when last looked at."""
        return self.belief.weight

    # -- reading -----------------------------------------------------------------------------------

    def probs(
        self, context_BD: AnyFloat, penalty_K: Float | None = None, *, forced: bool = True
    ) -> Float:
        """(B, K) probabilities; rows sum to 1.

        ``penalty_K`` (payoff units) is subtracted from utilities; nothing is ever ``forced``.
        """
        x_BD = self._contexts(context_BD)
        # What pulling an arm is worth, less what it costs, is added to its expected payoff.
        mean_K, sd_K, bonus_K = self._strengths()
        paid_K = bonus_K if penalty_K is None else bonus_K - penalty_K
        plain_1K = (mean_K + paid_K)[None]
        plain_sd_1K = self.width * sd_K[None]

        if self.model is None or not len(x_BD):
            p_BK = np.repeat(win_probability(plain_1K, plain_sd_1K), len(x_BD), axis=0)
        else:
            mean_BK, sd_BK = self._in_context(self.model, x_BD)
            context_BK = mean_BK + paid_K
            p_BK = self._mixed(plain_1K, plain_sd_1K, context_BK, self.width * sd_BK)

        p_BK = with_floor(p_BK, self.explore)
        if self.decision_margin is None:
            return p_BK

        expected_BK, _ = self.posterior(x_BD)
        utility_BK = expected_BK if penalty_K is None else expected_BK - penalty_K
        return within_margin(p_BK, utility_BK, self.decision_margin)

    def _mixed(
        self, plain_1K: Float, plain_sd_1K: Float, context_BK: Float, context_sd_BK: Float
    ) -> Float:
        """P(arm wins) by either opinion, weighed by their evidence."""
        weight = self.belief.weight
        # an opinion without weight is not worth its integral
        if weight >= 1 - context_belief.NEGLIGIBLE:
            return win_probability(context_BK, context_sd_BK)

        # both in one call, which costs hardly more than one of them
        both_BK = np.concatenate([plain_1K, context_BK])
        both_sd_BK = np.concatenate([plain_sd_1K, context_sd_BK])
        won_BK = win_probability(both_BK, both_sd_BK)
        return (1 - weight) * won_BK[:1] + weight * won_BK[1:]

    def _strengths(self) -> tuple[Float, Float, Float]:
        """Means, sds and worth of trying (K,) of the plain opinion; kept until the next payoff."""
        if self._plain is None:
            mean_K, sd_K = self.population.arms(self.totals_K3)
            noise_K = self.population.noise(mean_K)
            worth_K = pooled.worth_of_trying(mean_K, sd_K, noise_K, self._rows_left())
            self._plain = (mean_K, sd_K, worth_K)
        return self._plain

    def _rows_left(self) -> float:
        """Payoffs that are still to come, and not more than are remembered."""
        if self.horizon is None:
            # Without a horizon as many payoffs are expected as came so far.
            left = max(ROWS_AHEAD, self.clock)
        else:
            left = max(self.horizon - self.clock, 1)
        # what is learned now is forgotten after about 1 / (1 - discount) payoffs
        memory = np.inf if self.discount == 1 else 1 / (1 - self.discount)
        return float(min(left, memory))

    def _in_context(self, model: LinearModel, x_BD: Float) -> tuple[Float, Float]:
        scaled_BZ = self.belief.scaled(x_BD)
        mean_BK, sd_BK = model.moments(model.contexts(scaled_BZ))

        # back from the model's units to payoffs
        noise_sd = np.sqrt(self.belief.noise_var)
        return self.belief.level + noise_sd * mean_BK, noise_sd * sd_BK

    def posterior(self, context_BD: AnyFloat) -> tuple[Float, Float]:
        """Means and sds (B, K) of the expected payoffs.

        The variance between the two opinions is part of the sd.
        """
        x_BD = self._contexts(context_BD)
        mean_K, sd_K, _ = self._strengths()
        plain_BK = np.tile(mean_K, (len(x_BD), 1))
        plain_sd_BK = np.tile(sd_K, (len(x_BD), 1))
        if self.model is None or not len(x_BD):
            return plain_BK, plain_sd_BK

        weight = self.belief.weight
        mean_BK, sd_BK = self._in_context(self.model, x_BD)
        both_BK = weight * mean_BK + (1 - weight) * plain_BK
        # Var = E[Var | opinion] + Var(E | opinion)
        var_BK = weight * (sd_BK**2 + (mean_BK - both_BK) ** 2)
        var_BK += (1 - weight) * (plain_sd_BK**2 + (plain_BK - both_BK) ** 2)

        return both_BK, np.sqrt(var_BK)

    def _contexts(self, context_BD: object) -> Float:
        x_BD = checks.contexts(context_BD, self.dim).astype(np.float64)
        # a bound of each entry that bounds the norm
        if x_BD.size and float(np.abs(x_BD).max()) > LONGEST / np.sqrt(self.dim):
            raise InputError(
                f"contexts may have a norm of at most {LONGEST:g}; normalise them to about 1"
            )
        return x_BD

    # -- writing -----------------------------------------------------------------------------------

    def update(
        self, context_BD: AnyFloat, arm_B: Int, payoff_B: Float, propensity_B: Float | None = None
    ) -> None:
        """Learn B rows in order; propensities are checked and not needed.

        Nothing is learned where anything is wrong.
        """
        x_BD = self._contexts(context_BD)
        index_B = checks.arms(arm_B, len(x_BD), self.n_arms)
        y_B = checks.payoffs(payoff_B, len(x_BD), 0.0, 1.0)
        if propensity_B is not None:
            checks.propensities(propensity_B, len(x_BD))

        # A batch is cut where a look is due, so that the order of calls changes nothing.
        start = 0
        while start < len(x_BD):
            next_event = min(self.next_pool, self.next_look)
            stop = min(len(x_BD), start + next_event - self.clock)
            # rows of one stretch see the same variances, whatever the batch
            part = slice(start, stop)
            self._learn(x_BD[part], index_B[part], y_B[part])
            start = stop

    def _learn(self, x_BD: Float, index_B: Int, y_B: Float) -> None:
        """Rows up to the next look at most; the look itself where they reach it."""
        z_BZ = np.concatenate([np.ones((len(x_BD), 1)), x_BD], axis=1)
        for z_Z, arm, y in zip(z_BZ, index_B.tolist(), y_B.tolist(), strict=True):
            # all arms' evidence fades with every payoff: the clock is global
            if self.discount < 1:
                self.totals_K3 *= self.discount
            self.totals_K3[arm] += (1.0, y, y * y)
            self.clock += 1
            if not np.array_equal(z_Z, self.last_Z):
                self.last_Z = z_Z
                self.run_start = self.clock
            self.rows_K[arm].add(z_Z, y, self.clock, self.run_start)

        # the strengths that were kept are those before these payoffs
        self._plain = None
        if self.clock >= self.next_pool:
            self.population = pooled.learned(self.totals_K3)
            # the law of the arms moves slowly once there are many payoffs, so it is learned less
            # often
            self.next_pool = self.clock + max(1, int(POOL_GROWTH * self.clock))
            self.next_pool = min(self.next_pool, self.clock + self._patience())

        if self.clock >= self.next_look:
            self._look()
        elif self.model is not None:
            scaled_BZ = self.belief.scaled(x_BD)
            target_B = self.belief.target(y_B)
            self.model.update(scaled_BZ, index_B, target_B, None)

    def _patience(self) -> int:
        """Payoffs between looks at most, where payoffs are forgotten.

        It is a quarter of the memory, and at least `SHORTEST_GAP`.
        """
        if self.discount == 1:
            return 10**12
        return max(SHORTEST_GAP, int(0.25 / (1 - self.discount)))

    def _look(self) -> None:
        """Learn anew how far contexts are believed, and the model they give."""
        self.belief = context_belief.learned(
            self.rows_K, self.totals_K3, self.population, self.belief, self.clock
        )
        self.model = None
        if self.belief.believed:
            self.model = model_of(self.belief, self.rows_K, self.clock)

        # a look costs O(K D^2): a growing gap makes that O(D^2) a payoff, amortised
        growth = GROWTH if self.clock < LATE else LATE_GROWTH
        self.next_look = min(int(np.ceil(growth * self.clock)), self.clock + self._patience())

    def add_arm(self) -> int:
        """A new arm, taken for one of the others until it is paid; returns its index."""
        self.rows_K.append(ArmRows(self.dim + 1, self.discount))
        self.totals_K3 = np.concatenate([self.totals_K3, np.zeros((1, 3))])
        self._plain = None
        if self.model is not None:
            self.model.add_arm(np.zeros(self.dim + 1))
        return self.n_arms - 1

    def remove_arm(self, index: int) -> None:
        """Drop an arm; the others keep what they learned bit for bit."""
        checks.removable(index, self.n_arms)

        del self.rows_K[index]
        self.totals_K3 = np.delete(self.totals_K3, index, axis=0)
        self._plain = None
        if self.model is not None:
            self.model.remove_arm(index)

    # -- state -------------------------------------------------------------------------------------

    def state_dict(self) -> State:
        """Everything learned, arrays only; goes on bit for bit when restored."""
        belief = self.belief
        variances = [belief.noise_var, belief.arm_var, belief.weight_var]
        counts = [self.clock, self.next_pool, self.next_look, belief.spread, self.run_start]
        state: State = {
            "kind": np.array(STATE_KIND),
            "setup": np.array([self.discount, float(self.model is not None)]),
            "totals_K3": self.totals_K3.copy(),
            "counts": np.array(counts, np.int64),
            "population": pooled.as_array(self.population),
            "belief": np.array([belief.weight, belief.level, *variances]),
            "mean_D": belief.mean_D.copy(),
            "last_Z": self.last_Z.copy(),
        }
        for k, arm in enumerate(self.rows_K):
            state |= {f"rows/{k}/{name}": value for name, value in arm.state().items()}

        if self.model is not None:
            state |= {f"model/{name}": value for name, value in state_of(self.model).items()}

        return state

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore; InputError (and no change) where the state's kind, size or discount differs."""
        checks.same_kind(state, STATE_KIND)
        take = partial(checks.stored, state, "")
        discount, has_model = take("setup", np.float64, (2,)).tolist()
        if discount != self.discount:
            raise InputError(
                f"this state was learned with discount {discount:g}, not {self.discount:g}"
            )

        totals_K3 = take("totals_K3", np.float64, (None, 3))
        arms = checks.whole("arms in the state", len(totals_K3), 1, checks.MAX_ARMS)
        counts = take("counts", np.int64, (5,)).tolist()
        clock, next_pool, next_look, spread, run_start = counts
        last_Z = take("last_Z", np.float64, (self.dim + 1,))
        checks.whole("spread in the state", spread, 0, len(context_belief.SPREADS) - 1)
        population = pooled.from_array(take("population", np.float64, (3,)))
        weight, level, noise_var, arm_var, weight_var = take("belief", np.float64, (5,)).tolist()
        mean_D = take("mean_D", np.float64, (self.dim,))
        rows_K = [ArmRows(self.dim + 1, self.discount) for _ in range(arms)]
        for k, arm in enumerate(rows_K):
            arm.load(state, f"rows/{k}/")

        inner = {
            name.removeprefix("model/"): value
            for name, value in state.items()
            if name.startswith("model/")
        }
        stored_rows = sum(name.startswith("rows/") for name in state)
        fits = stored_rows == arms * len(ArmRows.names)
        if bool(has_model) != bool(inner) or not fits:
            raise InputError(
                "the state's arms do not fit its totals, or its model is missing or unexpected"
            )

        model = loaded(empty_model(arms, self.dim), inner) if inner else None
        if model is not None and model.n_arms != arms:
            raise InputError(f"the state's model has {model.n_arms} arms, its totals {arms}")

        # everything fits: only now does this router change
        self.totals_K3 = totals_K3
        self.rows_K = rows_K
        self.model = model
        self.population = population
        self.clock = clock
        self.next_pool = next_pool
        self.next_look = next_look
        self.last_Z = last_Z
        self.run_start = run_start
        self.belief = Belief(weight, spread, level, noise_var, arm_var, weight_var, mean_D)
        self._plain = None


KIND = RouterKind(
    "adaptive",
    Adaptive,
    "learns arms' overall strengths first and believes contexts as far as the payoffs say",
)
