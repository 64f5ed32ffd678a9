"""`configs.json`: random configurations, and how transformers' own classes read them. Needs no PyTorch.

Sizes are drawn, then keys are left out at random, spelled another way, or set to null where that is allowed.
Values that decode-bench refuses by name are not drawn: tests beside the file's reader are about those."""

import json
import random
from dataclasses import fields
from pathlib import Path

from transformers import GenerationConfig, GPT2Config, LlamaConfig, MarianConfig, MistralConfig
from transformers import Phi3Config, Qwen2Config, Qwen3Config
from transformers.utils.logging import set_verbosity_error

HERE = Path(__file__).resolve().parent
EACH, OF_LATER = 200, 30


def main():
    set_verbosity_error()
    draw = random.Random(12)
    families = {
        "gpt2": (GPT2Config, gpt2, "n_embd n_head n_layer n_inner n_positions vocab_size"),
        "llama": (LlamaConfig, llama, LLAMA + " attention_bias mlp_bias"),
        "mistral": (MistralConfig, mistral, LLAMA + " sliding_window"),
        "marian": (MarianConfig, marian, MARIAN),
        "qwen2": (Qwen2Config, qwen, LLAMA + " windows"),
        "qwen3": (Qwen3Config, qwen, LLAMA + " attention_bias windows"),
        "phi3": (Phi3Config, phi3, LLAMA + " sliding_window"),
    }
    found = {"generation": sorted(GenerationConfig._get_default_generation_params())}
    for name, (kind, make, effective) in families.items():
        defaults = json.loads(kind().to_json_string(use_diff=False))
        found[name] = {
            # every key that the class knows, with a value that changes nothing
            "defaults": {key: defaults.get(key) for key in sorted(f.name for f in fields(kind)) if key != "transformers_version"},
            "effective": effective.split(),
            "configs": [
                pair(kind, make(draw) if name in OLDER else make(draw, name), effective.split())
                for _ in range(EACH if name in OLDER else OF_LATER)
            ],
        }
    lines = json.dumps(found, separators=(",", ":")).replace('[{"model_type"', '\n[{"model_type"')
    (HERE / "configs.json").write_text(lines.replace('},"', '},\n"') + "\n")


OLDER = ["gpt2", "llama", "mistral", "marian"]
LLAMA = (
    "hidden_size num_attention_heads num_key_value_heads head_dim intermediate_size num_hidden_layers vocab_size "
    "max_position_embeddings rms_norm_eps rope_theta tie_word_embeddings"
)
MARIAN = (
    "encoder_layers decoder_layers d_model encoder_attention_heads decoder_attention_heads encoder_ffn_dim "
    "decoder_ffn_dim vocab_size max_position_embeddings scale_embedding decoder_start_token_id"
)


def pair(kind, config, names):
    """What is in the file, and the values that transformers understands."""
    read = kind.from_dict(json.loads(json.dumps(config)))
    elsewhere = {
        "rope_theta": lambda: read.rope_parameters["rope_theta"],
        "head_dim": lambda: getattr(read, "head_dim", None) or read.hidden_size // read.num_attention_heads,
        "windows": lambda: [read.sliding_window if kind == "sliding_attention" else None for kind in read.layer_types],
        "n_inner": lambda: read.n_inner if read.n_inner is not None else 4 * read.n_embd,  # as `GPT2Block` does
    }
    return [config, [elsewhere.get(name, lambda: getattr(read, name))() for name in names]]


def some(draw, model_type, config, rename=(), null=()):
    """Leaves out, renames and empties keys."""
    kept = {key: value for key, value in config.items() if draw.random() < 0.7}
    for key in null:
        if draw.random() < 0.15:
            kept[key] = None
    for key, other in rename:
        if key in kept and draw.random() < 0.3:
            # both at times, and then they contradict each other
            kept[other] = kept.pop(key) if draw.random() < 0.7 else kept[key]
            if key in kept:
                kept[key] = config[key] * 2
    return {"model_type": model_type} | dict(draw.sample(sorted(kept.items()), len(kept)))


def gpt2(draw):
    heads = draw.choice([1, 2, 3, 4, 6, 12])
    config = {
        "n_embd": 12 * draw.randint(1, 70),
        "n_head": heads,
        "n_layer": draw.randint(1, 30),
        "n_inner": draw.randint(1, 5000),
        "n_positions": draw.randint(1, 5000),
        "vocab_size": draw.randint(2, 99_999),
        "activation_function": draw.choice("gelu_new gelu_pytorch_tanh gelu_fast gelu_accurate gelu_python_tanh".split()),
        "layer_norm_epsilon": 1e-5,
        "scale_attn_weights": True,
        "reorder_and_upcast_attn": draw.random() < 0.5,
        "attn_pdrop": 0.2,
        "n_ctx": 1024,
        "tie_word_embeddings": True,
        "quantization_config": None,
    }
    rename = [
        ("n_embd", "hidden_size"), ("n_head", "num_attention_heads"), ("n_layer", "num_hidden_layers"),
        ("n_positions", "max_position_embeddings"),
    ]  # fmt: skip
    if draw.random() < 0.3:
        config |= sampled(draw)
    return some(draw, "gpt2", config, rename, ["n_inner"])


