"""`derived/`: layers written down once more, from their formulas, in loops too plain to hide a mistake."""

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import LlamaConfig
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm, LlamaRotaryEmbedding, apply_rotary_pos_emb

from common import save


def main():
    convolution()
    attention()
    retention()
    alibi()
    rotary()
    rms_norm()
    swiglu()


# ---- The layers of the first two models -------------------------------------------------------------------
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


# ---- Other layers -----------------------------------------------------------------------------------
# Each is held to a second form of it: the recurrent one, or one made of transformers' own parts.


def retention():
    """y[t] = Σ_{s≤t} γ^(t-s)·(q[t]·k[s])·v[s]; or S = γ·S + k[t]ᵀ·v[t] and y[t] = q[t]·S. Nothing is normalised."""
    batch, positions, heads, width = 2, 7, 3, 4
    shape = batch, positions, heads, width
    q, k, v = rounded_to_f32(*(portable_uniform(shape, seed=seed, scale=1.0) for seed in (0.9, 1.0, 1.1)))
    (decay,) = rounded_to_f32(1 - 2.0 ** (-1 - np.arange(heads)))

    y = np.zeros(q.shape)
    for sentence, t, head in np.ndindex(q.shape[:3]):
        for s in range(t + 1):
            share = decay[head] ** (t - s) * (q[sentence, t, head] @ k[sentence, s, head])
            y[sentence, t, head] += share * v[sentence, s, head]
    state = np.zeros((batch, heads, width, width))
    recurrent = np.empty(q.shape)
    for sentence, t, head in np.ndindex(q.shape[:3]):
        state[sentence, head] *= decay[head]
        state[sentence, head] += np.outer(k[sentence, t, head], v[sentence, t, head])
        recurrent[sentence, t, head] = q[sentence, t, head] @ state[sentence, head]

    agree("retention", y, recurrent, within=1e-14)
    save("derived/retention", q=q, k=k, v=v, decay=decay, y=y, state=state)


def alibi():
    """Causal attention whose scores lose slope·distance, slope = 2^(-8(h+1)/H)."""
    batch, positions, heads, width = 2, 7, 4, 3
    shape = batch, positions, heads, width
    q, k, v = rounded_to_f32(*(portable_uniform(shape, seed=seed, scale=2.0) for seed in (1.2, 1.3, 1.4)))
    slopes = 2.0 ** (-8 * (np.arange(heads) + 1) / heads)

    attended = np.empty(q.shape)
    for sentence, t, head in np.ndindex(q.shape[:3]):
        scores = np.empty(t + 1)
        for s in range(t + 1):
            scores[s] = q[sentence, t, head] @ k[sentence, s, head] / np.sqrt(width) - slopes[head] * (t - s)
        share = np.exp(scores - scores.max())
        attended[sentence, t, head] = share / share.sum() @ v[sentence, : t + 1, head]

    # BLOOM adds slope·s, which differs from -slope·(t-s) by what softmax does not see.
    bias = build_alibi_tensor(torch.ones(1, positions), heads, torch.double).reshape(heads, 1, positions)
    future = torch.ones(positions, positions, dtype=torch.bool).triu(1)
    theirs = scaled_dot_product_attention(
        *(torch.tensor(array).transpose(1, 2) for array in (q, k, v)), attn_mask=bias.masked_fill(future, -np.inf)
    )  # fmt: skip
    agree("alibi", attended, theirs.transpose(1, 2).numpy(), within=1e-6)
    save("derived/alibi", q=q, k=k, v=v, slopes=slopes, attended=attended.reshape(batch, positions, heads * width))


def rotary():
    """Llama's: number i of the first half and number i of the second turn together, by position·θ^(-2i/D)."""
    batch, heads, width, theta, positions = 2, 2, 6, 10000.0, np.arange(5, 12)
    (x,) = rounded_to_f32(portable_uniform((batch, len(positions), heads, width), seed=1.5, scale=1.0))

    y = np.empty(x.shape)
    half = width // 2
    for sentence, t, head in np.ndindex(x.shape[:3]):
        for i in range(half):
            angle = positions[t] * theta ** (-2 * i / width)
            first, second = x[sentence, t, head, i], x[sentence, t, head, half + i]
            y[sentence, t, head, i] = first * np.cos(angle) - second * np.sin(angle)
            y[sentence, t, head, half + i] = second * np.cos(angle) + first * np.sin(angle)

    parameters = {"rope_type": "default", "rope_theta": theta}
    config = LlamaConfig(hidden_size=heads * width, num_attention_heads=heads, rope_parameters=parameters)
    turned = torch.tensor(x).transpose(1, 2)
    cos, sin = LlamaRotaryEmbedding(config)(turned, torch.tensor(positions[None]))
    turned, _ = apply_rotary_pos_emb(turned, turned, cos, sin)
    agree("rotary", y, turned.transpose(1, 2).numpy(), within=2e-6)
    save("derived/rotary", x=x, positions=positions, theta=[theta], y=y)


def rms_norm():
    """y = gain·x / √(mean of x² + eps)."""
    rows, width, eps = 5, 6, 1e-5
    (x,) = rounded_to_f32(portable_uniform((rows, width), seed=1.6, scale=2.0))
    x[0] /= 1024  # small enough that eps counts; a power of two, so still f32
    (gain,) = rounded_to_f32(1 + portable_uniform((width,), seed=1.7, scale=0.5))

    y = np.empty(x.shape)
    for row in range(rows):
        y[row] = gain * x[row] / np.sqrt(sum(x[row] ** 2) / width + eps)

    theirs = LlamaRMSNorm(width, eps).double()
    theirs.weight.data = torch.tensor(gain)
    agree("rms_norm", y, theirs(torch.tensor(x)).detach().numpy(), within=2e-6)
    save("derived/rms_norm", x=x, gain=gain, eps=[eps], y=y)


def swiglu():
    """y = (silu(x·gate) * (x·up))·down, silu(z) = z / (1 + e^-z)."""
    rows, width, hidden = 5, 6, 9
    x, gate, up, down = rounded_to_f32(
        portable_uniform((rows, width), seed=1.8, scale=2.0), portable_uniform((width, hidden), seed=1.9, scale=1.0),
        portable_uniform((width, hidden), seed=2.0, scale=1.0), portable_uniform((hidden, width), seed=2.1, scale=1.0),
    )  # fmt: skip

    y = np.zeros((rows, width))
    for row, unit in np.ndindex(rows, hidden):
        z = x[row] @ gate[:, unit]
        y[row] += z / (1 + np.exp(-z)) * (x[row] @ up[:, unit]) * down[unit]

    theirs = LlamaMLP(LlamaConfig(hidden_size=width, intermediate_size=hidden, num_attention_heads=1)).double()
    for layer, weight in [(theirs.gate_proj, gate), (theirs.up_proj, up), (theirs.down_proj, down)]:
        layer.weight.data = torch.tensor(weight.T.copy())
    agree("swiglu", y, theirs(torch.tensor(x)).detach().numpy(), within=1e-13)
    save("derived/swiglu", x=x, gate=gate, up=up, down=down, y=y)


def agree(name, one, other, *, within):
    apart = np.abs(one - other).max()
    assert apart <= within, f"{name}: its two forms differ by {apart:.1e}"
    print(f"{name}: its two forms within {apart:.1e}")


# ---- Inputs -----------------------------------------------------------------------------------------


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


if __name__ == "__main__":
    main()
