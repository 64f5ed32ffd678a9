"""Regenerates the golden values beside this file (all but `fconv_lm/`, see README.md).

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install -r tests/golden/requirements.txt
    /tmp/golden/bin/python tests/golden/make.py

The point of golden values is that somebody else's program made them: `gpt2*/` is Hugging Face
transformers' own GPT-2, `derived/` is two layers written down once more, from their formulas, in
loops too plain to hide a mistake. Everything is computed in f64 from f32 inputs and rounded once, when
it is stored, so a difference seen by a test is the tested program's.
"""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.utils.logging import disable_progress_bar

HERE = Path(__file__).resolve().parent


def main():
    disable_progress_bar()
    gpt2("gpt2", seed=1, embd=24, heads=3, layers=2, vocab=61, positions=32, prompt=5)
    gpt2("gpt2_tiny_odd", seed=2, embd=10, heads=2, layers=1, vocab=13, positions=16, prompt=4, original_names=True)
    convolution()
    attention()


# ---- GPT-2, by transformers -------------------------------------------------------------------------


def gpt2(name, *, seed, embd, heads, layers, vocab, positions, prompt, original_names=False):
    """One model folder: config.json, model.safetensors, expected.safetensors.

    `original_names` writes the weights as the first published GPT-2 checkpoint names them: without
    the `transformer.` prefix and with each layer's causal mask among the tensors.
    """
    torch.manual_seed(seed)
    config = GPT2Config(
        n_embd=embd, n_head=heads, n_layer=layers, vocab_size=vocab, n_positions=positions,
        bos_token_id=None, eos_token_id=None,  # nothing ends a decode early
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            # Ten times GPT-2's usual spread, and no bias at 0 or gain at 1: a forgotten bias, a
            # transposed weight or a missing gain must move the logits far beyond rounding.
            parameter.normal_(0.0, 0.2)
            if ".ln_" in parameter_name and parameter_name.endswith("weight"):
                parameter.add_(1.0)

    folder = HERE / name
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink()  # sampling defaults; nothing here samples
    if original_names:
        weights = {key: tensor.numpy() for key, tensor in model.transformer.state_dict().items()}
        mask = np.tril(np.ones((1, 1, positions, positions), np.float32))
        weights |= {f"h.{layer}.attn.bias": mask for layer in range(layers)}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    tokens = torch.randint(vocab, (2, 12))
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
    f32_error = (logits - logits_f32).abs().max().item()
    assert f32_error < 1e-5, f"{name}: f32 and f64 differ by {f32_error:.1e}"
    # f32 must be unable to choose another token than f64 did.
    best, second = greedy_logits.topk(2).values.T
    margin = (best - second).min().item()
    assert margin > 1e-3, f"{name}: a greedy choice is decided by {margin:.1e} only; take another seed"
    print(f"{name}: f32 within {f32_error:.1e} of f64; closest greedy choice won by {margin:.1e}")

    save(
        f"{name}/expected",
        tokens=tokens, logits=logits, prompt=start[0], greedy=greedy, greedy_logits=greedy_logits,
    )  # fmt: skip


# ---- Two layers, from their formulas ----------------------------------------------------------------
# The inputs are the ones with which another, separately written derivation of the same two layers
# printed the rows below. Reproducing them to every printed digit is what makes these values golden.

CONVOLUTION_ROWS = {  # (position, sentence) of the output
    (0, 0): [-0.3796468, 0.382744769, -0.306696639, 0.212615485, -0.009827465, -0.364546495],
    (8, 1): [-0.265016153, -0.213406197, -0.578293805, -0.162845781, 0.598791636, 0.0711764],
}
ATTENTION_ROWS = {  # (sentence, position) of the output
    (0, 6): [-1.735116634, 7.4876206, -0.28422981, 0.550223951, -0.164409325, 3.445765757, -0.129662603, -6.381684113],
}


def convolution():
    """fairseq's causal convolution: y[t] = b + Σ_k x[t-K+1+k]·w[k], with x 0 before the first position."""
    positions, batch, channels_in, channels_out, taps = 9, 2, 4, 6, 3
    x = portable_uniform((positions, batch, channels_in), seed=0.1, scale=1.0)
    w = portable_uniform((taps, channels_in, channels_out), seed=0.2, scale=0.3)
    b = portable_uniform((channels_out,), seed=0.3, scale=0.3)

    def layer(x, w, b):
        y = np.empty((positions, batch, channels_out))
        for t in range(positions):
            y[t] = b
            for k in range(taps):
                if t - taps + 1 + k >= 0:
                    y[t] += x[t - taps + 1 + k] @ w[k]
        return y

    reproduces(CONVOLUTION_ROWS, layer(x, w, b), decimals=9)
    x, w, b = rounded_to_f32(x, w, b)
    y = layer(x, w, b)
    reproduces(CONVOLUTION_ROWS, y, decimals=6)
    save("derived/conv", x=x, w=w, b=b, y=y)


def attention():
    """Causal attention: row t looks at rows 0..t, scores scaled by 1/√D, then the output projection."""
    batch, positions, width, heads = 2, 7, 8, 2
    x = portable_uniform((batch, positions, width), seed=0.4, scale=2.0)
    wq, wk, wv, wo = (portable_uniform((width, width), seed=seed, scale=1.0) for seed in (0.5, 0.6, 0.7, 0.8))
    q, k, v = ((x @ weight).reshape(batch, positions, heads, -1) for weight in (wq, wk, wv))

    def layer(q, k, v):
        attended = np.empty(q.shape)
        for sentence, t, head in np.ndindex(q.shape[:3]):
            seen = slice(t + 1)
            scores = k[sentence, seen, head] @ q[sentence, t, head] / np.sqrt(width // heads)
            share = np.exp(scores - scores.max())
            attended[sentence, t, head] = share / share.sum() @ v[sentence, seen, head]
        return attended.reshape(batch, positions, width)

    reproduces(ATTENTION_ROWS, layer(q, k, v) @ wo, decimals=9)
    q, k, v, wo = rounded_to_f32(q, k, v, wo)
    attended = layer(q, k, v)
    reproduces(ATTENTION_ROWS, attended @ wo, decimals=5)
    save("derived/attention", q=q, k=k, v=v, wo=wo, attended=attended, projected=attended @ wo)


def portable_uniform(shape, *, seed, scale):
    """Row-major numbers in [-scale, scale) from Numerical Recipes' 32-bit congruential generator,
    first draw dropped: a page of any language reproduces them."""
    state = (round(seed * 100) * 2654435761 + 12345) % 2**32
    values = np.empty(1 + int(np.prod(shape)))
    for i in range(values.size):
        state = (state * 1664525 + 1013904223) % 2**32
        values[i] = ((state >> 8) / 2**24 - 0.5) * 2 * scale
    return values[1:].reshape(shape)


def reproduces(rows, y, *, decimals):
    for index, row in rows.items():
        difference = np.abs(y[index] - row).max()
        assert difference <= 0.6 * 10.0**-decimals, f"row {index} is off by {difference:.1e}"


def rounded_to_f32(*arrays):
    """What a program that reads the stored f32 inputs really starts from."""
    return [array.astype(np.float32).astype(np.float64) for array in arrays]


# ---- Files ------------------------------------------------------------------------------------------


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


if __name__ == "__main__":
    main()
