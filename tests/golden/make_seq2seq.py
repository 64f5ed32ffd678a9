"""`marian/`: Hugging Face transformers' Marian. `nn_transformer/`: PyTorch's own `nn.Transformer`."""

import json
import math

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import MarianConfig, MarianMTModel

from common import HERE, difference, f32_agrees, save, save_model, spread

SOURCE_LENGTHS = [9, 6]
TARGET_LENGTH = 8


def main():
    marian()
    nn_transformer()


def marian():
    """Post-norm, its sinusoid positions, √width times the embeddings, a bias on the logits."""
    torch.manual_seed(6)
    vocab = 41
    config = MarianConfig(
        vocab_size=vocab, d_model=18, encoder_layers=2, decoder_layers=3, encoder_attention_heads=3,
        decoder_attention_heads=3, encoder_ffn_dim=30, decoder_ffn_dim=30, max_position_embeddings=24,
        activation_function="swish", scale_embedding=True, eos_token_id=0, forced_eos_token_id=None,
        pad_token_id=vocab - 1, decoder_start_token_id=vocab - 1,
    )  # fmt: skip
    model = spread(MarianMTModel(config))
    with torch.no_grad():
        # Bolder choices, less what all positions say alike: or hypotheses would repeat one token, and
        # their sums would be too near to each other.
        model.model.shared.weight.mul_(2.0)
        source, target = torch.randint(1, vocab - 1, (2, 64, TARGET_LENGTH))
        alike = model.double()(source, decoder_input_ids=target).logits.mean((0, 1))
        model.float().final_logits_bias.normal_(0.0, 0.2).sub_(alike.round(decimals=3))
        # Beams end now and then, and never choose the padding.
        model.final_logits_bias[0, config.eos_token_id] += 1.8
        model.final_logits_bias[0, config.pad_token_id] -= 4.0
    save_model("marian", model)
    # As it is read: its sinusoids are no weights, though `spread` took them for some.
    model = MarianMTModel.from_pretrained(HERE / "marian").eval()

    def encoder(source, seen):
        return model.model.encoder(source, attention_mask=seen).last_hidden_state

    def logits(source, seen, target):
        return model(source, attention_mask=seen, decoder_input_ids=target).logits

    source, target = sentences(config)
    witness("marian", model, encoder, logits, source, target, pad=config.pad_token_id)
    stepped(model, source, target, pad=config.pad_token_id)


def stepped(model, source, target, *, pad):
    """The decoder with its caches, token by token, says what it says in one pass."""
    seen, past, steps = (source != pad).long(), None, []
    with torch.no_grad():
        whole = model(source, attention_mask=seen, decoder_input_ids=target).logits
        encoded = model.model.encoder(source, attention_mask=seen)
        for t in range(target.shape[1]):
            out = model(
                encoder_outputs=encoded, attention_mask=seen, decoder_input_ids=target[:, t : t + 1],
                past_key_values=past, use_cache=True,
            )  # fmt: skip
            past = out.past_key_values
            steps.append(out.logits)
    assert difference(torch.cat(steps, 1), whole) < 1e-12


def nn_transformer():
    """Pre-norm, tensor2tensor's sinusoid positions, embeddings as they are, logits without a bias."""
    torch.manual_seed(7)
    config = MarianConfig(
        vocab_size=37, d_model=20, encoder_layers=3, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=28, decoder_ffn_dim=28, max_position_embeddings=24,
        activation_function="relu", scale_embedding=False, eos_token_id=0, forced_eos_token_id=None,
        pad_token_id=36, decoder_start_token_id=36,
    )  # fmt: skip
    model = spread(PreNorm(config))
    folder = HERE / "nn_transformer"
    folder.mkdir(exist_ok=True)
    save_file(in_marians_names(model), folder / "model.safetensors", metadata={"format": "pt"})
    fields = [
        "vocab_size", "decoder_vocab_size", "d_model", "encoder_layers", "decoder_layers", "encoder_attention_heads",
        "decoder_attention_heads", "encoder_ffn_dim", "decoder_ffn_dim", "max_position_embeddings",
        "activation_function", "scale_embedding", "eos_token_id", "pad_token_id", "decoder_start_token_id",
        "share_encoder_decoder_embeddings", "tie_word_embeddings",
    ]  # fmt: skip
    ours = {"model_type": "encoder-decoder", "normalize_before": True, "position_embedding": "tensor2tensor"}
    text = json.dumps({field: getattr(config, field) for field in fields} | ours, indent=2, sort_keys=True)
    (folder / "config.json").write_text(text + "\n")

    source, target = sentences(config)
    witness("nn_transformer", model, model.encoder, model.logits, source, target, pad=config.pad_token_id)


