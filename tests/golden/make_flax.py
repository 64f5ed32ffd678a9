"""`flax_attention.safetensors`: Flax's attention layer with its own cache (`decode=True`)."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen

from common import save

jax.config.update("jax_enable_x64", True)


def main():
    batch, positions, width, heads, size = 2, 7, 10, 3, 4
    random = np.random.default_rng(8)

    def normal(*shape):
        return jnp.asarray(random.normal(0.0, 0.5, shape).astype(np.float32), jnp.float64)

    x = normal(batch, positions, width)
    inward = ["query", "key", "value"]
    weights = {name: {"kernel": normal(width, heads, size), "bias": normal(heads, size)} for name in inward}
    weights["out"] = {"kernel": normal(heads, size, width), "bias": normal(width)}

    def attention(decode):
        return linen.MultiHeadDotProductAttention(
            heads, qkv_features=heads * size, decode=decode, dtype=jnp.float64, deterministic=True
        )

    causal = attention(False).apply({"params": weights}, x, mask=linen.make_causal_mask(x[..., 0]))
    # The cache is made as long as the input that the layer is initialised with.
    cache = attention(True).init(jax.random.key(0), x)["cache"]
    steps = []
    for t in range(positions):
        y, changed = attention(True).apply({"params": weights, "cache": cache}, x[:, t : t + 1], mutable=["cache"])
        cache = changed["cache"]
        steps.append(y)
    stepped = jnp.concatenate(steps, 1)

    apart = float(jnp.abs(stepped - causal).max())
    assert stepped.dtype == jnp.float64 and apart < 1e-12, f"flax_attention: steps and one pass differ by {apart:.1e}"
    print(f"flax_attention: steps within {apart:.1e} of one pass")
    flat = {f"{name}.{kind}": array for name, layer in weights.items() for kind, array in layer.items()}
    save("flax_attention", x=x, stepped=stepped, causal=causal, **flat)


if __name__ == "__main__":
    main()
