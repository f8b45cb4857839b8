"""What the policy answered to held-out prompts, before and after: a run's ``samples.jsonl``.

One line a response: ``when`` (before, after), ``kind`` (the gold it was measured for), ``id``,
``category``, ``prompt``, ``sample``, ``response``, ``gold`` (1 right, 0 wrong, null unknown),
``finished``, and where the router chose among the samples (``eval.best_of``) the ``arm`` it named
and that arm's ``score``. The responses were generated for the measurement anyway: this costs no
call. Before and after share their random numbers, so that two lines that differ do so by the
policy. Where the base model was kept there is nothing after it. The size is held-out prompts times
samples times two.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from reward_router.distributed import Ranks
from reward_router.examples import Example
from reward_router.headline import MEASURED
from reward_router.responses import finished
from reward_router.rundir import RunDir

SampleRow = dict[str, Any]


class Samples:
    """The responses of one run as they are measured.

    Every process keeps its own, and the first one writes all of them.
    """

    def __init__(self, run: RunDir, ranks: Ranks) -> None:
        """Nothing is read or written yet."""
        self.run = run
        self.ranks = ranks
        self.rows: list[SampleRow] = []

    def keep(self, when: str, kind: str, example: Example, responses: Sequence[str]) -> None:
        """Keep one prompt's responses, measured as ``kind``.

        Those of other sets, such as a test set, are not kept.
        """
        if kind not in MEASURED:
            return
        golds = example.gold(responses)
        for number, (response, gold, ended) in enumerate(
            zip(responses, golds, finished(responses), strict=True)
        ):
            self.rows.append(
                {
                    "when": when,
                    "kind": kind,
                    "id": example.id,
                    "category": example.category,
                    "prompt": example.prompt,
                    "sample": number,
                    "response": str(response),
                    "gold": None if math.isnan(gold) else float(gold),
                    "finished": bool(ended),
                    "arm": None,
                    "score": None,
                }
            )

    def chosen(self, when: str, picks: Mapping[str, tuple[str, Sequence[float]]]) -> None:
        """Who judged the samples of each prompt, and how: prompt id -> (arm, its scores)."""
        for row in self.rows:
            is_sampled = row["when"] == when and row["kind"] == MEASURED[0]
            if is_sampled and row["id"] in picks:
                arm, scores = picks[row["id"]]
                score = float(scores[row["sample"]])
                row["arm"] = arm
                # NaN is no JSON.
                row["score"] = score if math.isfinite(score) else None

    def write(self) -> None:
        """Write what was kept since the last call into the run's directory.

        It takes the place of what stood there of the same measurement.
        """
        rows = self.ranks.gather(self.rows)
        self.rows = []
        if rows and self.ranks.main:
            self.run.write_samples(rows)
