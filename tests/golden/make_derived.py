"""`derived/`: layers written down once more, from their formulas, in loops too plain to hide a mistake."""

import numpy as np

from common import save


def main():
    convolution()
    attention()


# ---- The layers of the two models -------------------------------------------------------------------
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


if __name__ == "__main__":
    main()
