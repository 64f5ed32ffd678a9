"""`gpt2/`, `gpt2_tiny_odd/` and `ragged/`: Hugging Face transformers' own GPT-2."""

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import GPT2Config, GPT2LMHeadModel

from common import HERE, closest_choice, difference, save, save_model, spread, witness


def main():
    gpt2("gpt2", seed=1, embd=24, heads=3, layers=2, vocab=61, positions=32, prompt=5)
    gpt2("gpt2_tiny_odd", seed=2, embd=10, heads=2, layers=1, vocab=13, positions=16, prompt=4, original_names=True)
    ragged()


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


def ragged():
    """Prompts of three lengths decoded as one batch, each padded on its left and masked there."""
    torch.manual_seed(10)
    model = GPT2LMHeadModel.from_pretrained(HERE / "gpt2").double().eval()
    lengths, steps, pad = torch.tensor([3, 8, 5]), 5, 0
    longest = int(lengths.max())
    prompts = torch.randint(1, model.config.vocab_size, (len(lengths), longest))
    seen = torch.arange(longest) >= longest - lengths[:, None]
    prompts[~seen] = pad

    tokens, past, greedy, logits = prompts, None, [], []
    with torch.no_grad():
        for step in range(steps + 1):
            positions = (seen.cumsum(-1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
            out = model(tokens, attention_mask=seen, position_ids=positions, past_key_values=past, use_cache=True)
            past = out.past_key_values
            logits.append(out.logits[:, -1])
            tokens = logits[-1].argmax(-1, keepdim=True)
            seen = torch.cat([seen, torch.ones_like(tokens, dtype=torch.bool)], 1)
            greedy.append(tokens)
        logits, greedy = torch.stack(logits, 1), torch.cat(greedy[:steps], 1)
        for sentence, length in enumerate(lengths):
            alone = torch.cat([prompts[sentence, longest - length :], greedy[sentence]])
            unpadded = model(alone[None]).logits[0, length - 1 :]
            assert difference(unpadded, logits[sentence]) < 1e-12, "ragged: padding shows"

    margin = closest_choice(logits)
    assert margin > 1e-3, f"ragged: a greedy choice is decided by {margin:.1e} only; take another seed"
    print(f"ragged: closest greedy choice won by {margin:.1e}")
    save("ragged/expected", prompts=prompts, lengths=lengths, greedy=greedy, logits=logits)


if __name__ == "__main__":
    main()
