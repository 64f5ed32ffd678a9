"""`families/`: checkpoints as people download them, saved by Hugging Face transformers itself.

Every weight is a number that bf16 has, so that one model is stored twice: in f32 in one file, and in bf16 in several
files with an index. The witness is transformers with these weights in f64 (norms and rotary angles f32)."""

import torch
from transformers import AutoModelForCausalLM
from transformers import GPT2Config, LlamaConfig, MistralConfig, Phi3Config, Qwen2Config, Qwen3Config

from common import HERE, difference, save_model, spread, witness

COMMON = {"vocab_size": 31, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
LLAMA = COMMON | {
    "hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 24, "rms_norm_eps": 1e-5,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 12,
}  # fmt: skip
YARN = {"rope_type": "yarn", "rope_theta": 100.0, "factor": 3.0, "original_max_position_embeddings": 8, "beta_fast": 2.0}

FAMILIES = {
    # Llama 3, and SmolLM2, whose table is tied
    "llama3": LlamaConfig(**LLAMA, rope_parameters=LLAMA3, tie_word_embeddings=True),
    "mistral": MistralConfig(**LLAMA, sliding_window=5),
    "qwen2": Qwen2Config(**LLAMA, use_sliding_window=True, sliding_window=5, max_window_layers=1, tie_word_embeddings=True),
    "qwen3": Qwen3Config(**LLAMA, head_dim=6, rope_parameters=YARN),
    "qwen3_windows": Qwen3Config(
        **LLAMA | {"num_hidden_layers": 3}, head_dim=4, use_sliding_window=True, sliding_window=4, attention_bias=True,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),  # fmt: skip
    "phi3": Phi3Config(**LLAMA, sliding_window=6),
    "gpt2": GPT2Config(
        **COMMON, n_embd=12, n_head=2, n_layer=2, n_inner=19, n_positions=24, activation_function="gelu",
        scale_attn_by_inverse_layer_idx=True, tie_word_embeddings=False, layer_norm_epsilon=1e-3,
    ),  # fmt: skip
}


def main():
    for name, config in FAMILIES.items():
        torch.manual_seed(len(name) + 40)
        model = spread(AutoModelForCausalLM.from_config(config))
        for parameter in model.parameters():
            parameter.data = parameter.data.bfloat16().float()
        name = f"families/{name}"
        save_model(name, model)
        in_shards = f"{name}/bf16"
        model.bfloat16().save_pretrained(HERE / in_shards, max_shard_size="4KB")
        (HERE / in_shards / "generation_config.json").unlink(missing_ok=True)
        read = [AutoModelForCausalLM.from_pretrained(HERE / folder, dtype=torch.float32) for folder in (name, in_shards)]
        same = zip(*(each.state_dict().values() for each in read), strict=True)
        assert all(torch.equal(one, other) for one, other in same), f"{name}: two models"
        witness(name, read[0].eval(), length=14, prompt=4)


if __name__ == "__main__":
    main()
