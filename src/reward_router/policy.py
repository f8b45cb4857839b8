"""The policy: the language model being aligned.

It samples, embeds prompts for the router, and keeps its LoRA adapters. There are two copies of the
weights: the trained one (float32, with adapters), and a sampler that receives ``W + B A`` before
each round. Sampling is a plain decoding loop around the model's forward pass, with four differences
from ``generate`` that leave its law as it is:

1. a prompt is prefilled once, and its cache is repeated for the N responses;
2. tokens are drawn by inverse CDF from uniforms keyed by (seed, step, prompt, response), so that a
   step that is run again draws the same responses, and (up to the rounding of a batch's shape) so
   does another process with another shard;
3. the output layer sees contiguous input (torch otherwise expands the vocabulary matrix once per
   row of the batch);
4. a response that has ended leaves the batch, so that the time goes with the tokens made and not
   with the longest response.

vLLM takes the sampler's place with ``engine: vllm``: the adapter is written, and loaded again,
before each round. Left out: policies over several devices (use TRL, OpenRLHF or verl for those; see
docs).
"""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from reward_router.chat import Prompt
from reward_router.config import PolicyConfig, TrainConfig
from reward_router.errors import InputError, RunError
from reward_router.keyed import Purpose, rng
from reward_router.responses import Response
from reward_router.rewards.loading import load_causal_lm, load_tokenizer, torch_device
from reward_router.rewards.weights import context_of
from reward_router.types import Float

KEEP_SHARE = 0.8
"""Rows still going, as a share of the batch, at or below which the ended ones leave it."""


class Stream(NamedTuple):
    """Which uniforms responses are drawn from.

    Each response has its own, keyed by this stream, its prompt's id, and its number.
    """

    seed: int
    purpose: Purpose
    step: int


TRIAL = Stream(0, "eval", 0)
"""What is measured is drawn from one stream, whatever the run's seed and the step."""


class Decoding(NamedTuple):
    """How responses are generated.

    Args:
        n: responses a prompt.
        stream: the uniforms that tokens are drawn from.
        temperature: what logits are divided by; 0: greedy.
        limit: most new tokens of a response.
    """

    n: int
    stream: Stream
    temperature: float
    limit: int


