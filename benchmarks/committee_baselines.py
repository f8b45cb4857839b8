"""What the committee is compared with.

Every method takes train and test rows and returns a signed answer a row (0 = tie).
"""

import zlib

import numpy as np

from committee_pools import Pool

WORDS = 512


def right(pool: Pool, rows: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.sign(np.nan_to_num(pool.margins_PK[rows])) * pool.sign_P[rows, None]


def best_single(pool: Pool, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    return np.nan_to_num(pool.margins_PK[test, int(np.argmax(right(pool, train).mean(0)))])


def majority(pool: Pool, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    return np.sign(np.nan_to_num(pool.margins_PK[test])).sum(1)


def weighted_vote(pool: Pool, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    share = (right(pool, train).sum(0) + 1) / (train.sum() + 2)
    return np.sign(np.nan_to_num(pool.margins_PK[test])) @ np.log(share / (1 - share))


def category_best(pool: Pool, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    category = np.unique(pool.category_P, return_inverse=True)[1]
    credit, overall = right(pool, train), int(np.argmax(right(pool, train).mean(0)))
    arm = np.full(category.max() + 1, overall)
    for c in np.unique(category[train]):
        arm[c] = int(np.argmax(credit[category[train] == c].mean(0)))
    return np.nan_to_num(pool.margins_PK[test, :])[np.arange(test.sum()), arm[category[test]]]


def prompt_router(pool: Pool, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """One call: ridge from hashed prompt words and category to each arm's chance of being right."""
    words = hashed(pool)
    mean = right(pool, train).mean(0)
    gram = words[train].T @ words[train] + 30.0 * np.eye(words.shape[1])
    weight = np.linalg.solve(gram, words[train].T @ (right(pool, train) - mean))
    arm = np.argmax(words[test] @ weight + mean, axis=1)
    return np.nan_to_num(pool.margins_PK[test])[np.arange(test.sum()), arm]


def hashed(pool: Pool) -> np.ndarray:
    out = np.zeros((len(pool.label_P), WORDS))
    for p, (prompt, category) in enumerate(zip(pool.prompt_P, pool.category_P, strict=True)):
        for word in [*prompt.lower().split(), f"category={category}"]:
            out[p, zlib.crc32(word.encode()) % WORDS] += 1
    return np.sqrt(out) / np.maximum(np.linalg.norm(np.sqrt(out), axis=1, keepdims=True), 1e-9)


def stacking(pool: Pool, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Logistic ridge without intercept on signed ranks of all K margins.

    Weights have either sign, the penalty is n^.5.
    """
    x = signed_rank(pool.margins_PK, train)
    v, weight = x[train] * pool.sign_P[train, None], np.zeros(x.shape[1])
    penalty = np.sqrt(train.sum())
    for _ in range(15):
        p = 1 / (1 + np.exp(np.clip(v @ weight, -30, 30)))
        hessian = (v * (p * (1 - p))[:, None]).T @ v + penalty * np.eye(x.shape[1])
        weight = weight + np.linalg.solve(hessian, v.T @ p - penalty * weight)
    return x[test] @ weight


def signed_rank(margins_PK: np.ndarray, train: np.ndarray) -> np.ndarray:
    out = np.zeros_like(margins_PK)
    for k in range(margins_PK.shape[1]):
        column = np.nan_to_num(margins_PK[:, k])
        known = np.sort(np.abs(column[train & (column != 0)]))
        rank = (
            np.searchsorted(known, np.abs(column), "left")
            + np.searchsorted(known, np.abs(column), "right")
        ) / 2
        out[:, k] = np.sign(column) * (0.4 + 1.2 * rank / max(len(known), 1))
    return out


def oracle(pool: Pool, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Right wherever any arm is: the ceiling of choosing one arm a row."""
    return pool.sign_P[test] * (2 * right(pool, test).max(1) - 1)


METHODS = {
    "best single": (best_single, 1),
    "majority": (majority, None),
    "weighted vote": (weighted_vote, None),
    "stacking": (stacking, None),
    "category best": (category_best, 1),
    "prompt router": (prompt_router, 1),
    "oracle": (oracle, None),
}
