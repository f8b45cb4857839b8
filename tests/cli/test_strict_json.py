"""JSON that is written is strict JSON.

Names that are printed stand there as they were written.
"""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from reward_router import progress, strict_json
from reward_router.cache import cache_dir
from reward_router.config import Config
from reward_router.replay import embed
from reward_router.rundir import RunDir

NAMES = [
    "rm [v2]", "len [/short]", "o1 [high]", "[bold]", ":smile:", "judge\nv2", "a\tb", "\x1b[31mred",
    "\\[x]", "<b>", '"q"', "a|b", "名前", "x" * 300, "\ud83d", "[link=http://x]y[/link]",
    "../../etc", "100 %",
]  # fmt: skip


def strict(text: str) -> Any:
    def refuse(word: str) -> None:
        raise ValueError(word)

    return json.loads(text, parse_constant=refuse)


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    )
)
def test_whatever_is_written_any_reader_takes(value: Any) -> None:
    strict(strict_json.dumps(value))


def test_numbers_that_are_not_finite_are_null() -> None:
    value = {
        "a": math.nan,
        "b": [math.inf, (-math.inf, 1.0)],
        "c": np.float64("nan"),
        "d": np.array([1.0, np.nan]),
    }
    assert strict(strict_json.dumps(value)) == {
        "a": None,
        "b": [None, [None, 1.0]],
        "c": None,
        "d": [1.0, None],
    }


def test_a_log_with_bare_nan_of_an_older_version_is_read_and_written_strictly(
    tmp_path: Path,
) -> None:
    run = RunDir(tmp_path)
    run.metrics.write_text(
        '{"step": 0, "loss": NaN}\n{"step": 1, "loss": Infinity}\n', encoding="utf-8"
    )
    run.log({"step": 2, "loss": math.nan})
    assert [r["step"] for r in run.read_log()] == [0, 1, 2]
    run.trim_log(2)
    assert [strict(line) for line in run.metrics.read_text().splitlines()] == [
        {"step": 0, "loss": None},
        {"step": 1, "loss": None},
    ]


@pytest.mark.parametrize("markup", [True, False])
@pytest.mark.parametrize("name", NAMES, ids=lambda n: ascii(n)[:20])
def test_names_are_printed_as_they_are(name: str, markup: bool) -> None:
    """On a console of the user's own as well, which reads markup elsewhere."""
    nowhere = Path(os.devnull).open("w")  # noqa: SIM115 - the console holds it to its end
    console = Console(record=True, width=1000, markup=markup, file=nowhere)
    shown = progress.visible(name)
    table = progress.LiteralTable(name)
    table.column(name)
    table.row(name)
    progress.say(console, f"arm {name} failed", "yellow", faint=name)
    progress.show_table(console, table, width=900)
    progress.heading(console, name)
    with progress.status(console, name) as now:
        now(name)
    assert console.export_text().count(shown) >= 5
    assert "\x1b" not in shown
    assert "\n" not in shown


def test_a_wide_table_is_cut_nowhere() -> None:
    """A log file or a pipe counts as 80 columns; figures of a table that asks for more stay."""
    nowhere = Path(os.devnull).open("w")  # noqa: SIM115 - the console holds it to its end
    console = Console(record=True, width=80, file=nowhere)
    table = progress.LiteralTable("figures")
    cells = [f"{number}.5 [0.1, 0.9]" for number in range(8)]
    for cell in cells:
        table.column(cell, no_wrap=True)
    table.row(*cells)
    progress.show_table(console, table, width=200)
    shown = console.export_text()
    assert all(shown.count(cell) == 2 for cell in cells)


def test_the_cache_is_one_folder_for_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("REWARD_ROUTER_CACHE", "~/mine")
    assert cache_dir() == embed.cache_dir() == tmp_path / "mine"
    monkeypatch.delenv("REWARD_ROUTER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "~/xdg")
    assert cache_dir() == tmp_path / "xdg" / "reward-router"


def test_a_run_with_odd_names_and_a_payoff_that_gives_none(
    tiny: Callable[..., Config], tmp_path: Path
) -> None:
    run = pytest.importorskip("reward_router.run", reason="needs the packages of the extra `train`")
    from reward_router.report import training

    arms = [f"{{name: {json.dumps(n)}, kind: metric, metric: length, direction: {d}}}" for n,
            d in zip(
        ("len [/short]", ":smile: <b>\nv2"), ("short", "long"), strict=True)]  # fmt: skip
    ids = ["a|b", "x\ny", "../z", "[/INST]", "tab\t", "🙂"]
    rows = [
        {"id": i, "prompt": f"What is {n} + 1?", "category": f"c [/{n % 2}]"}
        for n, i in enumerate(ids)
    ]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    out = tmp_path / "out [x]" / "run [/y]"
    config = tiny(
        f"data={{source: {json.dumps(str(tmp_path / 'p.jsonl'))}}}",
        f"arms=[{', '.join(arms)}]",
        "payoff={name: neg_loss, history: 1}",
        "train={iterations: 1, batch_prompts: 6, batches_per_iteration: 1, lr: 1e-3}",
    )
    console = Console(record=True, width=200, file=Path(os.devnull).open("w"))  # noqa: SIM115
    summary = run.train(config, out, console=console)
    text = console.export_text()
    assert "len [/short]" in text
    assert ":smile: <b>\\nv2" in text
    assert "c [/0]" in text
    for line in (out / "metrics.jsonl").read_text().splitlines():
        strict(line)
    for file in ("summary.json", "manifest.json"):
        strict((out / file).read_text())
    shares = [row["share_by_category"] for row in summary["arms"].values()]
    assert {c for share in shares for c in share} == {
        "c [/0]",
        "c [/1]",
    }  # ids with | and the rest keep theirs
    assert sum(share["c [/0]"] for share in shares) == pytest.approx(1.0)
    page = training.write(out).read_text(encoding="utf-8")
    assert "len [/short]" in page
    assert "<b>\nv2" not in page