class PolicyText:
    """How a policy reads a prompt: its tokenizer, its template, its limits.

    It needs no weights, so that a dry run can use it.

    Args:
        config: of the policy.
        tokenizer: of its model.
        context: tokens that the model can read, prompt and response together; None: it names no
            limit.
    """

    def __init__(self, config: PolicyConfig, tokenizer: Any, context: int | None) -> None:
        """InputError for a tokenizer without EOS, or a context without room for a prompt."""
        self.config = config
        self.tokenizer = tokenizer
        self.context = context
        if tokenizer.eos_token_id is None:
            raise InputError(
                f"policy.model={config.model!r}: its tokenizer has no EOS token, so no response "
                "could end; name one (eos_token in tokenizer_config.json), or give a policy that "
                "has one"
            )
        if self.limit < 1:
            raise InputError(
                f"policy.max_new_tokens={config.max_new_tokens} leaves no room for a prompt in the "
                f"{context} tokens that {config.model} can read; allowed less than {context}"
            )

    @property
    def limit(self) -> int:
        """Most tokens of a prompt.

        It is ``policy.max_prompt_tokens``, or what a whole response leaves of the context where
        that is less.
        """
        most = self.config.max_prompt_tokens
        if self.context is None:
            return most
        return min(most, self.context - self.config.max_new_tokens)

    @property
    def eos(self) -> int:
        """The token that ends a turn."""
        return int(self.tokenizer.eos_token_id)

    def render(self, prompt: Prompt) -> str:
        """The prompt as text, up to where the response starts.

        A tokenizer without a chat template gets the contents of the messages as they are.
        InputError where the chat template refuses the messages.
        """
        if isinstance(prompt, str):
            messages: list[Mapping[str, Any]] = [{"role": "user", "content": prompt}]
        else:
            messages = list(prompt)
        system_added = self.config.system is not None and messages[0]["role"] != "system"
        if system_added:
            messages = [{"role": "system", "content": str(self.config.system)}, *messages]
        if self.tokenizer.chat_template is None:
            return "\n".join(m["content"] for m in messages if m["content"])
        try:
            text: str = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        except Exception as error:
            # Whatever it raises: a template is foreign code, and there may be several of them with
            # none to choose.
            roles = ", ".join(message["role"] for message in messages)
            advice = "give prompts in roles that it knows"
            if system_added:
                advice = "policy.system: null adds no system turn"
            raise InputError(
                f"policy.model={self.config.model!r}: its chat template refuses a prompt with the "
                f"roles {roles}: {_in_one_line(error)} ({advice})"
            ) from None
        return text

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Token ids of a rendered prompt; InputError where it is longer than `limit`."""
        ids = self._ids(prompt)
        if len(ids) > self.limit:
            most = self.config.max_prompt_tokens
            reason = (
                f"{self.config.model} reads {self.context}, "
                f"less policy.max_new_tokens={self.config.max_new_tokens} that is {self.limit}"
            )
            if self.limit == most:
                reason = f"policy.max_prompt_tokens allows {most}"
            raise InputError(
                f"prompt {str(prompt)[:60]!r} has {len(ids)} tokens; {reason} "
                "(data.long_prompts: skip leaves such prompts out)"
            )
        return ids

    def takes(self, prompt: Prompt) -> bool:
        """Whether a prompt is within `limit`."""
        return len(self._ids(prompt)) <= self.limit

    def _ids(self, prompt: Prompt) -> list[int]:
        # A template writes its own BOS; without one the tokenizer has to add it. Some tokenizers
        # then add an EOS as well, behind which nobody could go on.
        no_template = self.tokenizer.chat_template is None
        text = self.render(prompt)
        encoded = self.tokenizer(text, add_special_tokens=no_template)
        ids: list[int] = encoded["input_ids"]

        ends_in_eos = no_template and len(ids) > 1 and ids[-1] == self.eos
        return ids[:-1] if ends_in_eos else ids


def _in_one_line(error: Exception) -> str:
    """What a foreign exception says, on one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


