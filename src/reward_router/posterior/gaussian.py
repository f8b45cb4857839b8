"""One arm's Gaussian posterior over a linear payoff, kept exactly and cheaply, never forgetting.

    precision L = lambda I + sum w x x' / noise_var                                          (1)
    theta = theta_0 + L^-1 sum w x (payoff - x'theta_0) / noise_var                          (2)

This is LASER eq. 3 where lambda is the ridge and noise_var is 1. The covariance L^-1 is held as
``base - Y'Y``:

* *dual form*: base = I / lambda is never stored; Y has one row an observation. Reads cost O(t D)
  while t < D.
* *primal form*: once Y would reach 3/4 D rows it is subtracted into a D x D base (lower triangle).
  Reads cost O(D^2).
* the newest rows wait in a *tail* of 32 or 64. Reads see them through row-by-row factors that are
  computed once and cached. A full tail is folded in at once: below D = 1024, where a product with
  one vector comes from cache, by those same factors; from there on as one block (block Kalman step:
  two GEMMs and a small Cholesky).

What is stored is a function of the order of the arm's rows only: not of how calls grouped them, and
not of reads. So a batch equals its rows one by one bit for bit, and a restored state goes on bit
for bit.
"""

from collections.abc import Mapping
from functools import partial
from math import log, sqrt

import numpy as np
from numpy.typing import DTypeLike

from reward_router import checks
from reward_router.errors import InputError
from reward_router.posterior.blas import (
    Array,
    packed,
    quadratic_rows,
    subtract_gram,
    subtract_rows,
    symmetric_rows,
    symmetric_vector,
    unpacked,
)
from reward_router.types import Float, State

BLOCK = 32  # tails longer than this are folded in as a block


def tail_rows(dim: int) -> int:
    """Rows folded in at a time: enough for GEMM speed, few against ``dim``."""
    return 32 if dim < 1024 else 64


def dual_limit(dim: int) -> int:
    """Rows at which an arm leaves the dual form: 3/4 of ``dim`` in whole tails.

    It is 0 where that is less than one tail.
    """
    return 3 * dim // 4 // tail_rows(dim) * tail_rows(dim)


