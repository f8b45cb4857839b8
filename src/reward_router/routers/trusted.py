"""A prior that is believed or not as a whole, by Bayes' rule on the payoffs.

Thompson posteriors with and without the prior are weighed by how well each foresaw the payoffs.

``LinearThompson(trust=...)`` has a weight an arm, so an arm never pulled keeps its whole zero
prior: with many arms and a short stream the largest of many wide draws wins, whatever the prior
says. A prior artifact is good or stale for all arms together (another data set, another judge), so
here the mixture is joint: every payoff of any arm speaks for or against the prior. What a stale
prior is weighed against matters: a wide zero prior foresees each new arm so badly that a tight
prior wins even where it names the wrong arms. So the mixture holds a nameless prior too, as sure of
how much arms differ as the informed one, and silent about which is which. :func:`trusted` is what
`train`, `replay` and a loaded prior use (docs/adr/0006, 0007).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_router import checks
from reward_router.errors import InputError
from reward_router.posterior.model import LinearModel, log_density
from reward_router.posterior.win_probability import win_probability
from reward_router.routers.anchored import Anchored
from reward_router.routers.decide import forced_K
from reward_router.routers.guard import checked_decision_margin, within_margin
from reward_router.routers.thompson import LinearThompson
from reward_router.types import AnyFloat, Float, Int, State

TRUST = 0.95
"""Weight of a prior before the first payoff.

It keeps 0.96 of the gain of a good prior; a stale one costs 1.04 times what no prior costs
(docs/bayesian-router.md).
"""
WIDE = 0.1
"""Share of the wide zero prior in what trust leaves over; the nameless prior has the rest."""
NARROW = 0.15
"""`width` where a prior is to be kept.

On recorded files Thompson's own width, 1, loses 6 points of a good prior on 54 rows; this one loses
0.15 (docs/log.md).
"""
NEGLIGIBLE = 1e-9
"""A part of the mixture with less weight than this is not evaluated."""
NO_PRIOR: dict[str, Any] = {
    "prior_precision": 20.0,
    "noise_sd": 0.4,
    "center": True,
    "intercept": 5.0,
}
"""Options of `LinearThompson` without a prior, for payoffs in [0, 1].