class Policy:
    """A causal LM with a trained LoRA adapter ``policy`` and a frozen one ``reference``.

    Args:
        config: the model and how it is sampled.
        train: the shape of the adapters.
        seed: of the adapters' first weights and of the responses.
    """

    def __init__(self, config: PolicyConfig, train: TrainConfig, seed: int) -> None:
        """Load the model and attach fresh adapters (B = 0: they change nothing yet).

        InputError where the model cannot be read.
        """
        self.config = config
        self.seed = seed
        self.at_reference = False
        """Whether the reference adapter holds the policy's very weights."""
        self.device = torch_device(config.device)
        self.tokenizer = load_tokenizer(config.model, trust_remote_code=config.trust_remote_code)
        base = self._load(config.dtype)
        self.text = PolicyText(config, self.tokenizer, context_of(base.config))
        self.model = attach_adapters(base, train, seed)
        self.sampler: TransformersSampler | VLLMSampler
        if config.engine == "vllm":
            self.sampler = VLLMSampler(self)
        else:
            copy = self._load(sample_dtype(config, self.device))
            self.sampler = TransformersSampler(copy, self)
        self.sync()

    def _load(self, dtype: str) -> Any:
        trust = self.config.trust_remote_code
        return load_causal_lm(
            self.config.model, dtype=dtype, device=self.device, trust_remote_code=trust
        )

    def sync(self) -> None:
        """Give the sampler the adapter's present weights; call it after training steps."""
        self.sampler.sync()

    def sample(
        self, prompts: Sequence[Prompt], ids: Sequence[str], n: int, step: int
    ) -> list[list[Response]]:
        """N sampled responses per prompt, at the configured temperature.

        The same step and ids draw the same responses again.
        """
        stream = Stream(self.seed, "sample", step)
        how = Decoding(n, stream, self.config.temperature, self.config.max_new_tokens)
        return self.sampler.generate(prompts, ids, how)

    def trial(
        self,
        prompts: Sequence[Prompt],
        ids: Sequence[str],
        n: int,
        max_new_tokens: int | None = None,
    ) -> list[list[Response]]:
        """N responses per prompt as in :meth:`sample`, for measuring.

        They are drawn from the same uniforms for the same ids, whatever the seed or the step. Two
        policies, or two runs, then differ by what they learned and not by their luck.
        """
        limit = max_new_tokens or self.config.max_new_tokens
        how = Decoding(n, TRIAL, self.config.temperature, limit)
        return self.sampler.generate(prompts, ids, how)

    def answer(
        self, prompts: Sequence[Prompt], max_new_tokens: int | None = None
    ) -> list[Response]:
        """One greedy response per prompt."""
        limit = max_new_tokens or self.config.max_new_tokens
        # Greedy responses draw nothing, so that their prompts need no ids.
        no_ids = [""] * len(prompts)
        groups = self.sampler.generate(prompts, no_ids, Decoding(1, TRIAL, 0.0, limit))
        return [response for [response] in groups]

    def embed(self, prompts: Sequence[Prompt], pooling: str) -> Float:
        """(B, D) embeddings of prompts under the live policy.

        Args:
            prompts: B of them.
            pooling: ``last_hidden`` (the paper's), ``mean_hidden`` or ``mean_input``.
        """
        if not prompts:
            width = int(self.model.config.hidden_size)
            return np.zeros((0, width))
        size = self.config.sample_batch
        rows = []
        for start in range(0, len(prompts), size):
            chunk = prompts[start : start + size]
            rows.append(self._embed(chunk, pooling))
        return np.concatenate(rows)

    def _embed(self, prompts: Sequence[Prompt], pooling: str) -> Float:
        batch = self.tokenize(prompts)
        model = self.model.get_base_model()
        mask_BT = batch["attention_mask"]
        with torch.no_grad(), self.using("policy"):
            if pooling == "mean_input":
                # The embeddings alone, before any layer: no forward pass is needed.
                hidden_BTD = model.get_input_embeddings()(batch["input_ids"])
            else:
                hidden_BTD = model.base_model(**batch).last_hidden_state
        if pooling == "last_hidden":
            # Prompts are padded on the left: the last column is the last token.
            rows_BD = hidden_BTD[:, -1]
        else:
            # Padding is masked out of the sum and of the count.
            total_BD = (hidden_BTD * mask_BT[..., None]).sum(1)
            rows_BD = total_BD / mask_BT.sum(1, keepdim=True)
        return np.asarray(rows_BD.float().cpu().numpy(), dtype=np.float64)

    def render(self, prompt: Prompt) -> str:
        """The prompt as text, up to where the response starts (`PolicyText.render`)."""
        return self.text.render(prompt)

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Token ids of a rendered prompt; InputError where there are too many of them."""
        return self.text.prompt_ids(prompt)

    def takes(self, prompt: Prompt) -> bool:
        """Whether a prompt is short enough (`PolicyText.limit`)."""
        return self.text.takes(prompt)

    def response_ids(self, response: str) -> list[int]:
        """Token ids of a response and its EOS, so that the policy is taught to stop.

        A response that the token limit cut did not stop there, and gets no EOS.
        """
        ids: list[int] = self.tokenizer(response, add_special_tokens=False)["input_ids"]
        was_cut = isinstance(response, Response) and not response.finished
        return ids if was_cut else [*ids, self.eos]

    @property
    def eos(self) -> int:
        """The token that ends a turn."""
        return self.text.eos

    def tokenize(self, prompts: Sequence[Prompt]) -> dict[str, Tensor]:
        """Rendered prompts as left-padded tensors on the policy's device."""
        rows = [self.prompt_ids(prompt) for prompt in prompts]
        width = max(map(len, rows))
        pad = self.tokenizer.pad_token_id
        tokens = []
        mask = []
        for ids in rows:
            padding = width - len(ids)
            tokens.append([pad] * padding + ids)
            mask.append([0] * padding + [1] * len(ids))
        return {
            "input_ids": torch.tensor(tokens, device=self.device),
            "attention_mask": torch.tensor(mask, device=self.device),
        }

    @contextmanager
    def using(self, adapter: str) -> Iterator[None]:
        """Run with one adapter (``policy`` or ``reference``), in eval mode.

        Afterwards the policy's adapter is trained again, if it was before.
        """
        training = self.model.training
        self.model.eval()
        self.model.set_adapter(adapter, inference_mode=True)
        try:
            yield
        finally:
            # Whatever happened inside: training on with the reference adapter would change it.
            self.model.set_adapter("policy")
            self.model.train(training)

    def snapshot_reference(self) -> None:
        """reference := policy, at the start of an iteration (LASER: the reference is pi_{m-1})."""
        self.load_adapter(self.adapter_state("policy"), "reference")
        self.at_reference = True

    def adapter_state(self, adapter: str = "policy") -> dict[str, Tensor]:
        """Copies of one adapter's tensors by parameter name, without the adapter's name in it."""
        parameters = self._parameters(adapter)
        return {name: tensor.detach().cpu().clone() for name, tensor in parameters.items()}

    def _parameters(self, adapter: str) -> dict[str, Tensor]:
        tag = f".{adapter}."
        return {
            name.replace(tag, "."): parameter
            for name, parameter in self.model.named_parameters()
            if tag in name
        }

    def load_adapter(self, state: dict[str, Tensor], adapter: str = "policy") -> None:
        """Copy tensors made by :meth:`adapter_state` into an adapter.

        InputError where they do not fit.
        """
        own = self._parameters(adapter)
        fits = own.keys() == state.keys() and all(
            parameter.shape == state[name].shape for name, parameter in own.items()
        )
        if not fits:
            raise InputError(
                "the checkpoint's adapter belongs to another model or LoRA configuration"
            )
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(state[name])

    def save_pretrained(self, folder: Path) -> None:
        """Write the adapter into ``folder`` in PEFT's format, which PEFT, vLLM and TRL load."""
        # It is written beside its place and renamed, so that no half of an adapter is ever there.
        with tempfile.TemporaryDirectory(dir=folder.parent) as beside:
            self.model.save_pretrained(beside, selected_adapters=["policy"])
            shutil.rmtree(folder, ignore_errors=True)
            (Path(beside) / "policy").rename(folder)