def llama(draw):
    config = llama_or_mistral(draw, 1) | {
        "attention_bias": draw.random() < 0.5,
        "mlp_bias": draw.random() < 0.5,
        "pretraining_tp": draw.randint(1, 4),
        "sliding_window": None,
    }
    return some(draw, "llama", config, null=["num_key_value_heads", "head_dim", "rope_scaling", "rope_parameters"])


def mistral(draw):
    config = llama_or_mistral(draw, 8) | {"sliding_window": draw.randint(1, 9999)}
    return some(draw, "mistral", config, null=["head_dim", "rope_scaling", "rope_parameters", "sliding_window"])


def qwen(draw, family):
    layers = draw.randint(1, 9)
    config = llama_or_mistral(draw, 8) | {
        "num_hidden_layers": layers,
        "use_sliding_window": draw.random() < 0.7,
        "sliding_window": draw.randint(1, 9999),
        "max_window_layers": draw.randint(0, 10),
    }
    if family == "qwen3":
        config["attention_bias"] = draw.random() < 0.5
    null = ["num_key_value_heads", "rope_scaling", "rope_parameters", "sliding_window"]
    kept = some(draw, family, config, null=null + ["layer_types"])
    is_windowed = kept.get("use_sliding_window") and kept.get("sliding_window", 4096)
    if draw.random() < 0.3:
        kinds = ["full_attention", "sliding_attention"] if is_windowed else ["full_attention"]
        kept |= {"num_hidden_layers": layers, "layer_types": [draw.choice(kinds) for _ in range(layers)]}
    elif "num_hidden_layers" not in kept:
        kept["num_hidden_layers"] = layers
    return kept


def phi3(draw, family):
    config = llama_or_mistral(draw, 1) | {"sliding_window": draw.choice([None, draw.randint(1, 9999)]), "resid_pdrop": 0.1}
    return some(draw, family, config, null=["num_key_value_heads", "rope_scaling", "rope_parameters", "sliding_window"])


def llama_or_mistral(draw, least):
    kv_heads = least * draw.choice([1, 2, 4])
    heads = draw.choice([1, 2, 4]) * 32
    rope = lambda: {
        key: value
        for key, value in [
            (draw.choice(["rope_type", "type"]), "default"),
            ("rope_theta", draw.randint(100, 1_000_000) * 1.0),
        ]
        if draw.random() < 0.7
    }
    return {
        "hidden_size": heads * 2 * draw.randint(1, 40),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": 2 * draw.randint(1, 100),
        "intermediate_size": draw.randint(1, 20_000),
        "num_hidden_layers": draw.randint(1, 90),
        "vocab_size": draw.randint(3, 200_000),
        "max_position_embeddings": draw.randint(1, 200_000),
        "rms_norm_eps": draw.choice([1e-5, 1e-6, 3e-6, 1e-8]),
        "hidden_act": "silu",
        "tie_word_embeddings": draw.random() < 0.5,
        "rope_theta": draw.randint(100, 1_000_000) * 1.0,
        "rope_scaling": rope(),
        "rope_parameters": rope(),
        "attention_dropout": 0.1,
    }


def marian(draw):
    vocab = draw.randint(100, 99_999)
    config = {
        "encoder_layers": draw.randint(1, 12),
        "decoder_layers": draw.randint(1, 12),
        "d_model": 96 * draw.randint(1, 20),
        "encoder_attention_heads": draw.choice([1, 2, 4, 8]),
        "decoder_attention_heads": draw.choice([1, 2, 4, 8]),
        "encoder_ffn_dim": draw.randint(1, 5000),
        "decoder_ffn_dim": draw.randint(1, 5000),
        "max_position_embeddings": draw.randint(1, 5000),
        "scale_embedding": draw.random() < 0.5,
        "normalize_before": False,
        "static_position_embeddings": True,
        "add_bias_logits": False,
        "dropout": 0.2,
        "share_encoder_decoder_embeddings": True,
        "tie_word_embeddings": True,
    }
    if draw.random() < 0.3:
        config |= sampled(draw)
    rename = [
        ("encoder_layers", "num_hidden_layers"), ("encoder_attention_heads", "num_attention_heads"),
        ("d_model", "hidden_size"),
    ]  # fmt: skip
    kept = some(draw, "marian", config, rename)
    kept["activation_function"] = draw.choice(["relu", "swish", "silu", "gelu_new", "gelu_fast"])  # absent: `gelu`
    # absent together: 58 101, and the last of them
    if draw.random() < 0.7:
        kept |= {"vocab_size": vocab, "decoder_start_token_id": draw.randrange(vocab)}
        if draw.random() < 0.7:
            kept["decoder_vocab_size"] = draw.choice([vocab, None])
    return kept


def sampled(draw):
    return {"num_beams": draw.randint(1, 6), "max_length": 512, "bad_words_ids": [[7]], "repetition_penalty": 1.2}


if __name__ == "__main__":
    main()
