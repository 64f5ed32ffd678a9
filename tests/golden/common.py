"""What the scripts beside this file share: random weights, the witness of a causal model, files."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers.utils.logging import disable_progress_bar

HERE = Path(__file__).resolve().parent

disable_progress_bar()


def spread(model):
    """Ten times the usual spread, and no bias at 0 or gain at 1: a forgotten bias, a transposed
    weight or a missing gain must move the logits far beyond rounding."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(0.0, 0.2)
            if is_gain(name):
                parameter.add_(1.0)
    return model.eval()


def is_gain(name):
    module, _, kind = name.rpartition(".")
    return kind == "weight" and ("norm" in module or ".ln_" in module)


def save_model(name, model):
    """`name/config.json` and `name/model.safetensors`."""
    model.save_pretrained(HERE / name)
    # Sampling defaults; nothing here samples.
    (HERE / name / "generation_config.json").unlink()


def witness(name, model, *, length, prompt):
    """What a causal model says: `name/expected.safetensors`. The model is in f64 afterwards."""
    vocab, positions = model.config.vocab_size, model.config.max_position_embeddings
    tokens = torch.randint(vocab, (2, length))
    start = torch.randint(vocab, (1, prompt))
    # The last token chosen is never fed back, so this many fill the cache to its last row and no further.
    steps = positions - prompt + 1
    with torch.no_grad():
        logits_f32 = model(tokens).logits.double()
        model.double()
        logits = model(tokens).logits
        decoded = model.generate(
            start, do_sample=False, use_cache=True, min_new_tokens=steps, max_new_tokens=steps,
            attention_mask=torch.ones_like(start), output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
    greedy = decoded.sequences[0, prompt:]
    greedy_logits = torch.cat(decoded.logits)

    assert len(greedy) == steps and torch.equal(greedy, greedy_logits.argmax(-1))
    f32_agrees(name, logits, logits_f32)
    # f32 must be unable to choose another token than f64 did.
    margin = closest_choice(greedy_logits)
    assert margin > 1e-3, f"{name}: a greedy choice is decided by {margin:.1e} only; take another seed"
    print(f"{name}: closest greedy choice won by {margin:.1e}")
    save(
        f"{name}/expected",
        tokens=tokens, logits=logits, prompt=start[0], greedy=greedy, greedy_logits=greedy_logits,
    )  # fmt: skip


def f32_agrees(name, exact, in_f32):
    error = difference(exact, in_f32)
    assert error < 1e-5, f"{name}: f32 and f64 differ by {error:.1e}"
    print(f"{name}: f32 within {error:.1e} of f64")


def difference(a, b):
    return (a - b).abs().max().item()


def closest_choice(logits):
    """By how much the best of `logits [.., V]` beats the second, where it is closest."""
    best, second = logits.topk(2).values.unbind(-1)
    return (best - second).min().item()


def save(name, **tensors):
    """Numbers as f32, token ids as i32."""
    path = HERE / f"{name}.safetensors"
    path.parent.mkdir(exist_ok=True)
    arrays = {key: np.asarray(value) for key, value in tensors.items()}
    narrow = {
        key: np.ascontiguousarray(array, np.int32 if np.issubdtype(array.dtype, np.integer) else np.float32)
        for key, array in arrays.items()
    }
    save_file(narrow, path)
    print(f"{path.relative_to(HERE)}: {json.dumps({key: array.shape for key, array in narrow.items()})}")
