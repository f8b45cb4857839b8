"""The training report.

Every shape of run gives a page that parses, opens offline, escapes text and says what the numbers
say.
"""

import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from reward_router.dispatch import Dispatcher
from reward_router.errors import InputError, LedgerError, RunError
from reward_router.evaluate import GoldMeasured, compare_gold
from reward_router.ledger import Call, Ledger
from reward_router.report import gather, training
from reward_router.routers import Fixed, LinearThompson

CATEGORIES = ("sums", "facts", "title")
VOID = {"meta", "br"}


@dataclass
class Made:
    """A run directory as the trainer would write it.

    In its world, arm k orders right with probability skill[k].
    """

    folder: Path
    arms: list[str] = field(default_factory=lambda: ["loglik", "minilm", "length"])
    steps: int = 12
    batch: int = 6
    unit: str = "prompt"
    payoff: str = "probe"
    audit: float = 0.5
    held_out: int = 60
    lift: float = 0.2
    failures: int = 0
    ensemble: bool = False

    def write(self) -> Path:
        """Write config.yaml, ledger.sqlite, metrics.jsonl and summary.json."""
        self.folder.mkdir(parents=True)
        draw = np.random.default_rng(3)
        k = len(self.arms)
        skill_K = np.linspace(0.85, 0.25, k)
        records: list[dict[str, Any]] = []
        with Ledger(self.folder / "ledger.sqlite") as ledger:
            names = [*self.arms, "ensemble"] if self.ensemble else self.arms
            router = Fixed(k + 1, k) if self.ensemble else LinearThompson(k, 4, noise_sd=0.4)
            d = Dispatcher(router, names, ledger=ledger)
            records += [self._step(d, t, draw, skill_K) for t in range(self.steps)]
            counted = d.counts()
        config = {
            "router": {"name": "thompson", "mode": "ensemble" if self.ensemble else "route"},
            "policy": {"model": "tiny"},
            "train": {"loss": "dpo"},
        }
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config))
        (self.folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
        (self.folder / "summary.json").write_text(json.dumps(self._summary(records, counted, draw)))
        return self.folder

    def _step(
        self, d: Dispatcher, t: int, draw: np.random.Generator, skill_K: Any
    ) -> dict[str, Any]:
        n = 1 if self.unit == "batch" else self.batch
        context_BD = np.eye(4)[draw.integers(0, 3, n)]
        names = (
            [f"batch-{t}"]
            if self.unit == "batch"
            else [f"{CATEGORIES[int(np.argmax(x))]}-{t}-{i}" for i, x in enumerate(context_BD)]
        )
        decisions = d.route(context_BD, names, t)
        calls, paid = [], []
        for decision in decisions:
            audited = draw.random() < self.audit or self.ensemble
            truth_N = draw.normal(size=4)
            for k, arm in enumerate(self.arms):
                if arm == decision.name or audited:
                    status = "ok" if arm == decision.name or self.ensemble else "audit"
                    score_N = truth_N * (2 * skill_K[k] - 1) + draw.normal(size=4) * 0.4
                    calls += [
                        Call(
                            decision.id,
                            f"{decision.unit}/0/{i}",
                            arm,
                            float(s),
                            status,
                            0.01 * (k + 1),
                        )
                        for i, s in enumerate(score_N)
                    ]
            right = float(draw.random() < skill_K[decision.arm % len(self.arms)])
            paid.append((decision.id, right))
            d.record_label(decision.unit, t, right, "gold order")
        d.record_calls(calls)
        for _ in range(self.failures):
            d.record_failure(decisions[0].id, self.arms[-1], "timeout: <slow> & gone")
        if self.payoff == "probe":
            d.feedback_many(paid, source="probe")
        else:
            d.feedback_raw_many([(i, v - 3 + 0.05 * t) for i, v in paid], source=self.payoff)
        posterior = self._posterior(d, context_BD)
        return {
            "step": t,
            "arms": {a: sum(x.name == a for x in decisions) for a in d.arms},
            "probs": dict(
                zip(d.arms, np.mean([x.probs_K for x in decisions], axis=0).tolist(), strict=True)
            ),
            "loss": float(0.69 - 0.01 * t + 0.02 * draw.normal()),
            "gold_sampled": float(np.clip(0.3 + 0.01 * t + 0.1 * draw.normal(), 0, 1))
            if t % 4
            else float("nan"),
            "words": 20.0,
            "posterior": posterior,
            "seconds": {},
        }

    def _posterior(self, d: Dispatcher, context_BD: Any) -> dict[str, list[float]]:
        if not isinstance(d.router, LinearThompson):
            return {}
        mean_BK, sd_BK = d.router.posterior(context_BD.mean(axis=0, keepdims=True))
        return {a: [float(mean_BK[0, k]), float(sd_BK[0, k])] for k, a in enumerate(self.arms)}

    def _summary(
        self, records: list[dict[str, Any]], counted: dict[str, Any], draw: np.random.Generator
    ) -> dict[str, Any]:
        total = sum(sum(r["arms"].values()) for r in records) or 1
        share = {a: sum(r["arms"][a] for r in records) / total for a in self.arms}
        by = {} if self.unit == "batch" else dict.fromkeys(CATEGORIES)
        row = {
            a: {
                "decisions": round(share[a] * total),
                "share": share[a],
                "mean_payoff": 0.5,
                "share_by_category": dict.fromkeys(by, share[a]),
            }
            for a in self.arms
        }
        ids = [f"{c}-{i}" for i in range(self.held_out) for c in CATEGORIES][: self.held_out]
        cats, first = [i.split("-")[0] for i in ids], (draw.random(len(ids)) < 0.3).astype(float)
        second = np.maximum(first, draw.random(len(ids)) < self.lift)
        golds = [GoldMeasured(ids, cats, x.tolist(), [1.0] * len(ids)) for x in (first, second)]
        made = counted["calls"].get("ok", 0)
        return {
            "router": "thompson", "unit": self.unit, "payoff": self.payoff,
            "n_arms": len(self.arms), "steps": self.steps, "arms": row,
            "gold": compare_gold(*golds) if ids else None, "gold_test": None,
            "payoff_gold": {"n": 3, "r": -0.4, "ci95": [-0.6, -0.2]},
            "calls": {"made": made, "audit": counted["calls"].get("audit", 0),
                      "all_arms": made * len(self.arms)},
                      "counts": {"no_payoff": 3, "pairs": 48, "arm_failures": counted["failures"]},
            "saturated": counted["saturated"], "seconds": {"load": 3.0, "route": 0.1, "step": 9.5},
            "peak_memory_gib": 1.25, "manifest": {"seed": 0},
        }  # fmt: skip


class Page(HTMLParser):
    """Collects what a reader sees and checks that tags nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Opens."""
        values = dict(attrs)
        self.ids |= {values["id"]} if values.get("id") else set()
        self.links += [v for k, v in attrs if k in ("href", "src", "xlink:href") and v]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Opens and closes."""

    def handle_endtag(self, tag: str) -> None:
        """Closes what was opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Text that a reader sees."""
        if self.open[-1:] not in (["script"], ["style"]):
            self.words.append(data)


def read(folder: Path) -> tuple[Page, str]:
    path = training.write(folder)
    text = path.read_text(encoding="utf-8")
    assert path == folder / "report.html"
    assert not list(folder.glob("*.partial"))
    return Page(text), text


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"unit": "batch", "audit": 0.0},
        {"payoff": "neg_loss"},
        {"steps": 1, "batch": 1, "held_out": 1},
        {"steps": 0, "held_out": 0},
        {"arms": [f"arm {k}" for k in range(12)], "steps": 40},
        {"arms": ['<script>alert("x")</script>', "a&b", "ü" * 80], "failures": 2},
        {"payoff": "neg_loss", "steps": 1, "batch": 2},
        {"arms": ["gold"]},
        {"ensemble": True, "payoff": "neg_loss"},
    ],
    ids=lambda c: " ".join(map(str, c)) or "plain",
)
def test_every_run_gives_a_whole_page_that_opens_offline(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    page, text = read(Made(tmp_path / "run", **change).write())
    assert not re.search(r'[="\s,](nan|inf|-inf)[",\s]', text), (
        "a number that is none reached the drawing"
    )
    assert text.count("<script") == 1, "the page's own, and no text that became one"
    assert "None" not in page.text
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    for title in (
        "Gold before and after",
        "Who judged",
        "Calls and time",
        "Left out",
        "How to get this run again",
    ):
        assert title in page.text


def test_the_headline_says_what_the_interval_says(tmp_path: Path) -> None:
    page, _ = read(Made(tmp_path / "up", lift=0.6).write())
    assert "Gold rose from" in page.text
    assert "more than the choice of prompts explains" in page.text
    page, _ = read(Made(tmp_path / "flat", lift=0.03).write())
    assert "the interval holds zero" in page.text or "Gold did not move" in page.text
    page, _ = read(Made(tmp_path / "none", held_out=0).write())
    assert "gold was not measured" in page.text


def samples(folder: Path) -> None:
    """What the run would have kept of its responses.

    There are three prompts: one answer is better, one worse, one the same.
    """
    rows = []
    for i, (category, before, after) in enumerate(
        [("sums", 0.0, 1.0), ("facts", 1.0, 0.0), ("sums", 1.0, 1.0)]
    ):
        for when, gold in (("before", before), ("after", after)):
            text = "the same" if i == 2 else f"<b>{when}</b> {i}"
            row = {
                "when": when,
                "kind": "gold_sampled",
                "id": f"p{i}",
                "category": category,
                "prompt": f"prompt {i}",
            }
            rows.append(
                row
                | {
                    "sample": 0,
                    "response": text,
                    "gold": gold,
                    "finished": i == 0,
                    "arm": None,
                    "score": None,
                }
            )
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_responses_that_changed_are_shown_and_can_be_filtered(tmp_path: Path) -> None:
    folder = Made(tmp_path / "run").write()
    samples(folder)
    page, text = read(folder)
    assert "2 of 3 responses to held-out prompts are others" in page.text
    assert "1 went from wrong to right, 1 from right to wrong" in page.text
    assert "<b>before</b>" in page.text, "a response is text, not HTML"
    assert text.count('data-direction="better"') == text.count('data-direction="worse"') == 1
    assert '<option value="sums">' in text
    assert "prompt 2" not in page.text


def test_the_box_says_better_worse_or_neither_and_why(tmp_path: Path) -> None:
    folder = Made(tmp_path / "run", lift=0.6).write()
    page, text = read(folder)
    assert "▲ Better." in page.text
    assert 'class="verdict better"' in text
    summary = json.loads((folder / "summary.json").read_text())
    row = summary["gold"]["all"]
    row |= {
        "after": 0.1,
        "diff": -0.2,
        "ci95": [-0.3, -0.1],
        "finished_before": 0.68,
        "finished_after": 0.28,
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    page, text = read(folder)
    assert "▼ Worse." in page.text
    assert 'class="verdict worse"' in text
    assert (
        "fewer answers end by themselves within the token limit: 68 % before, 28 % after"
        in page.text
    )


def test_nothing_is_listed_as_left_out_that_was_not(tmp_path: Path) -> None:
    folder = Made(tmp_path / "run").write()
    summary = json.loads((folder / "summary.json").read_text())
    summary["counts"] = {"pairs": 48, "responses": 240, "truncated": 7, "no_payoff": 0}
    (folder / "summary.json").write_text(json.dumps(summary))
    page, _ = read(folder)
    assert "Nothing was left out" in page.text
    assert "240" not in page.text.split("Left out, skipped, failed")[-1].split("How to get")[0]


def test_a_running_run_has_a_report_of_its_last_checkpoint(tmp_path: Path) -> None:
    folder = Made(tmp_path / "run").write()
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").unlink()
    running = summary | {"running": True, "steps": 4, "planned_steps": 640, "gold": None}
    (folder / "progress.json").write_text(json.dumps(running))
    page, _ = read(folder)
    assert "Running: step 4 of 640" in page.text
    assert "Better" not in page.text


def test_payoff_against_gold_is_said_in_words(tmp_path: Path) -> None:
    page, _ = read(Made(tmp_path / "loss", payoff="neg_loss").write())
    assert "moves against gold moderately: correlation −0.40" in page.text
    assert "paid for being wrong" in page.text
    page, _ = read(Made(tmp_path / "probe").write())
    assert "by construction" in page.text


def test_agreement_equals_a_count_by_hand() -> None:
    ledger = Ledger(":memory:")
    d = Dispatcher(LinearThompson(3, 2), ["a", "b", "c"], ledger=ledger)
    [decision] = d.route(np.ones((1, 2)), ["p"], 0)
    scores = {"a": [1, 2, 3], "b": [1, 3, 2], "c": [5, 5, float("nan")]}
    d.record_calls(
        [
            Call(decision.id, f"p/0/{n}", arm, v, "audit")
            for arm, row in scores.items()
            for n, v in enumerate(row)
        ]
    )
    found = gather.agreement_within_prompts(ledger.calls())
    assert found.alike_KK[0, 1] == pytest.approx(2 / 3)
    assert found.pairs_KK[0, 1] == 3
    assert found.responses == 3
    assert np.isnan(found.alike_KK[0, 2])
    assert found.ordered_K.tolist() == [1.0, 1.0, 0.0]


def test_a_folder_without_a_finished_run_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run here"):
        training.write(tmp_path / "nothing")
    folder = Made(tmp_path / "run").write()
    (folder / "summary.json").rename(folder / "kept")
    with pytest.raises(InputError, match=r"unfinished.*--resume"):
        training.write(folder)
    (folder / "summary.json").write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        training.write(folder)
    (folder / "kept").replace(folder / "summary.json")
    (folder / "ledger.sqlite").write_bytes(b"not a ledger at all" * 100)
    with pytest.raises(LedgerError):
        training.write(folder)
    (folder / "ledger.sqlite").unlink()
    with pytest.raises(InputError, match=r"ledger\.sqlite is missing"):
        training.write(folder)


def test_a_report_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Made(tmp_path / "run").write()
    before = training.write(folder).read_text(encoding="utf-8")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(training.os, "replace", full)
    with pytest.raises(RunError, match="No space left"):
        training.write(folder)
    assert (folder / "report.html").read_text(encoding="utf-8") == before
    assert not list(folder.glob("*.partial"))


REAL: dict[str, Any] = {
    "policy": {
        "model": "tiny",
        "n_responses": 4,
        "max_new_tokens": 8,
        "device": "cpu",
        "sample_dtype": "float32",
    },
    "arms": [
        {"name": n, "kind": "metric", "metric": "length", "direction": n} for n in ("short", "long")
    ],
    "context": {"kind": "hashing", "dim": 8},
    "payoff": {"name": "neg_loss"},
    "pairs": {"per_prompt": 2, "truncated": "keep"},
    "train": {
        "loss": "dpo+nll",
        "lr": 1e-3,
        "iterations": 1,
        "batch_prompts": 4,
        "batches_per_iteration": 3,
    },
    "eval": {"limit": 8},
    "audit": 0.9,
}


def test_a_real_run_fills_every_section(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from reward_router import config, run

    (tmp_path / "config.yaml").write_text(yaml.safe_dump(REAL))
    run.train(config.load(str(tmp_path / "config.yaml"), None, []), tmp_path / "run")
    page, _ = read(tmp_path / "run")
    for section in (
        "gold",
        "arms",
        "payoffs",
        "posterior",
        "training",
        "truth",
        "agreement",
        "cost",
        "left",
        "setup",
    ):
        assert section in page.ids, section
    for shown in (
        "Raw payoffs",
        "Mean choice probabilities",
        "Training loss",
        "Gold of the sampled responses",
        "calls: audit",
    ):
        assert shown in page.text, shown
    assert "48 calls" in page.text