def attach_adapters(base: Any, train: TrainConfig, seed: int) -> Any:
    """The base model with two LoRA adapters in float32, ``policy`` (trained) and ``reference``.

    Args:
        base: a causal LM; it is changed in place.
        train: the rank, the scale and the layers of the adapters.
        seed: of their first weights.

    InputError for layers that the model does not have.
    """
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(
        r=train.lora_r,
        lora_alpha=train.lora_alpha,
        lora_dropout=0.0,
        target_modules=train.lora_targets,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng(seed, "init", 0, "lora").integers(2**62)))
        try:
            model = get_peft_model(base, lora, adapter_name="policy")
            model.add_adapter("reference", lora)
        except ValueError as error:
            raise InputError(f"train.lora_targets={train.lora_targets!r}: {error}") from None
    model.set_adapter("policy")
    if train.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    return model


def sample_dtype(config: PolicyConfig, device: str) -> str:
    """The number format that the sampler computes in.

    ``auto`` is bfloat16 where the hardware multiplies it faster than float32 (a GPU, AVX512-BF16,
    AMX), else float32.
    """
    if config.sample_dtype != "auto":
        return config.sample_dtype
    cpu = torch.cpu
    fast = device != "cpu" or cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported()
    return "bfloat16" if fast else "float32"


