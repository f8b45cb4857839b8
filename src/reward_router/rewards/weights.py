"""A checkpoint against the model built from it: weights that a file lacks are never made up.

transformers fills what a checkpoint does not hold with random numbers and a warning. Here that is
bad input: the missing tensors are named. Tied weights are not missing, and a reward head that
another project saved under its own name (TRL's ``v_head``, ``value_head``) is read. The same check
runs on a skeleton without memory (``meta``), so that a dry run can make it. Leaves out quantised
checkpoints.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from reward_router.errors import InputError

HeadKind = Literal["causal", "classifier", "body"]
"""What is asked of a checkpoint: next-token logits, a reward head, or hidden states alone."""

AUTO = {
    "causal": "AutoModelForCausalLM",
    "classifier": "AutoModelForSequenceClassification",
    "body": "AutoModel",
}
OWN_HEADS = ("v_head.summary", "v_head", "value_head.summary", "value_head", "reward_head")
"""Where other projects keep the linear head of a reward or value model.

They are TRL, OpenRLHF, DeepSpeed-Chat and LLaMA-Factory.
"""
_CAUSAL = ("forcausallm", "lmheadmodel")
_CLASSIFIER = ("forsequenceclassification",)
_NAMED = 6  # missing tensors that a message names


def load_whole(
    head: HeadKind,
    name: str,
    path: str,
    *,
    dtype: Any = "auto",
    trust_remote_code: bool = False,
    meta: bool = False,
) -> Any:
    """The model of a checkpoint, every weight of it from the checkpoint.

    ``meta``: whether only its skeleton is made, which takes no memory.
    InputError where weights are missing or of another shape, where the checkpoint was saved for
    another head, or cannot be read.
    """
    import transformers

    options: dict[str, Any] = {"use_safetensors": True, "trust_remote_code": trust_remote_code}
    # So that weights of another shape are named here; they are refused below.
    options["ignore_mismatched_sizes"] = True
    foreign = _own_head(path) if head == "classifier" else None
    if foreign is not None:
        options["num_labels"] = foreign[1]
    if meta:
        options["device_map"] = "meta"
    with _quiet(progress=not meta):
        model, info = getattr(transformers, AUTO[head]).from_pretrained(
            path, dtype=dtype, output_loading_info=True, **options
        )
    missing = set(info["missing_keys"])
    if head == "body":
        # Hidden states are read before the pooler.
        missing = {key for key in missing if "pooler." not in key}
    if foreign is not None and missing == {"score.weight"}:
        if not meta:
            _set_head(model, path, foreign[0])
        return model
    _check_architecture(head, name, model, trust_remote_code, missing)
    if missing or info["mismatched_keys"]:
        raise InputError(
            f"model {name!r} {_lacks(missing, info['mismatched_keys'])} ({_hint(head, model)})"
        )
    return model


def check_finite(name: str, model: Any) -> None:
    """InputError, with the tensor's name, where a weight is NaN or infinite.

    Such a model has no scores. O(weights).
    """
    for key, weight in model.named_parameters():
        if weight.is_floating_point() and not bool(weight.isfinite().all()):
            dtype = str(weight.dtype).removeprefix("torch.")
            raise InputError(
                f"model {name!r}: {key} holds NaN or infinite values in {dtype}; "
                "the checkpoint is damaged, or its weights do not fit this dtype "
                "(give dtype: float32)"
            )


def reward_head_in_float32(model: Any, path: str) -> None:
    """Let a classifier's head multiply in float32 whatever the model's dtype.

    Its weights are read again where the file holds finer ones. In bfloat16 200 responses of one
    prompt had 56 distinct scores; a gap between two responses is smaller than that grid.
    """
    import torch

    if model.dtype == torch.float32:
        return
    for part in ("score", "classifier", "classification_head"):
        module = getattr(model, part, None)
        if isinstance(module, torch.nn.Module):
            module.float()
            module.register_forward_pre_hook(_widen)
            names = {key: f"{part}.{key}" for key, _ in module.named_parameters()}
            kept = read_tensors(path, list(names.values()))
            with torch.no_grad():
                for key, weight in module.named_parameters():
                    own = kept.get(names[key])
                    if own is not None and own.shape == weight.shape:
                        weight.copy_(own.float())
            return


def read_tensors(path: str, names: list[str]) -> dict[str, Any]:
    """Those of the named tensors that a local checkpoint's safetensors hold, in their own dtype."""
    from safetensors import safe_open

    named: dict[str, Any] = {}
    for file in _files(path):
        with safe_open(file, framework="pt") as tensors:
            held = set(tensors.keys())
            named |= {name: tensors.get_tensor(name) for name in names if name in held}
    return named


def _files(path: str) -> list[Path]:
    folder = Path(path)
    return sorted(folder.glob("*.safetensors")) if folder.is_dir() else _hub_files(path)