They say that arms differ by about 0.2 in a context's direction and by 0.45 in their means.
"""


def trusted(  # noqa: PLR0913 - its keywords are what a prior and a configuration may set
    prior_KC: Float,
    precision: float,
    noise_sd: float,
    intercept: float,
    *,
    trust: float = TRUST,
    zero_precision: float = NO_PRIOR["prior_precision"],
    level: tuple[float, float] | None = None,
    center: bool = True,
    warmup: int = 0,
    discount: float = 1.0,
    window: int | None = None,
    width: float = 1.0,
    decision_margin: float | None = None,
) -> "TrustedThompson | Anchored":
    """Thompson sampling from a prior that has to earn its trust; at ``trust`` 1 it is believed.

    The alternatives to the prior are a zero prior of ``zero_precision`` with a wide intercept, and
    the nameless one: about 0, with the variance that an arm drawn at random has under the prior.
    The options that are not listed are `LinearThompson`'s. InputError for anything out of range.

    Args:
        prior_KC: (K, D + 1) prior means in payoff units about the mean arm, the intercept's last.
        precision: how well one weight of the prior is known.
        noise_sd: standard deviation of a payoff about its expectation.
        intercept: how well the intercept of the prior is known, as a precision.
        trust: probability that the prior is good, before the first payoff.
        zero_precision: precision of one weight of the wide zero prior.
        level: mean payoff of the mean arm, and how well it is known (sd); used where payoffs are
            centred.
        width: share of a standard deviation that is sampled. Under 1 the mixture's mean decides,
            and a prior that is believed is hardly explored away.
        decision_margin: expected payoff, by the posterior, that one decision may give up against
            the arm of the best mean, which is at first the prior's; None: any.
    """
    shared: dict[str, Any] = {
        "noise_sd": noise_sd,
        "center": center,
        "warmup": warmup,
        "discount": discount,
        "window": window,
        "width": width,
    }
    n_arms = prior_KC.shape[0]
    dim = prior_KC.shape[1] - 1
    wide = NO_PRIOR["intercept"]
    near = LinearThompson(n_arms, dim, None, precision, intercept=intercept, **shared)
    # the prior's means are an offset, so that centring does not take them away
    if trust == 1:
        return Anchored(near, prior_KC[:, :-1], prior_KC[:, -1], decision_margin)

    informed = Anchored(near, prior_KC[:, :-1], prior_KC[:, -1])
    plain = LinearThompson(n_arms, dim, None, zero_precision, intercept=wide, **shared)
    # the nameless prior: variances of an arm drawn at random, E[w^2] = 1 / precision + mean^2
    spread_C = (prior_KC**2).mean(axis=0)
    weights = 1 / precision + float(spread_C[:-1].mean())
    constant = 1 / intercept + float(spread_C[-1])
    nameless = LinearThompson(n_arms, dim, None, 1 / weights, intercept=1 / constant, **shared)

    known_level = level if center else None
    return TrustedThompson(informed, plain, trust, nameless, known_level, width, decision_margin)


class TrustedThompson:
    """A mixture of Thompson posteriors: P(arm wins) = sum_m w_m P(wins | m).

    The parts m are informed, plain and (where given) nameless. ``informed`` knows the prior,
    ``plain`` and ``nameless`` do not, and all of them learn from every payoff. log w_m grows by the
    log of m's one-step-ahead predictive density N(mean, posterior variance + noise variance). It
    costs every part's reads, and one arm's read of each part at an update.

    Args:
        informed: the router that starts from the prior.
        plain: the router that starts from the wide zero prior.
        trust: weight of ``informed`` before the first payoff, strictly between 0 and 1. Of what it
            leaves, nameless has nine tenths and plain one (all of it where there is no nameless).
        nameless: the router that knows how much arms differ, and not which.
        level: (mean, sd) of the mean arm's payoff, for centred payoffs. With it log w_m also holds
            m's density of the running mean, once and not for each payoff: arms that all disappoint
            alike look right about each other, and only the level tells.
        width: share of a standard deviation that is sampled.
        decision_margin: expected payoff, by the mixture, that one decision may give up against the
            arm of the best mean; None: any.

    >>> near = LinearThompson(2, 1, None, 100.0, 0.5, center=True)
    >>> informed = Anchored(near, np.array([[0.2], [-0.2]]))

    >>> router = TrustedThompson(informed, LinearThompson(2, 1, None, 16.0, 0.5, center=True))
    >>> bool(router.probs(np.ones((1, 1)))[0, 0] > 0.5)
    True
    """

    takes_penalty = True
    takes_forced = True

    def __init__(  # noqa: PLR0913 - its keywords are what a configuration may set
        self,
        informed: Anchored,
        plain: LinearThompson,
        trust: float = TRUST,
        nameless: LinearThompson | None = None,
        level: tuple[float, float] | None = None,
        width: float = 1.0,
        decision_margin: float | None = None,
    ) -> None:
        """InputError where they differ in shape or warm-up, or trust or level is out of range."""
        others = {"plain": plain}
        if nameless is not None:
            others["nameless"] = nameless

        for name, other in others.items():
            if (informed.n_arms, informed.dim) != (other.n_arms, other.dim):
                raise InputError(
                    f"informed has {informed.n_arms} arms and {informed.dim} features, "
                    f"{name} {other.n_arms} and {other.dim}"
                )
            if informed.warmup != other.warmup:
                raise InputError(
                    f"informed has {informed.warmup} forced pulls an arm, {name} {other.warmup}: "
                    "give both the same"
                )

        if not 0 < checks.real("trust", trust, 0.0, 1.0) < 1:
            raise InputError(f"trust is a prior probability strictly between 0 and 1, got {trust}")

        if level is not None:
            if not plain.model.options.center:
                raise InputError(
                    "a level is for centred payoffs (center=True): "
                    "without, every payoff speaks of it already"
                )

            level = (
                checks.real("level", level[0], -1e6, 1e6),
                checks.real("the level's sd", level[1], 0.0, 1e6),
            )

        self.informed = informed
        self.others = others
        self.level = level
        self.width = checks.real("width", width, 0.0, 1e3)
        self.decision_margin = checked_decision_margin(decision_margin)
        rest = 1 - trust

        if nameless is None:
            weights = [trust, rest]
        else:
            weights = [trust, rest * WIDE, rest * (1 - WIDE)]

        self.log_weight_M = np.log(weights)
        # payoffs so far; and the sum of their squared numbers over arms, removed ones included
        self.seen = 0
        self.squares = 0

    @property
    def plain(self) -> LinearThompson:
        """The wide zero prior."""
        return self.others["plain"]

    @property
    def n_arms(self) -> int:
        """Number of arms."""
        return self.informed.n_arms

    @property
    def dim(self) -> int:
        """D, the features of a context."""
        return self.informed.dim

    @property
    def warmup(self) -> int:
        """Forced pulls an arm."""
        return self.plain.warmup

    @property
    def weight_M(self) -> Float:
        """Posterior probabilities of informed, plain and (where given) nameless."""
        if self.level is None or not self.seen:
            return np.asarray(np.exp(self.log_weight_M))

        # the running mean counts once, by its density under every part
        level, level_sd = self.level
        alike = self.squares / self.seen**2
        level_M = [_foreseen_mean(model, alike, level, level_sd) for model in self._models]

        log_M = self.log_weight_M + np.array(level_M)
        return np.asarray(np.exp(log_M - np.logaddexp.reduce(log_M)))

    @property
    def trust(self) -> float:
        """Posterior probability that the prior is good."""
        return float(self.weight_M[0])

    def probs(
        self, context_BD: AnyFloat, penalty_K: Float | None = None, *, forced: bool = True
    ) -> Float:
        """(B, K) exact probabilities of the mixture.

        ``penalty_K`` and ``forced`` as for `LinearThompson`.
        """
        p_BK = self._decided(context_BD, penalty_K, forced)
        if self.decision_margin is None:
            return p_BK

        mean_BK, _ = self.posterior(context_BD)
        utility_BK = mean_BK if penalty_K is None else mean_BK - penalty_K
        return within_margin(p_BK, utility_BK, self.decision_margin)

    def _decided(self, context_BD: AnyFloat, penalty_K: Float | None, forced: bool) -> Float:
        """`probs` before the margin a decision."""
        if self.width < 1:
            pulls_K = self.plain.model.pulls_K
            first_K = forced_K(pulls_K, self.warmup) if forced and self.warmup else None
            if first_K is not None:
                return np.tile(first_K, (len(context_BD), 1))
            return self._narrowed(context_BD, penalty_K)

        weight_M = self.weight_M
        weight_M[weight_M <= NEGLIGIBLE] = 0.0  # a part without weight is not evaluated
        total = weight_M.sum()
        parts = [
            (weight / total) * router.probs(context_BD, penalty_K, forced=forced)
            for weight, router in zip(weight_M, self._routers, strict=True)
            if weight > 0
        ]

        return np.asarray(sum(parts[1:], parts[0]))

    def _narrowed(self, context_BD: AnyFloat, penalty_K: Float | None) -> Float:
        """P(arm wins) about the mixture's mean, with ``width`` times the sd within its parts.

        The variance between the parts is left out: doubt in a prior moves the mean alone.
        """
        mean_MBK, sd_MBK = self._part_moments(context_BD)
        weight_M11 = self.weight_M[:, None, None]
        mean_BK = (weight_M11 * mean_MBK).sum(axis=0)
        var_BK = (weight_M11 * sd_MBK**2).sum(axis=0)

        utility_BK = mean_BK if penalty_K is None else mean_BK - penalty_K
        sd_BK = self.width * np.sqrt(var_BK)
        return win_probability(utility_BK, sd_BK)

    def _part_moments(self, context_BD: AnyFloat) -> tuple[Float, Float]:
        """Means and sds (M, B, K) of every part."""
        means = []
        sds = []
        for router in self._routers:
            mean_BK, sd_BK = router.posterior(context_BD)
            means.append(mean_BK)
            sds.append(sd_BK)
        return np.stack(means), np.stack(sds)

    @property
    def _routers(self) -> list[Anchored | LinearThompson]:
        return [self.informed, *self.others.values()]

    @property
    def _models(self) -> list[LinearModel]:
        return [self.informed.router.model, *(other.model for other in self.others.values())]

    def posterior(self, context_BD: AnyFloat) -> tuple[Float, Float]:
        """Means and sds (B, K) of the mixture; the variance between its parts is part of the sd."""
        mean_MBK, sd_MBK = self._part_moments(context_BD)
        weight_M11 = self.weight_M[:, None, None]
        # sums, no products of matrices: an arm's digits depend on no other arm
        mean_BK = (weight_M11 * mean_MBK).sum(axis=0)

        # The law of total variance: within the parts, and between their means.
        within_MBK = sd_MBK**2
        between_MBK = (mean_MBK - mean_BK) ** 2
        var_BK = (weight_M11 * (within_MBK + between_MBK)).sum(axis=0)
        return mean_BK, np.sqrt(var_BK)

    def update(
        self, context_BD: AnyFloat, arm_B: Int, payoff_B: Float, propensity_B: Float | None = None
    ) -> None:
        """Weigh the parts by how well they foresaw the payoffs, then let all of them learn.

        Rows are taken one context and arm after the other, by the mean of their payoffs. They are
        not independent given the posterior before the batch, least of all under a wide prior; and
        rows that share context and arm (pairs of one prompt) share what is peculiar to it, so they
        are one witness, not several.
        """
        for model in self._models:
            model.contexts(context_BD)

        x_BD = np.asarray(context_BD, np.float64)
        index_B = checks.arms(arm_B, len(x_BD), self.n_arms)
        y_B = checks.payoffs(payoff_B, len(x_BD))
        # everything is checked before anything is learned
        if propensity_B is not None:
            checks.propensities(propensity_B, len(x_BD))

        # rows of one context and one arm are one witness
        alike: dict[tuple[int, bytes], list[int]] = {}
        for row, arm in enumerate(index_B.tolist()):
            alike.setdefault((arm, x_BD[row].tobytes()), []).append(row)

        for rows in alike.values():
            self._learn(x_BD[rows], index_B[rows], y_B[rows])

    def _learn(self, x_BD: AnyFloat, arm_B: Int, payoff_B: Float) -> None:
        """Rows of one context and one arm."""
        arm = int(arm_B[0])
        payoff = float(payoff_B.mean())
        rows = len(payoff_B)
        x_1D = x_BD[:1]

        # How well each part foresaw the payoff, before any of them has learned from it.
        density_M = [self.informed.foresight(x_1D, arm, payoff)]
        other_models = self._models[1:]
        density_M += [model.foresight(model.contexts(x_1D), arm, payoff) for model in other_models]

        pulls = int(self.plain.model.pulls_K[arm])
        self.squares += rows * (2 * pulls + rows)  # (pulls + rows)^2 - pulls^2
        for router in self._routers:
            router.update(x_BD, arm_B, payoff_B)

        # where payoffs are centred the first one is the mean itself, and says nothing
        if self.seen or not self.plain.model.options.center:
            log_M = self.log_weight_M + np.array(density_M)
            self.log_weight_M = np.asarray(log_M - np.logaddexp.reduce(log_M))

        self.seen += rows

    def add_arm(self, prior_mean_D: AnyFloat | None = None) -> int:
        """A new arm, at the mean arm or at given means; returns its index."""
        for other in self.others.values():
            other.add_arm()
        return self.informed.add_arm(prior_mean_D)

    def remove_arm(self, index: int) -> None:
        """Drop an arm; the others and the trust keep what they learned bit for bit."""
        for router in self._routers:
            router.remove_arm(index)

    def state_dict(self) -> State:
        """The states of all parts and their weights, arrays only."""
        parts = {"informed": self.informed.state_dict()}
        for name, other in self.others.items():
            parts[name] = other.state_dict()

        state: State = {}
        for name, part in parts.items():
            state |= {f"{name}.{key}": value for key, value in part.items()}

        weights = {
            "log_weight_M": self.log_weight_M.copy(),
            "seen": np.array([self.seen, self.squares]),
        }

        return {"kind": np.array("TrustedThompson"), **weights, **state}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore; InputError (and no change) where the state does not fit."""
        checks.same_kind(state, "TrustedThompson")
        log_weight_M = checks.stored(state, "", "log_weight_M", np.float64, (1 + len(self.others),))
        seen = checks.stored(state, "", "seen", np.int64, (2,))
        parts = {name: _part(state, f"{name}.") for name in ("informed", *self.others)}
        arms = len(checks.stored(parts["informed"], "", "pulls_K", np.int64, (None,)))
        # a part that does not fit is found only when it is loaded: the others are put back then
        before = [router.state_dict() for router in self._routers]

        try:
            for part, router in zip(parts.values(), self._routers, strict=True):
                checks.stored(part, "", "pulls_K", np.int64, (arms,))
                router.load_state_dict(part)
        except InputError:
            for own, router in zip(before, self._routers, strict=True):
                router.load_state_dict(own)
            raise

        self.log_weight_M = log_weight_M
        self.seen, self.squares = seen.tolist()


def _part(state: Mapping[str, NDArray[Any]], prefix: str) -> State:
    """The entries of one part, under the names that the part gave them."""
    return {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }


def _foreseen_mean(model: LinearModel, alike: float, level: float, level_sd: float) -> float:
    """log density, up to a constant, of the running mean that ``model`` centres on.

    Its variance: how well the level is known, noise, and what the arms pulled are worth by the
    model's own prior; ``alike``: the chance that two payoffs are of the same arm.
    """
    options = model.options
    constant_var = 1 / options.intercept if options.intercept else 0.0
    arm_var = 1 / model.precisions[0] + constant_var
    noise_var = model.noise_var / model.payoff_weight
    # What the level itself, the noise of its payoffs and the arms that were pulled add up to.
    variance = level_sd**2 + noise_var + arm_var * alike
    return log_density(level, variance, 0.0, model.payoff_mean)