class PreNorm(nn.Module):
    """`nn.Transformer` between an embedding and the same embedding."""

    def __init__(self, config):
        super().__init__()
        self.shared = nn.Embedding(config.vocab_size, config.d_model)
        self.inner = nn.Transformer(
            config.d_model, config.encoder_attention_heads, config.encoder_layers, config.decoder_layers,
            config.encoder_ffn_dim, activation=config.activation_function, norm_first=True, bias=True,
            batch_first=True,
        )  # fmt: skip

    def encoder(self, source, seen):
        return self.inner.encoder(self.embed(source), src_key_padding_mask=seen == 0)

    def logits(self, source, seen, target):
        length = target.shape[1]
        future = torch.ones(length, length, dtype=torch.bool).triu(1)
        decoded = self.inner(
            self.embed(source), self.embed(target), tgt_mask=future,
            src_key_padding_mask=seen == 0, memory_key_padding_mask=seen == 0,
        )  # fmt: skip
        return decoded @ self.shared.weight.T

    def embed(self, tokens):
        """tensor2tensor's positions: the first half of a row is sines, the second cosines."""
        half = self.shared.embedding_dim // 2
        frequency = torch.exp(-torch.arange(half, dtype=torch.double) * math.log(10000) / (half - 1))
        angle = torch.arange(tokens.shape[1], dtype=torch.double)[:, None] * frequency
        positions = torch.cat([angle.sin(), angle.cos()], -1)
        return self.shared(tokens) + positions.to(self.shared.weight.dtype)


def in_marians_names(model):
    """PyTorch keeps q, k and v in one tensor and numbers its norms; the layers are the same."""
    names = {
        "encoder": {"norm1": "self_attn_layer_norm", "norm2": "final_layer_norm"},
        "decoder": {
            "norm1": "self_attn_layer_norm", "norm2": "encoder_attn_layer_norm", "norm3": "final_layer_norm",
            "multihead_attn": "encoder_attn",
        },
    }  # fmt: skip
    names["encoder"] |= (same := {"linear1": "fc1", "linear2": "fc2"})
    names["decoder"] |= same
    weights = {"model.shared.weight": model.shared.weight.data}
    for name, tensor in model.inner.state_dict().items():
        half, *path = name.split(".")  # encoder.layers.0.norm1.weight, encoder.norm.weight
        path = ["layer_norm" if part == "norm" else names[half].get(part, part) for part in path]
        name = ".".join(["model", half, *path])
        if ".in_proj_" in name:
            for projection, rows in zip("qkv", tensor.chunk(3)):
                weights[name.replace("in_proj_", f"{projection}_proj.")] = rows.clone()
        else:
            weights[name] = tensor
    return weights


def sentences(config):
    """Two source sentences, the second padded on its right, and two equally long decoder inputs.

    No sentence holds the end or the padding by chance.
    """
    last = config.pad_token_id
    source = torch.randint(1, last, (2, max(SOURCE_LENGTHS)))
    for sentence, length in zip(source, SOURCE_LENGTHS):
        sentence[length:] = config.pad_token_id
    target = torch.randint(1, last, (2, TARGET_LENGTH))
    target[:, 0] = config.decoder_start_token_id
    return source, target


def witness(name, model, encoder, logits, source, target, *, pad):
    """`name/expected.safetensors`. The model is in f64 afterwards."""
    seen = (source != pad).long()
    with torch.no_grad():
        in_f32 = logits(source, seen, target).double()
        model.double()
        exact = logits(source, seen, target)
        encoded = {}
        for i, length in enumerate(SOURCE_LENGTHS):
            alone, whole = source[i : i + 1, :length], torch.ones(1, length, dtype=torch.long)
            encoded[f"encoder_{i}"] = encoder(alone, whole)[0]
            assert difference(logits(alone, whole, target[i : i + 1])[0], exact[i]) < 1e-12, "padding shows"
    f32_agrees(name, exact, in_f32)
    save(
        f"{name}/expected",
        source=source, source_lengths=SOURCE_LENGTHS, target=target, logits=exact, **encoded,
    )  # fmt: skip


if __name__ == "__main__":
    main()
