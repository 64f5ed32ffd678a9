"""`gpt2/`, `gpt2_tiny_odd/` and `ragged/`: Hugging Face transformers' own GPT-2."""

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import GPT2Config, GPT2LMHeadModel

from common import HERE, save_model, spread, witness


def main():
    gpt2("gpt2", seed=1, embd=24, heads=3, layers=2, vocab=61, positions=32, prompt=5)
    gpt2("gpt2_tiny_odd", seed=2, embd=10, heads=2, layers=1, vocab=13, positions=16, prompt=4, original_names=True)


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
    model = spread(GPT2LMHeadModel(config))
    save_model(name, model)
    if original_names:
        weights = {key: tensor.numpy() for key, tensor in model.transformer.state_dict().items()}
        mask = np.tril(np.ones((1, 1, positions, positions), np.float32))
        weights |= {f"h.{layer}.attn.bias": mask for layer in range(layers)}
        save_file(weights, HERE / name / "model.safetensors", metadata={"format": "pt"})
    witness(name, model, length=12, prompt=prompt)


if __name__ == "__main__":
    main()
