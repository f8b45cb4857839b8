"""One arm's Gaussian posterior where old evidence fades.

It fades by ``discount`` a payoff of any arm, or falls out of a ``window``.

Precision L(t) = lambda I + sum_i discount^(t - t_i) w_i x_i x_i' / noise_var over the rows still in
the window: the prior is never discounted (D-LinUCB, arXiv:1909.09146, with the prior re-injected),
so precision never collapses and without new data the arm returns to it. The clock t counts payoffs
of all arms.

Exact, therefore dearer than the posterior without forgetting: rows are kept (dual form: n x n
Cholesky) until there are more than D / 2 of them (window: D), then their Gram matrix (D x D
Cholesky, D^3 / 3 flops), at the first read after a change; later reads of the same state cost
O(D^2). State is float64 whatever the router's dtype.
"""

from collections.abc import Mapping
from functools import partial

import numpy as np

from reward_router import checks
from reward_router.posterior.blas import Array
from reward_router.types import Float, State


class FadingPosterior:
    """N(theta, Sigma) of one arm for C response columns; all calls take the clock ``now``."""

    state_names = (
        "theta_CD",
        "rows_ND",
        "rows_NC",
        "weight_N",
        "stamp_N",
        "gram_DD",
        "moment_CD",
        "gram_stamp",
    )

    def __init__(
        self,
        theta_CD: Float,
        precision: float,
        noise_var: float,
        discount: float,
        window: int | None,
    ) -> None:
        """``discount`` in (0, 1]; ``window`` in payoffs of all arms, None: unlimited."""
        columns, dim = theta_CD.shape
        self.theta_CD = theta_CD.astype(np.float64)
        self.precision = precision
        self.noise_var = noise_var
        self.discount = discount
        self.window = window
        # Beyond D / 2 rows sums are cheaper to factorise than the rows.
        self.limit = max(dim // 2, 32)
        self.rows_ND = np.empty((0, dim))
        self.rows_NC = np.empty((0, columns))
        self.weight_N = np.empty(0)
        self.stamp_N = np.empty(0, np.int64)
        self.gram_DD: Float | None = None
        self.moment_CD = np.zeros((columns, dim))
        self.gram_stamp = 0
        self._factor: tuple[int, Float, Float, bool] | None = None

    def add(self, x_ND: Array, y_NC: Float, weight_N: Float, stamp_N: Array) -> None:
        """Append rows seen at these clock times.

        Expired rows are dropped, and full buffers are folded in.
        """
        self._factor = None
        self.rows_ND = np.concatenate([self.rows_ND, x_ND])
        self.rows_NC = np.concatenate([self.rows_NC, y_NC])
        self.weight_N = np.concatenate([self.weight_N, weight_N / self.noise_var])
        self.stamp_N = np.concatenate([self.stamp_N, stamp_N])
        # a window cannot be kept as sums: rows have to leave it one by one
        if self.window is not None:
            self._keep(self.stamp_N > int(self.stamp_N[-1]) - self.window)

        while self.window is None and len(self.stamp_N) >= self.limit:
            self._fold()

    def _keep(self, live_N: Array) -> None:
        self.rows_ND = self.rows_ND[live_N]
        self.rows_NC = self.rows_NC[live_N]
        self.weight_N = self.weight_N[live_N]
        self.stamp_N = self.stamp_N[live_N]

    def _fold(self) -> None:
        """Move the oldest ``limit`` rows into the Gram matrix and the moments.

        Both are then as of the time of the last of these rows.
        """
        part = slice(0, self.limit)
        rows_ND = self.rows_ND[part]
        now = int(self.stamp_N[self.limit - 1])
        age_N = (now - self.stamp_N[part]).astype(np.float64)
        fade_N = self.weight_N[part] * self.discount**age_N
        keep = self.discount ** float(now - self.gram_stamp)

        # The root on both factors keeps the Gram matrix exactly symmetric.
        root_ND = np.sqrt(fade_N)[:, None] * rows_ND
        old_DD = 0.0 if self.gram_DD is None else keep * self.gram_DD
        self.gram_DD = old_DD + root_ND.T @ root_ND

        surprise_NC = self.rows_NC[part] - rows_ND @ self.theta_CD.T
        moment_CD = (fade_N[:, None] * surprise_NC).T @ rows_ND
        self.moment_CD = keep * self.moment_CD + moment_CD
        self.gram_stamp = now

        # the rows that went into the sums
        self._keep(np.arange(len(self.stamp_N)) >= self.limit)

    def _factorise(self, now: int) -> tuple[int, Float, Float, bool]:
        """(clock, factor, theta, whether it is the dual form) of the posterior at ``now``.

        They are kept until the clock or the rows change.
        """
        # without rows in a window, and without discount, time changes nothing
        changes = self.discount < 1 or (self.window is not None and len(self.stamp_N) > 0)
        if self._factor is not None and (self._factor[0] == now or not changes):
            return self._factor

        age_N = now - self.stamp_N
        live_N = age_N < (self.window or np.inf)
        faded_N = self.weight_N * self.discount ** age_N.astype(np.float64)
        fade_N = np.where(live_N, faded_N, 0.0)[live_N]
        root_N1 = np.sqrt(fade_N)[:, None]

        live_ND = self.rows_ND[live_N]
        surprise_NC = self.rows_NC[live_N] - live_ND @ self.theta_CD.T
        root_ND = root_N1 * live_ND
        response_NC = root_N1 * surprise_NC

        if self.gram_DD is None and len(root_ND) < root_ND.shape[1]:
            self._factor = (now, *self._dual(root_ND, response_NC), True)
        else:
            self._factor = (now, *self._primal(root_ND, response_NC, now), False)

        return self._factor

    def _dual(self, root_ND: Float, response_NC: Float) -> tuple[Float, Float]:
        """Sigma = (I - Y'Y) / lambda, Y = R^-1 V with R R' = lambda I + V V'."""
        from scipy.linalg import solve_triangular

        kernel_NN = root_ND @ root_ND.T
        # the prior is put in whole: it never fades
        kernel_NN[np.diag_indices(len(kernel_NN))] += self.precision
        # No rows: the posterior is the prior, and Cholesky takes no empty matrix.
        if not len(kernel_NN):
            return root_ND, self.theta_CD

        root_NN = np.linalg.cholesky(kernel_NN)
        y_ND = solve_triangular(root_NN, root_ND, lower=True, check_finite=False)
        y_ND = np.asarray(y_ND, np.float64)
        white_NC = solve_triangular(root_NN, response_NC, lower=True, check_finite=False)

        return y_ND, self.theta_CD + white_NC.T @ y_ND

    def _primal(self, root_ND: Float, response_NC: Float, now: int) -> tuple[Float, Float]:
        """The Cholesky factor of L(now) and theta = theta_0 + L^-1 moments."""
        from scipy.linalg import cho_solve

        keep = self.discount ** float(now - self.gram_stamp)
        lambda_DD = root_ND.T @ root_ND
        if self.gram_DD is not None:
            lambda_DD += keep * self.gram_DD

        # the prior is put in whole: it never fades
        lambda_DD[np.diag_indices(len(lambda_DD))] += self.precision
        root_DD: Float = np.asarray(np.linalg.cholesky(lambda_DD), np.float64)
        moment_CD = keep * self.moment_CD + response_NC.T @ root_ND
        shift_DC = cho_solve((root_DD, True), moment_CD.T, check_finite=False)

        return root_DD, self.theta_CD + shift_DC.T

    def moments(self, x_BD: Array, now: int) -> tuple[Float, Float]:
        """Means (B, C) and variances (B,) of x'theta at clock ``now``."""
        _, factor, theta_CD, dual = self._factorise(now)
        x_BD = x_BD.astype(np.float64)
        if dual:
            z_BN = x_BD @ factor.T
            reduction_B = np.einsum("bn,bn->b", z_BN, z_BN)
            var_B = (np.einsum("bd,bd->b", x_BD, x_BD) - reduction_B) / self.precision
        else:
            from scipy.linalg import solve_triangular

            # x'L^-1 x = |R^-1 x|^2 with L = R R'
            z_DB = solve_triangular(factor, x_BD.T, lower=True, check_finite=False)
            var_B = np.einsum("db,db->b", z_DB, z_DB)

        return x_BD @ theta_CD.T, np.maximum(var_B, 0.0)

    def state(self) -> State:
        """Copies of what is stored; never the caches."""
        dim = self.theta_CD.shape[1]
        return {
            "theta_CD": self.theta_CD.copy(),
            "rows_ND": self.rows_ND.copy(),
            "rows_NC": self.rows_NC.copy(),
            "weight_N": self.weight_N.copy(),
            "stamp_N": self.stamp_N.copy(),
            "gram_DD": np.empty((0, dim)) if self.gram_DD is None else self.gram_DD.copy(),
            "moment_CD": self.moment_CD.copy(),
            "gram_stamp": np.array(self.gram_stamp),
        }

    def load(self, state: Mapping[str, Array], prefix: str) -> None:
        """Restore; InputError where shapes or dtypes do not fit.

        This object may then be half filled: discard it.
        """
        take = partial(checks.stored, state, prefix)
        columns, dim = self.theta_CD.shape
        self.theta_CD = take("theta_CD", np.float64, (columns, dim))
        self.rows_ND = take("rows_ND", np.float64, (None, dim))
        rows = len(self.rows_ND)
        self.rows_NC = take("rows_NC", np.float64, (rows, columns))
        self.weight_N = take("weight_N", np.float64, (rows,))
        self.stamp_N = take("stamp_N", np.int64, (rows,))
        gram_DD = take("gram_DD", np.float64, (None, dim))
        self.gram_DD = gram_DD if len(gram_DD) == dim else None
        self.moment_CD = take("moment_CD", np.float64, (columns, dim))
        self.gram_stamp = int(take("gram_stamp", np.int64, ()))
        self._factor = None
