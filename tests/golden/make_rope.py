"""`rope.json` and `yarn.json`: scaled rotary positions, as Hugging Face transformers' Llama reads and computes them.

Random values of the kinds `linear` and `llama3`, and of `yarn`, under either name of the object, of its kind and of what it began
with, put into the configuration of `llama/`. Every case must move the logits of that model."""

import json
import random

import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils.logging import set_verbosity_error

from common import HERE, difference

KINDS = {"rope": ["linear", "llama3", "llama3"], "yarn": ["yarn"]}
YARN = {
    "beta_fast": lambda draw: draw.choice([32, None, round(draw.uniform(1, 9), 3)]),
    "beta_slow": lambda draw: draw.choice([1, None, round(draw.uniform(0.1, 1), 3)]),
    "mscale": lambda draw: draw.choice([1, 0.707, round(draw.uniform(0.1, 2), 3)]),
    "mscale_all_dim": lambda draw: draw.choice([1, 0.707, round(draw.uniform(0.1, 2), 3)]),
    "attention_factor": lambda draw: draw.choice([None, round(draw.uniform(0.5, 1.5), 3)]),
    "truncate": lambda draw: draw.random() < 0.5,
}
CASES = 40
TOKENS = [7, 41, 2, 52, 19, 33, 8, 0, 27, 14, 50, 11, 36, 5, 23, 46, 1, 30]


def main():
    set_verbosity_error()
    torch.set_grad_enabled(False)
    plain = logits(LlamaConfig.from_pretrained(HERE / "llama"))[0]
    for name, kinds in KINDS.items():
        draw = random.Random(31)
        cases = []
        while len(cases) < CASES:
            fields = scaled(draw, kinds)
            found, frequencies = logits(changed(fields))
            if difference(found, plain) > 1e-3:
                cases.append({"fields": fields, "frequencies": digits(frequencies), "logits": digits(found)})
        lines = ",\n".join(json.dumps(case) for case in cases)
        (HERE / f"{name}.json").write_text(f'{{"tokens": {TOKENS}, "cases": [\n{lines}\n]}}\n')
        print(f"{name}.json: {len(cases)} cases")
    dynamic = changed({"rope_scaling": {"type": "dynamic", "factor": 4.0}})
    assert dynamic.rope_parameters["rope_type"] == "dynamic" and torch.equal(logits(dynamic)[0], plain)


def changed(fields):
    """The configuration of `llama/` with other fields."""
    return LlamaConfig.from_dict(json.loads((HERE / "llama/config.json").read_text()) | json.loads(json.dumps(fields)))


def logits(config):
    """After the last of TOKENS, and the angles of one position."""
    model = LlamaForCausalLM.from_pretrained(HERE / "llama", config=config).double().eval()
    return model(torch.tensor([TOKENS])).logits[0, -1], model.model.rotary_emb.inv_freq


def digits(numbers):
    return [float(f"{number:.7g}") for number in numbers.tolist()]


def scaled(draw, kinds):
    kind = draw.choice(kinds)
    rope = {draw.choice(["rope_type", "type"]): kind, "factor": draw.choice([2, 8.0, round(draw.uniform(0.5, 40), 3)])}
    fields = {draw.choice(["rope_scaling", "rope_parameters"]): rope}
    if draw.random() < 0.7:
        theta = draw.choice([500_000.0, round(draw.uniform(2, 20_000), 3)])
        draw.choice([rope, fields])["rope_theta"] = theta
    if kind == "llama3":
        low = draw.choice([1, 1.0, round(draw.uniform(0.1, 3), 3)])
        rope |= {"low_freq_factor": low, "high_freq_factor": draw.choice([low + 3, round(low + draw.uniform(0.1, 9), 3)])}
    if kind == "yarn":
        for key, values in YARN.items():
            if draw.random() < 0.4:
                rope[key] = values(draw)
    if kind != "linear":
        for place in (rope, fields):
            if draw.random() < 0.6:
                place["original_max_position_embeddings"] = draw.choice([16, 32, 8192, draw.randint(8, 999)])
    return fields


if __name__ == "__main__":
    main()
