"""What scoring costs: the prompt computed once against once per response, float32 against bfloat16.

    python benchmarks/scoring.py [--model smollm2-135m-instruct] [--prompt 512] [--tokens 64]
        [--responses 16] [--repeats 3]

Token ids are real English (instructions of the embedded default, tokenized and cut). Prints
Markdown.
"""

import argparse
import resource
import time
from collections.abc import Callable
from itertools import cycle, islice

import numpy as np
import torch

from reward_router.rewards.loading import SMOLLM2, load_causal_lm, load_tokenizer
from reward_router.rewards.prefix import TokenScorer
from reward_router.tasks import generate

Tokens = list[int]


def english(tokenizer: object, count: int, split: str) -> Tokens:
    text = " ".join(task.prompt for task in islice(cycle(generate(split)), 200))
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]  # type: ignore[operator]
    return list(islice(cycle(ids), count))


def workload(
    tokenizer: object, prompts: int, prompt: int, responses: int, tokens: int
) -> tuple[list, list]:
    source = english(tokenizer, prompts * (prompt + responses * tokens), "train")
    heads = [source[b * prompt : (b + 1) * prompt] for b in range(prompts)]
    rest = source[prompts * prompt :]
    pieces = [rest[i * tokens : (i + 1) * tokens] for i in range(prompts * responses)]
    return heads, [pieces[b * responses : (b + 1) * responses] for b in range(prompts)]


def timed(work: Callable[[], object], repeats: int) -> tuple[float, float, object]:
    """Medians of wall and CPU seconds, and the last result."""
    wall, cpu, result = [], [], None
    for _ in range(repeats):
        start = time.perf_counter(), time.process_time()
        result = work()
        wall.append(time.perf_counter() - start[0])
        cpu.append(time.process_time() - start[1])
    return float(np.median(wall)), float(np.median(cpu)), result


def flat(values: list) -> np.ndarray:
    return np.concatenate([piece for row in values for piece in row])


def flips(reference: np.ndarray, other: np.ndarray, responses: list) -> float:
    """Share of pairs of responses to one prompt that are ordered otherwise.

    Their mean log-likelihoods stand the other way round.
    """
    means = [v.reshape(len(responses), len(responses[0]), -1).mean(2) for v in (reference, other)]
    first, second = (
        np.sign(m[:, :, None] - m[:, None, :])[:, ~np.eye(m.shape[1], dtype=bool)] for m in means
    )
    return float((first != second).mean())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default=SMOLLM2)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--responses", type=int, default=16)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    tokenizer = load_tokenizer(options.model)
    long_job = workload(tokenizer, 1, options.prompt, options.responses, options.tokens)
    batch_job = workload(tokenizer, 16, 45, 8, 48)
    jobs = {
        f"1 x {options.responses} x {options.tokens} on {options.prompt}": long_job,
        "16 x 8 x 48 on 45": batch_job,
    }
    print(
        f"model {options.model}, torch {torch.__version__}, {torch.get_num_threads()} thread(s), "
        f"device {options.device}\n"
    )
    print(
        "| job (prompts x responses x tokens on prompt) | dtype | prompt | token-forwards "
        "| wall s | CPU s | responses/s |"
    )
    print("|---|---|---|---|---|---|---|")
    scores: dict[tuple[str, str, bool], np.ndarray] = {}
    for dtype in options.dtypes.split(","):
        model = None
        model = load_causal_lm(options.model, dtype=dtype, device=options.device)
        for name, (prompts, responses) in jobs.items():
            for share in (True, False):
                scorer = TokenScorer(model, batch_tokens=options.batch_tokens, share=share)
                scorer.logprobs(prompts[:1], [responses[0][:1]])  # warm-up
                scorer.token_forwards = 0
                wall, cpu, result = timed(
                    lambda s=scorer, p=prompts, r=responses: s.logprobs(p, r), options.repeats
                )
                scores[name, dtype, share] = flat(result)  # type: ignore[arg-type]
                forwards = scorer.token_forwards // options.repeats
                count = sum(map(len, responses))
                how = "once" if share else "each time"
                print(
                    f"| {name} | {dtype} | {how} | {forwards} | {wall:.2f} | {cpu:.2f} "
                    f"| {count / wall:.1f} |",
                    flush=True,
                )
    print(
        "\n| job | compared | largest difference per token "
        "| pairs of a prompt ordered otherwise by mean |\n|---|---|---|---|"
    )
    first = options.dtypes.split(",")[0]
    for name, (_, responses) in jobs.items():
        reference = scores[name, first, False]
        for dtype in options.dtypes.split(","):
            for share in (True, False):
                other = scores[name, dtype, share]
                if other is not reference:
                    what = f"{dtype}, {'once' if share else 'each time'} against {first}, each time"
                    gap = np.abs(other - reference).max()
                    print(
                        f"| {name} | {what} | {gap:.1e} "
                        f"| {flips(reference, other, responses):.4f} |"
                    )
    print(f"\npeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
