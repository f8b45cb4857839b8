"""The two worked examples of CONTRIBUTING.md are files that work.

They do in the tables, in the library, in `replay` and in `train`.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reward_router import Dispatcher
from reward_router.config import ArmConfig, Config, RouterConfig
from reward_router.kinds import ARMS, PAYOFFS, ROUTERS, ArmKind, KindTable, RouterKind
from reward_router.replay.evaluate import ReplaySettings
from reward_router.replay.run import Selection, measure
from reward_router.rewards.configured import arm_pool, configured_arms
from reward_router.rewards.fingerprint import fingerprint

ROOT = Path(__file__).parents[2]
FILES = re.findall(
    r"^File `(\w+\.py)`:\n\n```python\n(.*?)^```",
    (ROOT / "CONTRIBUTING.md").read_text("utf-8"),
    re.S | re.M,
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the two files, under other names than the package has.

    It is the current directory.
    """
    for name, text in FILES:
        (tmp_path / f"my_{name}").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


class Service(BaseHTTPRequestHandler):
    """Scores a response by how many words it has."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps(
            {"scores": [[len(text.split()) for text in row] for row in asked["responses"]]}
        ).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_each_is_one_file_of_under_fifty_lines() -> None:
    assert [name for name, _ in FILES] == ["epsilon_greedy.py", "posted.py"]
    assert all(text.count("\n") < 50 for _, text in FILES)
    router = ROOT / "src" / "reward_router" / "routers" / "epsilon_greedy.py"
    assert dict(FILES)["epsilon_greedy.py"] == router.read_text(encoding="utf-8")


def test_a_file_in_the_folder_is_in_the_table(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package, of, name in (
        ("reward_router.rewards.kinds", ArmKind, "posted"),
        ("reward_router.routers", RouterKind, "epsilon_greedy"),
    ):
        folder = import_module(package)
        if name not in KindTable("kind", package, of):
            monkeypatch.setattr(folder, "__path__", [*folder.__path__, str(here)])
        assert name in KindTable("kind", package, of)


def test_the_arm_scores_and_the_router_routes_in_the_library(here: Path, url: str) -> None:
    arm = ArmConfig.model_validate({"name": "mine", "kind": "my_posted:Posted", "url": url})
    specs = configured_arms([arm])
    pool = arm_pool(specs, Config().pool, "cpu")
    ragged = pool.score("mine", ["a", "b"], [["one", "one two"], ["one two three"]])
    assert ragged.ok, ragged.error
    np.testing.assert_array_equal(ragged.scores_BN, [[1.0, 2.0], [3.0, np.nan]])
    assert fingerprint(specs[0]).startswith("own-")

    config = RouterConfig.model_validate(
        {"name": "my_epsilon_greedy:EpsilonGreedy", "epsilon": 0.2}
    )
    router = ROUTERS[config.name].build(["a", "b"], 3, config.options)
    dispatcher = Dispatcher(router, ["a", "b"])
    [decision] = dispatcher.route(np.ones((1, 3)), ["p"], 0)
    dispatcher.feedback(decision.id, 0.0)  # below the 1.0 that an arm without a payoff counts as
    assert router.probs(np.ones((1, 3)))[0, decision.arm] == pytest.approx(0.1)


def test_the_router_works_in_replay(here: Path) -> None:
    rows = []
    for i in range(30):
        scores = {
            "good": [1.0, 0.0] if i % 3 else [0.0, 1.0],
            "bad": [0.0, 1.0] if i % 3 else [1.0, 0.0],
        }
        rows.append(
            {
                "id": f"r{i}",
                "prompt": f"prompt {i}",
                "label": "a" if i % 3 else "b",
                "scores": scores,
            }
        )
    Path("scores.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
    )
    name = "my_epsilon_greedy:EpsilonGreedy:epsilon=0.2"
    settings = ReplaySettings(
        routers=[name, "epsilon_greedy:epsilon=0.2", "uniform"], seeds=2, folds=2
    )
    [result] = measure(["scores.jsonl"], Selection(), settings)["files"]
    accuracy = {label: entry["accuracy"] for label, entry in result["routers"].items()}
    assert accuracy[name] == accuracy["epsilon_greedy:epsilon=0.2"]
    assert accuracy[name] > accuracy["uniform"]


def test_both_work_in_train(here: Path, url: str, tiny: Callable[..., Config]) -> None:
    run = pytest.importorskip("reward_router.run", reason="needs the packages of the extra `train`")
    arms = [
        {"name": "mine", "kind": "my_posted:Posted", "url": url},
        {"name": "short", "kind": "metric", "metric": "length"},
    ]
    settings = (
        "router={name: 'my_epsilon_greedy:EpsilonGreedy', epsilon: 0.5}",
        f"arms={json.dumps(arms)}",
    )
    summary = run.train(tiny(*settings, "payoff.name=probe"), here / "run")
    assert summary["router"] == "my_epsilon_greedy:EpsilonGreedy"
    assert set(summary["arms"]) == {"mine", "short"}
    assert "epsilon: 0.5" in (here / "run" / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("table", "page"),
    [(ROUTERS, "routers.md"), (PAYOFFS, "training.md"), (ARMS, "reward-models.md")],
    ids=["routers", "payoffs", "arms"],
)
def test_every_name_stands_in_its_table_in_the_docs(table: KindTable[Any], page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert [kind.name for kind in table if f"| `{kind.name}` | {kind.sentence} |" not in text] == []
