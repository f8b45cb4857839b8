"""CPU time and peak memory of response log-probabilities with gradient.

`python benchmarks/response_logps.py`. A Llama of SmolLM2-135M's shape (random weights, LoRA r16 on
all linear layers) scores 8 sequences of 256 tokens, 64 of them response. Three ways, each in a
process of its own: a plain log_softmax of all logits, TRL's fused output layer, ours.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from reward_router.training.logps import response_logps

ROWS, TOKENS, RESPONSE, VOCAB = 8, 256, 64, 49152


def model(layers: int) -> Any:
    """SmolLM2-135M's shape with ``layers`` layers, adapters attached."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    torch.manual_seed(0)
    heads = {"num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True}
    shape = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": layers, **heads}
    base = LlamaForCausalLM(LlamaConfig(vocab_size=VOCAB, **shape))
    add_fused_lm_head(base)
    return get_peft_model(base, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"))


def plain(lm: Any, ids_BT: Tensor, seen_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """All logits, their log_softmax, then the mask."""
    logps_BTV = (
        lm(input_ids=ids_BT, attention_mask=seen_BT, use_cache=False)
        .logits[:, :-1]
        .float()
        .log_softmax(-1)
    )
    return (logps_BTV.gather(2, ids_BT[:, 1:, None])[..., 0] * mask_BT[:, 1:]).sum()


def trl(lm: Any, ids_BT: Tensor, seen_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """TRL 1.16's fused output layer."""
    labels_BT = ids_BT.masked_fill(mask_BT == 0, -100)
    out = lm(
        input_ids=ids_BT,
        attention_mask=seen_BT,
        use_cache=False,
        labels=labels_BT,
        fused_lm_head=True,
    )
    total: Tensor = out.log_probs.sum()
    return total


def ours(lm: Any, ids_BT: Tensor, seen_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """This package."""
    return response_logps(lm, ids_BT, seen_BT, mask_BT)[0].sum()


WAYS: dict[str, Callable[..., Tensor]] = {"plain": plain, "trl": trl, "ours": ours}


def measure(way: str, layers: int, repeats: int) -> None:
    """Print the way's value, its CPU seconds and its memory.

    The seconds are those of a forward and backward, the memory that above the loaded model.
    """
    torch.set_num_threads(1)
    lm = model(layers)
    ids_BT = torch.randint(3, VOCAB, (ROWS, TOKENS))
    mask_BT = torch.zeros_like(ids_BT)
    mask_BT[:, -RESPONSE:] = 1
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(repeats):
        value = WAYS[way](lm, ids_BT, torch.ones_like(ids_BT), mask_BT)
        value.backward()
    cpu, wall = (time.process_time() - cpu) / repeats, (time.perf_counter() - wall) / repeats
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) / 1024
    print(
        f"{way:6} sum {value.item():.3f}  CPU {cpu:.2f} s  wall {wall:.2f} s  peak +{peak:.0f} MiB",
        flush=True,
    )


def main() -> None:
    """Run every way in its own process, so that peaks do not mix."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--way", choices=sorted(WAYS))
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    if args.way:
        measure(args.way, args.layers, args.repeats)
        return
    for way in WAYS:
        again = [
            sys.executable,
            __file__,
            "--way",
            way,
            "--layers",
            str(args.layers),
            "--repeats",
            str(args.repeats),
        ]
        subprocess.run(again, check=True)


if __name__ == "__main__":
    main()
