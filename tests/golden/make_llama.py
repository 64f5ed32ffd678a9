"""`llama/`, `llama_tied/` and `mistral/`: Hugging Face transformers' Llama and Mistral.

Their RMSNorm and the angles of their rotary positions are f32 in transformers whatever the model's
type is; everything else is f64 here.
"""

import json

import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from common import HERE, difference, save_model, spread, witness

# Nothing ends a decode early.
COMMON = {"max_position_embeddings": 32, "rms_norm_eps": 1e-5, "bos_token_id": None, "eos_token_id": None}


def main():
    torch.manual_seed(3)
    model = spread(LlamaForCausalLM(LlamaConfig(
        vocab_size=53, hidden_size=24, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, rope_parameters=rotary(10000.0), **COMMON,
    )))  # fmt: skip
    save_model("llama", model)
    witness("llama", model, length=12, prompt=5)

    torch.manual_seed(4)
    model = spread(LlamaForCausalLM(LlamaConfig(
        vocab_size=47, hidden_size=24, intermediate_size=31, num_hidden_layers=2, num_attention_heads=3,
        num_key_value_heads=1, rope_parameters=rotary(500.0), tie_word_embeddings=True,
        attention_bias=True, mlp_bias=True, **COMMON,
    )))  # fmt: skip
    save_model("llama_tied", model)
    as_published("llama_tied", model)
    witness("llama_tied", model, length=12, prompt=4)

    torch.manual_seed(5)
    window = 5
    model = spread(MistralForCausalLM(MistralConfig(
        vocab_size=43, hidden_size=24, intermediate_size=29, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, rope_parameters=rotary(10000.0), sliding_window=window, **COMMON,
    )))  # fmt: skip
    save_model("mistral", model)
    witness("mistral", model, length=16, prompt=5)
    slides(model, window)


def rotary(theta):
    return {"rope_type": "default", "rope_theta": theta}


def as_published(name, model):
    """Rewrites the configuration as transformers 4 did, and so nearly every published checkpoint
    has it: `rope_theta` beside the other fields, no `head_dim`."""
    path = HERE / name / "config.json"
    config = json.loads(path.read_text())
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    config["rope_scaling"] = None
    del config["head_dim"], config["transformers_version"]
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")

    read = type(model).from_pretrained(path.parent)
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        assert torch.equal(read(tokens).logits, model(tokens).logits), f"{name}: reads back as another model"


def slides(model, window):
    """Position t sees t-window+1 to t in each layer, in one pass and step by step alike."""
    tokens = torch.randint(model.config.vocab_size, (2, 16))
    first_differs = tokens.clone()
    first_differs[:, 0] = (tokens[:, 0] + 1) % model.config.vocab_size
    reach = model.config.num_hidden_layers * (window - 1)
    with torch.no_grad():
        logits = model(tokens).logits
        moved = (model(first_differs).logits - logits).abs().amax((0, 2))
        past, steps = None, []
        for t in range(tokens.shape[1]):
            out = model(tokens[:, t : t + 1], past_key_values=past, use_cache=True)
            past = out.past_key_values
            steps.append(out.logits)
        model.set_attn_implementation("eager")
        eager = model(tokens).logits
    assert moved[: reach + 1].min() > 1e-4 and moved[reach + 1 :].max() == 0.0, "mistral: the window is another"
    stepped, other = difference(torch.cat(steps, 1), logits), difference(eager, logits)
    assert max(stepped, other) < 1e-5
    print(f"mistral: steps within {stepped:.1e}, eager attention within {other:.1e} of one pass")


if __name__ == "__main__":
    main()
