"""A language model small enough for tests: bytes as tokens, two Llama layers, no download.

Leaves out any language ability: the weights are random. Code written for real models runs on it in
milliseconds.
"""

from typing import Any

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL_TOKENS = ("<|im_start|>", "<|im_end|>", "<|pad|>")


def tiny_tokenizer() -> Any:
    """A fast tokenizer over the 256 bytes and three special tokens, with a chat template.

    It has 259 ids and no merges. Every string round-trips; one ASCII character is one token. O(1),
    no I/O.

    >>> tokenizer = tiny_tokenizer()
    >>> len(tokenizer), tokenizer.decode(tokenizer("two tokens?")["input_ids"])
    (259, 'two tokens?')
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    vocab = {byte: i for i, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    )
    return with_chat_template(backend)


def with_chat_template(backend: Any) -> Any:
    """A tokenizer of ``tokenizers`` that knows `SPECIAL_TOKENS`, as transformers takes it."""
    from transformers import PreTrainedTokenizerFast

    start, end, pad = SPECIAL_TOKENS
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=start,
        eos_token=end,
        pad_token=pad,
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
    )


def tiny_llama(
    seed: int = 0, hidden: int = 64, layers: int = 2, max_positions: int = 2048
) -> tuple[Any, Any]:
    """A random Llama (about 91 000 weights at the defaults) and its tokenizer.

    It is in float32, on the CPU, in eval mode. The weights depend on ``seed`` only; torch's global
    generator is left as it was. Cost O(weights), 10 ms.

    >>> model, tokenizer = tiny_llama(seed=1)
    >>> model.config.vocab_size == len(tokenizer)
    True
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tiny_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=max_positions,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    return model.eval(), tokenizer