class TransformersSampler:
    """A merged copy of the policy that only generates."""

    def __init__(self, model: Any, policy: Policy) -> None:
        """``model`` is the base weights, in the sampling dtype; :meth:`sync` adds the adapter."""
        self.model = model
        self.policy = policy
        # Difference 3 of the module docstring.
        model.get_output_embeddings().register_forward_pre_hook(
            lambda _, args: (args[0].contiguous(), *args[1:])
        )

    def sync(self) -> None:
        """Set the weights of every adapted layer to W + scaling B A."""
        own = dict(self.model.named_parameters())
        adapted = self.policy.model.get_base_model()
        with torch.no_grad():
            for name, layer in adapted.named_modules():
                has_adapter = hasattr(layer, "lora_A") and "policy" in layer.lora_A
                if has_adapter:
                    base = layer.get_base_layer().weight
                    delta = layer.get_delta_weight("policy")
                    own[f"{name}.weight"].copy_(base + delta)

    def generate(
        self, prompts: Sequence[Prompt], ids: Sequence[str], how: Decoding
    ) -> list[list[Response]]:
        """``how.n`` responses to each prompt; prompts of similar length are generated together."""
        lengths = [len(self.policy.prompt_ids(prompt)) for prompt in prompts]
        by_length = sorted(range(len(prompts)), key=lambda i: lengths[i])
        # A prompt is as many rows of the batch as it gets responses.
        per_call = max(1, self.policy.config.sample_batch // how.n)

        responses: list[list[Response]] = [[] for _ in prompts]
        for start in range(0, len(by_length), per_call):
            rows = by_length[start : start + per_call]
            row_prompts = [prompts[i] for i in rows]
            row_ids = [ids[i] for i in rows]
            groups = self._call(row_prompts, row_ids, how)
            for i, group in zip(rows, groups, strict=True):
                responses[i] = group
        return responses

    def _call(self, prompts: list[Prompt], ids: list[str], how: Decoding) -> list[list[Response]]:
        batch = self.policy.tokenize(prompts)
        draws = _KeyedDraws(self.policy, ids, how)
        with torch.inference_mode():
            tokens_BT = self._decode(batch, how.n, how.limit, draws)
        texts = self.policy.tokenizer.batch_decode(tokens_BT, skip_special_tokens=True)

        is_eos_BT = tokens_BT == self.policy.eos
        ended = is_eos_BT.any(1).tolist()
        # Up to and with the first EOS; where there is none, all of them.
        eos_before_BT = is_eos_BT.cumsum(1) - is_eos_BT.long()
        lengths = (eos_before_BT == 0).sum(1).tolist()

        rows = zip(texts, ended, lengths, strict=True)
        responses = [Response(text, end, length) for text, end, length in rows]
        # The batch holds the n responses of a prompt one after the other.
        starts = range(0, len(responses), how.n)
        return [responses[start : start + how.n] for start in starts]

    def _decode(self, batch: dict[str, Tensor], n: int, limit: int, draws: "_KeyedDraws") -> Tensor:
        """(B N, limit) new tokens: each response, its EOS, and padding.

        A response that has ended costs nothing from then on: once a fifth of the rows have ended
        they leave the batch.
        """
        ids_BT = batch["input_ids"].repeat_interleave(n, 0)
        mask_BT = batch["attention_mask"].repeat_interleave(n, 0)
        pad = int(self.policy.tokenizer.pad_token_id)
        out_BT = torch.full((len(ids_BT), limit), pad, device=ids_BT.device)
        # The last token of a prompt is not prefilled: its pass gives the first token's logits.
        cache = self._prefill(batch, n) if ids_BT.shape[1] > 1 else None
        token_B = ids_BT[:, -1]
        position_B = mask_BT.sum(1) - 1
        rows_B = torch.arange(len(ids_BT), device=ids_BT.device)
        ended_B = torch.zeros_like(rows_B, dtype=torch.bool)
        for t in range(limit):
            result = self.model(
                input_ids=token_B[:, None],
                attention_mask=mask_BT,
                position_ids=position_B[:, None],
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = result.past_key_values
            token_B = draws.next(result.logits[:, -1], rows_B, t)
            out_BT[rows_B[~ended_B], t] = token_B[~ended_B]
            ended_B |= token_B == self.policy.eos
            alive = int((~ended_B).sum())
            if alive == 0:
                break
            if alive <= KEEP_SHARE * len(rows_B):
                kept = torch.nonzero(~ended_B)[:, 0]
                cache.batch_select_indices(kept)
                mask_BT = mask_BT[kept]
                position_B = position_B[kept]
                rows_B = rows_B[kept]
                token_B = token_B[kept]
                ended_B = ended_B[kept]
            mask_BT = torch.cat([mask_BT, torch.ones_like(mask_BT[:, :1])], 1)
            position_B = position_B + 1
        return out_BT

    def _prefill(self, batch: dict[str, Tensor], n: int) -> Any:
        """The key-value cache of all prompt tokens but the last, repeated for n responses."""
        positions = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
        cache = self.model.base_model(
            input_ids=batch["input_ids"][:, :-1],
            attention_mask=batch["attention_mask"][:, :-1],
            position_ids=positions[:, :-1],
            use_cache=True,
        ).past_key_values
        cache.batch_repeat_interleave(n)
        return cache


class _KeyedDraws:
    """The next token of each row, by inverse CDF from keyed uniforms; greedy at temperature 0."""

    def __init__(self, policy: Policy, ids: list[str], how: Decoding) -> None:
        self.temperature = how.temperature
        self.top_p = policy.config.top_p
        if how.temperature > 0:
            uniforms = []
            for prompt_id in ids:
                for number in range(how.n):
                    draw = rng(*how.stream, f"{prompt_id}/{number}")
                    uniforms.append(draw.random(how.limit))
            self.uniform_BT = torch.tensor(
                np.array(uniforms), dtype=torch.float64, device=policy.device
            )

    def next(self, logits_BV: Tensor, rows_B: Tensor, t: int) -> Tensor:
        """(B,) token ids.

        Args:
            logits_BV: of the next token.
            rows_B: which responses these rows are.
            t: the token's place in the response.
        """
        if self.temperature == 0:
            return logits_BV.argmax(-1)
        u_B = self.uniform_BT[rows_B, t]
        # Temperature first, then the nucleus: the order of every sampler we know of.
        scaled_BV = logits_BV.float() / self.temperature
        if self.top_p < 1:
            scaled_BV = _nucleus(scaled_BV, self.top_p)

        p_BV = torch.softmax(scaled_BV, -1)
        cdf_BV = p_BV.cumsum(-1)
        token_B1 = draw_tokens(p_BV, cdf_BV, u_B)
        return token_B1[:, 0]


def draw_tokens(p_BV: Tensor, cdf_BV: Tensor, u_B: Tensor) -> Tensor:
    """(B, 1) tokens by inverse CDF, never one of probability 0.

    Args:
        p_BV: the probabilities of the tokens.
        cdf_BV: their cumulative sum.
        u_B: one uniform a row.
    """
    # A uniform that rounds to 1 in float32 would lie beyond the last token that has a probability,
    # and the last of the vocabulary would be drawn: the target stays below the whole mass.
    total_B = cdf_BV[:, -1]
    below_B = torch.nextafter(total_B, torch.zeros_like(total_B))
    target_B = torch.minimum(u_B.float() * total_B, below_B)

    last_token = p_BV.shape[1] - 1
    place_B1 = torch.searchsorted(cdf_BV, target_B[:, None], right=True)
    token_B1 = place_B1.clamp(max=last_token)

    # Rounding of the sum may step over a token of probability 0: the likeliest takes its place.
    impossible_B1 = p_BV.gather(1, token_B1) == 0
    likeliest_B1 = p_BV.argmax(1, keepdim=True)
    return torch.where(impossible_B1, likeliest_B1, token_B1)


def _nucleus(logits_BV: Tensor, top_p: float) -> Tensor:
    """The logits with every token outside the nucleus at minus infinity.

    The nucleus is the likeliest tokens up to the one with which their mass reaches ``top_p``.
    """
    sorted_BV, index_BV = logits_BV.sort(-1, descending=True)
    p_BV = torch.softmax(sorted_BV.float(), -1)
    # Without its own mass: the token that reaches ``top_p`` still belongs to the nucleus.
    mass_before_BV = p_BV.cumsum(-1) - p_BV
    past_nucleus_BV = mass_before_BV >= top_p

    outside_BV = torch.zeros_like(logits_BV, dtype=torch.bool)
    outside_BV.scatter_(1, index_BV, past_nucleus_BV)
    return logits_BV.masked_fill(outside_BV, float("-inf"))


class VLLMSampler:
    """vLLM in the sampler's place.

    The adapter is saved, and loaded under a new LoRA id, before each round.
    """

    def __init__(self, policy: Policy) -> None:
        """Start the engine; InputError where vLLM is not installed."""
        try:
            from vllm import LLM
        except ImportError:
            raise InputError(
                "policy.engine: vllm needs the vllm package (pip install vllm); "
                "allowed without it: transformers"
            ) from None
        config = policy.config
        self.policy = policy
        self.version = 0
        self.folder = tempfile.TemporaryDirectory()
        largest_rank = max(adapter.r for adapter in policy.model.peft_config.values())
        self.engine = LLM(
            model=config.model,
            enable_lora=True,
            max_lora_rank=max(16, largest_rank),
            max_model_len=config.max_prompt_tokens + config.max_new_tokens,
            trust_remote_code=config.trust_remote_code,
        )

    def sync(self) -> None:
        """Write the adapter where the next generate call loads it from."""
        self.version += 1
        self.policy.save_pretrained(Path(self.folder.name) / str(self.version))

    def generate(
        self, prompts: Sequence[Prompt], ids: Sequence[str], how: Decoding
    ) -> list[list[Response]]:
        """``how.n`` responses to each prompt; every prompt has its own keyed seed."""
        from vllm import SamplingParams
        from vllm.lora.request import LoRARequest

        params = []
        for prompt_id in ids:
            seed = int(rng(*how.stream, prompt_id).integers(2**31))
            params.append(
                SamplingParams(
                    n=how.n,
                    temperature=how.temperature,
                    top_p=self.policy.config.top_p,
                    max_tokens=how.limit,
                    seed=seed,
                )
            )
        folder = Path(self.folder.name) / str(self.version)
        adapter = LoRARequest(str(self.version), self.version, str(folder))
        inputs = [{"prompt_token_ids": self.policy.prompt_ids(prompt)} for prompt in prompts]
        outputs = self.engine.generate(inputs, params, lora_request=adapter, use_tqdm=False)
        if len(outputs) != len(prompts):
            raise RunError(f"vLLM returned {len(outputs)} outputs for {len(prompts)} prompts")
        return [_responses(output.outputs) for output in outputs]


def _responses(completions: Sequence[Any]) -> list[Response]:
    """vLLM's completions of one prompt; one is whole where the model stopped by itself."""
    responses = []
    for made in completions:
        stopped = made.finish_reason == "stop"
        responses.append(Response(made.text, stopped, len(made.token_ids)))
    return responses
