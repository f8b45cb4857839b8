"""One cell of the router benchmark for one peer library, in its own process.

Prints milliseconds of a select, then of an update. Run by benchmarks/routers.py with the
interpreter that has the peers: python router_peers.py NAME DIM ARMS SECONDS
"""

import sys
import time

import numpy as np

NAMES = ["mabwiser_ucb", "mabwiser_ts", "contextualbandits_ucb32", "contextualbandits_ts",
         "river_ucb", "bayesianbandits_ucb", "bayesianbandits_ts", "vw_squarecb"]  # fmt: skip


def median_ms(call, seconds):
    """Median CPU time of one call over at most 300 repeats or ``seconds``.

    There are at least 3 repeats, 1 where one takes a second.
    """
    times, stop = [], time.perf_counter() + seconds
    while len(times) < (1 if times and times[0] > 1 else 3) or (
        len(times) < 300 and time.perf_counter() < stop
    ):
        start = time.process_time()
        call(len(times))
        times.append(time.process_time() - start)
    return 1e3 * float(np.median(times))


def data(dim, arms, rows):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, dim)) + 2 * rng.normal(size=dim)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x, np.arange(rows) % arms, rng.random(rows)


def mabwiser(name, x, a, y, arms):
    from mabwiser.mab import MAB, LearningPolicy

    policy = (
        LearningPolicy.LinUCB(alpha=1.0)
        if name.endswith("ucb")
        else LearningPolicy.LinTS(alpha=1.0)
    )
    bandit = MAB(list(range(arms)), policy)
    bandit.fit(a[:arms], y[:arms], x[:arms])
    return lambda i: bandit.predict(x[i : i + 1]), lambda i: bandit.partial_fit(
        a[i : i + 1], y[i : i + 1], x[i : i + 1]
    )


def contextualbandits(name, x, a, y, arms):
    from contextualbandits.online import LinTS, LinUCB

    if name.endswith("ucb32"):
        bandit = LinUCB(arms, alpha=1.0, lambda_=1.0, fit_intercept=False, use_float=True)
        x = x.astype(np.float32)
    else:
        bandit = LinTS(arms, lambda_=1.0, fit_intercept=False, sample_from="ci", method="sm")
    bandit.fit(x[:arms], a[:arms], y[:arms])
    return lambda i: bandit.predict(x[i : i + 1]), lambda i: bandit.partial_fit(
        x[i : i + 1], a[i : i + 1], y[i : i + 1]
    )


def river(name, x, a, y, arms):
    from river import bandit

    policy, ids = bandit.LinUCBDisjoint(alpha=1.0, beta=1.0, seed=0), list(range(arms))
    rows = [dict(enumerate(row.tolist())) for row in x]
    for i in range(arms):
        policy.update(i, rows[i], float(y[i]))
    return lambda i: policy.pull(ids, rows[i]), lambda i: policy.update(
        int(a[i]), rows[i], float(y[i])
    )


def bayesianbandits(name, x, a, y, arms):
    import bayesianbandits as bb

    policy = bb.UpperConfidenceBound() if name.endswith("ucb") else bb.ThompsonSampling()
    agent = bb.ContextualAgent(
        [bb.Arm(i, learner=bb.NormalRegressor(1.0, 1.0)) for i in range(arms)],
        policy,
        random_seed=0,
    )
    for i in range(arms):
        agent.select_for_update(i).update(x[i : i + 1], y[i : i + 1])

    def update(i):
        agent.select_for_update(int(a[i])).update(x[i : i + 1], y[i : i + 1])

    return lambda i: agent.pull(x[i : i + 1]), update


def vw(name, x, a, y, arms):
    from vowpalwabbit import Workspace

    workspace = Workspace(f"--cb_explore {arms} --squarecb --quiet -b 22")
    text = ["| " + " ".join(f"f{j}:{v:.6f}" for j, v in enumerate(row)) for row in x[:400]]
    learn = [f"{int(a[i]) + 1}:{1 - y[i]:.4f}:{1 / arms:.4f} {line}" for i, line in enumerate(text)]
    return lambda i: workspace.predict(text[i % 400]), lambda i: workspace.learn(learn[i % 400])


def main(name, dim, arms, seconds):
    maker = {"mabwiser": mabwiser, "contextualbandits": contextualbandits, "river": river,
             "bayesianbandits": bayesianbandits, "vw": vw}[name.split("_")[0]]  # fmt: skip
    select, update = maker(name, *data(dim, arms, 400 + arms), arms)
    update(arms)
    select(arms)
    print(median_ms(select, seconds), flush=True)
    print(median_ms(update, seconds), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