class ArmPosterior:
    """N(theta, Sigma) of one arm for C response columns that share Sigma.

    Args:
        theta_CD: prior means.
        precision: lambda of equation (1).
        noise_var: variance of a payoff, in the precision's units.
        dtype: of the factors and of the base.
        decay: what the log evidence keeps at each further row; None: no evidence is kept.
    """

    state_names = ("theta_CD", "base_P", "factor_TD", "tail_ND", "tail_NC", "tail_N", "evidence")

    def __init__(
        self,
        theta_CD: Float,
        precision: float,
        noise_var: float,
        dtype: DTypeLike,
        decay: float | None,
    ) -> None:
        """All rows of ``theta_CD`` share the covariance I / precision."""
        columns, dim = theta_CD.shape
        self.precision = precision
        self.noise_var = noise_var
        self.dtype = np.dtype(dtype)
        self.theta_CD = theta_CD.astype(np.float64)
        self.base_DD: Array | None = None if dual_limit(dim) else self._prior_base(dim)
        self.size = tail_rows(dim)
        self.folded = 0
        self.tail = 0
        self.factor_TD = np.zeros((self.size, dim), dtype)
        self.tail_ND = np.zeros((self.size, dim), dtype)
        self.tail_NC = np.zeros((self.size, columns))
        self.tail_N = np.empty(self.size)
        self.quad_CC = np.zeros((columns, columns))
        self.logdet = 0.0
        self.decay = decay
        self._surprise_NC = np.zeros((self.size, columns))
        self._logs_N = np.zeros(self.size)
        self.folds = 0  # changes of the base so far: copies of it are renewed after one
        self._reset_cache()

    def _prior_base(self, dim: int) -> Array:
        base_DD = np.zeros((dim, dim), self.dtype, order="F")
        base_DD[np.diag_indices(dim)] = 1 / self.precision
        return base_DD

    def _reset_cache(self) -> None:
        self._seen = 0
        self._last: tuple[bytes, Array] | None = None
        # copies of the base made before this are stale
        self.folds += 1
        self._spread = np.asarray(1 / self.precision, self.dtype)

    # -- writing -----------------------------------------------------------------------------------

    def add(self, x_ND: Array, y_NC: Float, weight_N: Float) -> None:
        """Append rows (weight 1 = full evidence); whole tails are folded in.

        O(D) a row plus O(D^2) amortised.
        """
        start = 0
        while start < len(x_ND):
            count = min(self.size - self.tail, len(x_ND) - start)
            here = slice(self.tail, self.tail + count)
            there = slice(start, start + count)
            self.tail_ND[here] = x_ND[there]
            self.tail_NC[here] = y_NC[there]
            self.tail_N[here] = weight_N[there]
            self.tail += count
            start += count
            if self.tail == self.size:
                self._fold()

    def _fold(self) -> None:
        """Take the whole tail in: Sigma -= Y'Y, theta += surprises' Y.

        Reads before it change nothing of it.
        """
        if self.size > BLOCK:
            y_ND = self._block_step()
        else:
            self.catch_up()
            y_ND = self.factor_TD[self.folded : self.folded + self.size]

        self.theta_CD += self._surprise_NC.T @ y_ND  # equation (2), a tail at a time
        self.quad_CC, self.logdet = self._evidence(self.size)
        self._absorb(y_ND)
        self.tail = 0
        self._reset_cache()

    def _block_step(self) -> Array:
        """Block Kalman step: Y = R^-1 V Sigma with R R' = noise / w + V Sigma V'.

        The whitened surprises and the log scales are written beside it.
        """
        gain_ND = self._times_covariance(self.tail_ND)
        inner_NN = (gain_ND @ self.tail_ND.T).astype(np.float64)
        # rounding makes the two triangles differ; Cholesky reads one of them
        inner_NN = (inner_NN + inner_NN.T) / 2
        inner_NN[np.diag_indices(self.size)] += self.noise_var / self.tail_N

        root_NN = np.linalg.cholesky(inner_NN)
        # N is at most a tail's 64 rows: the inverse costs little, and one product then serves both.
        inverse_NN = np.linalg.solve(root_NN, np.eye(self.size))
        expected_NC = self.tail_ND @ self.theta_CD.T
        self._surprise_NC[:] = inverse_NN @ (self.tail_NC - expected_NC)
        self._logs_N = np.log(np.diagonal(root_NN))

        return np.asarray(inverse_NN.astype(self.dtype) @ gain_ND)

    def _times_covariance(self, v_ND: Array) -> Array:
        if self.base_DD is not None:
            return symmetric_rows(self.base_DD, v_ND)
        y_TD = self.factor_TD[: self.folded]
        return np.asarray(v_ND * self._spread - (v_ND @ y_TD.T) @ y_TD)

    def _evidence(self, rows: int) -> tuple[Float, float]:
        """Discounted sums of each row's one-step-ahead log density, ``decay`` a row.

        The whitened surprises are the one-step-ahead ones.
        """
        # nobody weighs this posterior against another one
        if self.decay is None:
            return self.quad_CC, self.logdet

        surprise_NC = self._surprise_NC[:rows]
        keep = self.decay**rows
        fade_N = self.decay ** np.arange(rows - 1, -1, -1)
        quad_CC = keep * self.quad_CC + (surprise_NC * fade_N[:, None]).T @ surprise_NC

        return quad_CC, keep * self.logdet + float(fade_N @ self._logs_N[:rows])

    def _absorb(self, y_ND: Array) -> None:
        """Sigma - Y'Y, equation (1) by the identity of Woodbury."""
        if self.base_DD is not None:
            subtract_gram(self.base_DD, y_ND)
            # readers of all arms at once multiply rows that are not there yet: they must be 0
            self.factor_TD[:] = 0.0
            return

        self._room(self.folded + self.size)
        self.factor_TD[self.folded : self.folded + self.size] = y_ND
        self.folded += self.size
        if self.folded >= dual_limit(y_ND.shape[1]):
            self._to_primal()

    def _room(self, rows: int) -> None:
        """Space for ``rows`` factor rows and the cached rows of a tail behind them."""
        need = rows + self.size
        dim = self.factor_TD.shape[1]
        if need > len(self.factor_TD):
            # doubled, so that growing is amortised, and never beyond what the dual form can hold
            space = max(need, min(2 * need, dual_limit(dim) + self.size))
            grown_TD = np.zeros((space, dim), self.dtype)
            grown_TD[: self.folded] = self.factor_TD[: self.folded]
            self.factor_TD = grown_TD

    def _to_primal(self) -> None:
        dim = self.factor_TD.shape[1]
        self.base_DD = self._prior_base(dim)
        subtract_gram(self.base_DD, self.factor_TD[: self.folded])
        self.factor_TD = np.zeros((self.size, dim), self.dtype)
        self.folded = 0

    def promote(self) -> None:
        """Hold everything in float64 from now on."""
        self.dtype = np.dtype(np.float64)
        self.factor_TD = self.factor_TD.astype(np.float64)
        self.tail_ND = self.tail_ND.astype(np.float64)
        self.base_DD = None if self.base_DD is None else self.base_DD.astype(np.float64)
        self._reset_cache()

    @property
    def stackable(self) -> bool:
        """Whether this arm can join a ``Stack``: in the primal form."""
        return self.base_DD is not None

    def adopted(
        self, base_DD: Array, factor_ND: Array, theta_CD: Float, surprise_NC: Float
    ) -> None:
        """Move a primal arm's arrays into these (see ``Stack``); nothing else changes.

        The new arrays are zeros where the arm has no rows yet.
        """
        # the lower triangle of a Fortran-ordered matrix is the upper one of its transpose
        base_DD[:] = np.transpose(self.base_DD)  # type: ignore[arg-type]
        factor_ND[: self._seen] = self.factor_TD[: self._seen]
        theta_CD[:] = self.theta_CD
        surprise_NC[:] = self._surprise_NC
        self.base_DD = base_DD.T
        self.factor_TD = factor_ND
        self.theta_CD = theta_CD
        self._surprise_NC = surprise_NC

    # -- reading -----------------------------------------------------------------------------------

    def catch_up(self) -> None:
        """Factors of the tail rows not seen yet, one by one.

        y = Sigma v / s with s^2 = noise / w + v' Sigma v. Each row's surprise is (payoff - its mean
        before it) / s, so theta = theta_folded + sum of surprise y.
        """
        base_DD = self.base_DD
        theta_CD = self.theta_CD
        surprise_NC = self._surprise_NC
        for row in range(self._seen, self.tail):
            v_D = self.tail_ND[row]
            end = self.folded + row
            y_D = self.factor_TD[end]
            # Sigma v = base v - Y'(Y v); the second part is subtracted below
            if base_DD is None:
                y_D[:] = v_D * self._spread
            else:
                y_D[:] = self._times_base(base_DD, v_D, v_D.tobytes())

            mean_C = theta_CD.dot(v_D)
            if end:
                y_TD = self.factor_TD[:end]
                z_T = y_TD.dot(v_D)
                subtract_rows(y_D, y_TD, z_T)
                mean_C += z_T[self.folded :].dot(surprise_NC[:row])

            scale = sqrt(self.noise_var / self.tail_N.item(row) + max(v_D.dot(y_D).item(), 0.0))
            y_D *= 1 / scale
            surprise_NC[row] = (self.tail_NC[row] - mean_C) / scale
            self._logs_N[row] = log(scale)

        self._seen = self.tail

    def _times_base(self, base_DD: Array, x_D: Array, key: bytes) -> Array:
        """Base times x.

        The product of the last read is kept, for its context often comes back with a payoff.
        """
        # the key is the row's bytes: comparing floats would be slower and not safer
        if self._last is None or self._last[0] != key:
            self._last = (key, symmetric_vector(base_DD, x_D))
        return self._last[1]

    def keep(self, key: bytes, product_D: Array) -> None:
        """Remember the base's product with the row whose bytes are ``key``."""
        self._last = (key, product_D)

    def moments(self, x_BD: Array) -> tuple[Float, Float]:
        """Means (B, C) and variances (B,) of x'theta.

        O(B t D) in the dual form, O(B D^2) in the primal.
        """
        self.catch_up()
        if self.base_DD is None:
            var_B = np.vecdot(x_BD, x_BD) / self.precision
        else:
            var_B = quadratic_rows(self.base_DD, x_BD, x_BD * x_BD)

        y_TD = self.factor_TD[: self.folded + self.tail]
        # Sigma = base - Y'Y, so x'Sigma x = x'base x - |Y x|^2
        z_BT = x_BD @ y_TD.T
        var_B = var_B - np.vecdot(z_BT, z_BT)

        # the tail's surprises are not in theta yet
        surprise_TC = self._surprise_NC[: self.tail]
        mean_BC = x_BD @ self.theta_CD.T + z_BT[:, self.folded :] @ surprise_TC
        return mean_BC, np.maximum(var_B, 0.0).astype(np.float64)

    def one(self, x_D: Array, key: bytes) -> tuple[float, ...]:
        """The C means and the variance at one row, ``key`` its bytes.

        These are the numbers that ``moments`` gives, with little overhead.
        """
        self.catch_up()
        z_T = self.factor_TD[: self.folded + self.tail] @ x_D
        if self.base_DD is None:
            prior = x_D @ x_D / self.precision
        else:
            prior = self._times_base(self.base_DD, x_D, key) @ x_D

        mean_C = self.theta_CD @ x_D + z_T[self.folded :] @ self._surprise_NC[: self.tail]
        return (*mean_C.tolist(), max(float(prior - z_T @ z_T), 0.0))

    def evidence(self) -> tuple[Float, float]:
        """(C, C) sum of products of whitened surprises, and the log determinant.

        Both are discounted by ``decay``.
        """
        self.catch_up()
        return self._evidence(self.tail)

    # -- state -------------------------------------------------------------------------------------

    def state(self) -> State:
        """Copies of what is stored; never the caches."""
        return {
            "theta_CD": self.theta_CD.copy(),
            "base_P": np.empty(0, self.dtype) if self.base_DD is None else packed(self.base_DD),
            "factor_TD": self.factor_TD[: self.folded].copy(),
            "tail_ND": self.tail_ND[: self.tail].copy(),
            "tail_NC": self.tail_NC[: self.tail].copy(),
            "tail_N": self.tail_N[: self.tail].copy(),
            "evidence": np.append(self.quad_CC.ravel(), self.logdet),
        }

    def load(self, state: Mapping[str, Array], prefix: str) -> None:
        """Restore; InputError where shapes or dtypes do not fit.

        This object may then be half filled: discard it.
        """
        take = partial(checks.stored, state, prefix)
        columns, dim = self.theta_CD.shape
        self.theta_CD = take("theta_CD", np.float64, (columns, dim))
        if prefix + "base_DD" in state:  # as states held it before: the matrix whole
            base_P = packed(np.asarray(take("base_DD", self.dtype, (None, dim)), order="F"))
        else:
            base_P = take("base_P", self.dtype, (None,))

        factor_TD = take("factor_TD", self.dtype, (None, dim))
        whole = dim * (dim + 1) // 2
        allowed = (0, whole) if dual_limit(dim) else (whole,)
        if len(base_P) not in allowed:
            raise InputError(
                f"state {prefix}base_P has {len(base_P)} numbers; {whole} or none were expected"
            )

        self.base_DD = unpacked(base_P, dim) if len(base_P) else None
        # in the primal form all rows are in the base
        most = 0 if self.base_DD is not None else dual_limit(dim)
        self.folded = checks.whole(f"rows of {prefix}factor_TD", len(factor_TD), 0, most)
        self.factor_TD = np.concatenate([factor_TD, np.zeros((self.size, dim), self.dtype)])
        tail_ND = take("tail_ND", self.dtype, (None, dim))
        self.tail = checks.whole(f"rows of {prefix}tail_ND", len(tail_ND), 0, self.size - 1)
        self.tail_ND[: self.tail] = tail_ND
        self.tail_NC[: self.tail] = take("tail_NC", np.float64, (self.tail, columns))
        self.tail_N[: self.tail] = take("tail_N", np.float64, (self.tail,))
        # Read last: nothing before it depends on it, and all checks of shape are done.
        evidence = take("evidence", np.float64, (columns * columns + 1,))
        self.quad_CC = evidence[:-1].reshape(columns, columns)
        self.logdet = float(evidence[-1])
        self._reset_cache()
