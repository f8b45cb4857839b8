"""The exit codes of ``arms check``.

It ends with 2 for an arm that cannot be had, 1 for one that failed on every row, and 0 where only
some rows failed.
"""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the packages of the extra `train`")

from reward_router import cli
from reward_router.rewards.tiny import tiny_llama

SHORT = "{name: short, kind: metric, metric: length}"
ARMS = """
class Some:
    def score(self, prompts, responses):
        if any("3" in p for p in prompts):
            raise ValueError("no threes")
        return [[float(len(r)) for r in row] for row in responses]

class Nothing:
    def score(self, prompts, responses):
        raise ValueError("nothing at all")
"""


def check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arm: str
) -> tuple[int, str]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_arms.py").write_text(ARMS)
    (tmp_path / "arms.yaml").write_text(
        f"data: {{source: embedded}}\npolicy: {{model: tiny}}\narms: [{arm}, {SHORT}]\n"
    )
    rows = [
        {"prompt": f"What is {i}?", "chosen": f"{i}", "rejected": "I do not know."}
        for i in range(6)
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.setattr("sys.argv", ["reward-router", "arms", "check", "arms.yaml", "pairs.jsonl"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    return int(ended.value.code or 0), " ".join((said.out + said.err).split())


@pytest.mark.parametrize(
    ("arm", "code", "says"),
    [
        (
            "{name: own, kind: python, path: 'own_arms:Some'}",
            0,
            "own: 1 of 6 rows failed, e.g. ValueError: no threes",
        ),
        (
            "{name: own, kind: python, path: 'own_arms:Nothing'}",
            1,
            "own: ValueError: nothing at all",
        ),
        ("{name: rm, kind: classifier, model: causal}", 2, "score.weight"),
    ],
)
def test_exit_codes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arm: str,
    code: int,
    says: str,
) -> None:
    model, tokenizer = tiny_llama()
    model.save_pretrained(tmp_path / "causal")
    tokenizer.save_pretrained(tmp_path / "causal")
    got, said = check(tmp_path, monkeypatch, capsys, arm)
    assert got == code
    assert says in said
    assert "short" in said  # the other arms are checked all the same