def _hub_files(name: str) -> list[Path]:
    """The safetensors of a Hub model; an empty list where it has none.

    They are in the local cache, or are downloaded as the model itself will be.
    """
    from transformers.utils import cached_file

    single = cached_file(name, "model.safetensors", _raise_exceptions_for_missing_entries=False)
    return [Path(single)] if single else []


def _own_head(path: str) -> tuple[str, int] | None:
    """(prefix, outputs) of a head in another project's manner.

    None where the checkpoint has no such head, or has the usual one as well.
    """
    from safetensors import safe_open

    shapes: dict[str, list[int]] = {}
    for file in _files(path) if Path(path).is_dir() else []:
        with safe_open(file, framework="pt") as tensors:
            keys = list(tensors.keys())
            heads = [key for key in keys if "head" in key or key.startswith("score.")]
            shapes |= {key: tensors.get_slice(key).get_shape() for key in heads}
    if "score.weight" in shapes:
        return None
    for prefix in OWN_HEADS:
        shape = shapes.get(f"{prefix}.weight")
        if shape is not None and len(shape) == 2:
            return prefix, shape[0]
    return None


def _set_head(model: Any, path: str, prefix: str) -> None:
    """Put another project's linear head in the place of the classifier's own."""
    import torch

    held = read_tensors(path, [f"{prefix}.weight", f"{prefix}.bias"])
    weight = held[f"{prefix}.weight"]
    bias = held.get(f"{prefix}.bias")
    hidden = model.score.in_features
    if weight.shape[1] != hidden:
        raise InputError(
            f"model {path!r}: {prefix}.weight has shape {tuple(weight.shape)}, "
            f"expected (*, {hidden})"
        )
    head = torch.nn.Linear(hidden, weight.shape[0], bias=bias is not None)
    with torch.no_grad():
        head.weight.copy_(weight.float())
        if bias is not None:
            head.bias.copy_(bias.float())
    model.score = head.to(model.dtype)


def _check_architecture(
    head: HeadKind, name: str, model: Any, trusted: bool, missing: set[str]
) -> None:
    """InputError where the checkpoint was saved for another head, or for code that may not run."""
    saved = list(getattr(model.config, "architectures", None) or [])
    built = type(model).__name__
    if head == "body" or not saved or built in saved:
        return
    endings = _CAUSAL if head == "causal" else _CLASSIFIER
    if any(a.lower().endswith(endings) for a in saved):
        return
    # A causal checkpoint that holds a score head, too, is a reward model whose configuration kept
    # its old name.
    if head == "classifier" and not missing and any(a.lower().endswith(_CAUSAL) for a in saved):
        return
    if getattr(model.config, "auto_map", None) and not trusted:
        allowed = "its own code reads it: trust_remote_code: true runs that code"
    elif head == "causal":
        allowed = "a causal language model is expected"
    else:
        allowed = "a sequence classifier is expected"
    lacks = f" and {_lacks(missing, set())}" if missing else ""
    raise InputError(
        f"model {name!r} was saved as {', '.join(saved)}, not as {built}{lacks}; {allowed}"
    )


def _lacks(missing: set[str], mismatched: Any) -> str:
    if not missing:
        wrong = sorted(str(key[0] if isinstance(key, tuple) else key) for key in mismatched)
        return f"has weights of another shape than its configuration says: {_list(wrong)}"
    return f"lacks the weights {_list(sorted(missing))}"


def _list(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _hint(head: HeadKind, model: Any) -> str:
    saved = ", ".join(getattr(model.config, "architectures", None) or []) or "no architecture"
    wanted = {
        "causal": "a causal language model with its output layer, or one with tied embeddings",
        "classifier": "a sequence classifier with its trained head, "
        f"or one of {', '.join(OWN_HEADS)}",
        "body": "a whole model",
    }
    return f"saved as {saved}; allowed: {wanted[head]}; missing weights are never made up"


def _widen(_: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(_in_float32(value) for value in inputs)


def _in_float32(value: Any) -> Any:
    is_float = hasattr(value, "is_floating_point") and value.is_floating_point()
    return value.float() if is_float else value


@contextmanager
def _quiet(progress: bool) -> Iterator[None]:
    """Without transformers' load report and bars.

    They are for its own callers; here what is wrong is said once, in an InputError.
    """
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    has_bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if not progress:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if has_bars:
            logging.enable_progress_bar()


def context_of(config: Any) -> int | None:
    """Tokens that a model can read, as its configuration says; None where it names no limit.

    Learned and rotary positions count alike.
    """
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    for key in (
        "max_position_embeddings",
        "n_positions",
        "max_seq_len",
        "max_sequence_length",
        "seq_length",
    ):
        value = getattr(text, key, None)
        if isinstance(value, int | float) and math.isfinite(value) and value > 0:
            return int(value)
    return None
