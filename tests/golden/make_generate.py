"""`generate.json`: what Hugging Face transformers' `generate` makes of a `generation_config.json`.

Random configurations for `gpt2/`, `llama/` and `marian/`, each read by `GenerationConfig.from_pretrained`; greedy and
beams. A case is kept where f32 cannot choose otherwise, and every key must change the outcome of some.
"""

import json
import random
import tempfile
from collections import Counter
from pathlib import Path

import torch
from transformers import GenerationConfig, GPT2LMHeadModel, LlamaForCausalLM, MarianMTModel

from common import HERE
from make_beams import STEPS, Watch

KEPT = 40  # cases of each model
CLOSE = 1e-4


def main():
    torch.set_grad_enabled(False)
    kinds = {"gpt2": GPT2LMHeadModel, "llama": LlamaForCausalLM, "marian": MarianMTModel}
    cases = [case for name, kind in kinds.items() for case in Maker(name, kind).cases()]
    lines = ",\n".join(json.dumps(case) for case in cases)
    (HERE / "generate.json").write_text(f"[\n{lines}\n]\n")
    print(f"generate.json: {len(cases)} cases")


class Maker:
    def __init__(self, name, kind):
        self.name, self.random = name, random.Random(name)
        self.model = kind.from_pretrained(HERE / name).double().eval()
        self.vocab = self.model.config.vocab_size
        self.has_source = self.model.config.is_encoder_decoder
        self.watch = Watch(self.model)
        heuristic = self.model._check_early_stop_heuristic

        def watched(**step):
            length = step["cur_len"] - step["decoder_prompt_len"]
            lengths = [length, STEPS] if step["early_stopping"] == "never" else [length]
            for length in lengths:
                live = step["running_beam_scores"][0, 0] / length ** step["length_penalty"]
                self.watch.closest = min(self.watch.closest, (live - step["beam_scores"].min()).abs().item())
            return heuristic(**step)

        self.model._check_early_stop_heuristic = watched

    def cases(self):
        kept, effective = [], Counter()
        while len(kept) < KEPT:
            start = [self.random.randrange(1, self.vocab - 1) for _ in range(self.random.choice([1, 4]))]
            beams = self.random.choice([1, 1, 2, 3])
            config = self.config(start, beams)
            found = self.generate(config, start, beams)
            if found is None:
                continue
            for key in sorted(config.keys() - self.always(beams)):
                without = {other: value for other, value in config.items() if other != key}
                effective[key] += self.generate(without, start, beams, keep_close=True) not in (None, found)
            kept.append({
                "model": self.name, "generation_config": config, "source" if self.has_source else "prompt": start,
                "num_beams": beams, "max_new_tokens": STEPS, **found,
            })  # fmt: skip
        print(f"{self.name}: cases that depend on a key: {dict(sorted(effective.items()))}")
        idle = [key for key, cases in effective.items() if not cases]
        assert not idle, f"{self.name}: no case depends on {idle}; take another seed"
        return kept

    def always(self, beams):
        """Without these nothing ends, or the rule is another."""
        always = {"pad_token_id": self.vocab - 1}
        if self.has_source:
            always["decoder_start_token_id"] = self.vocab - 1
        if beams > 1:
            always["early_stopping"] = self.random.choice([True, False, "never"])
        return always

    def config(self, start, beams):
        """Made of tokens that are likely, so that it matters."""
        pick, config = self.random, self.always(beams)
        plain = self.generate(config, start, beams, keep_close=True)["sequences"]
        likely = [token for tokens in plain for token in tokens]
        some = lambda most: sorted({pick.choice(likely) for _ in range(pick.randint(1, most))})
        pairs = [tokens[i : i + 2] for tokens in plain for i in range(len(tokens) - 1)]
        makers = {
            "eos_token_id": lambda: pick.choice([some(3), some(1)[0]]),
            "bad_words_ids": lambda: [[id] for id in some(2)] + pick.sample(pairs, min(2, len(pairs))),
            "suppress_tokens": lambda: some(3),
            "begin_suppress_tokens": lambda: sorted({tokens[0] for tokens in plain}),
            "forced_bos_token_id": lambda: pick.randrange(self.vocab),
            "forced_eos_token_id": lambda: pick.choice([some(2), pick.randrange(self.vocab)]),
            "repetition_penalty": lambda: pick.choice([0.7, 1.3, 2.0]),
            "no_repeat_ngram_size": lambda: pick.randint(1, 3),
            "min_length": lambda: pick.randint(1, 8),
            "min_new_tokens": lambda: pick.randint(1, 6),
            "renormalize_logits": lambda: True,
        }
        if beams > 1:
            makers["length_penalty"] = lambda: pick.choice([-0.5, 0.0, 0.6, 2.0])
        for key in pick.sample(sorted(makers), pick.randint(1, 6)):
            config[key] = makers[key]()
        if pick.random() < 0.7:
            config.setdefault("eos_token_id", makers["eos_token_id"]())
        return config

    def generate(self, config, start, beams, keep_close=False):
        """The continuations, the best first, and the scores of beams; `None` if f32 could choose others."""
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "generation_config.json").write_text(json.dumps(config))
            try:
                self.model.generation_config = GenerationConfig.from_pretrained(folder)
            except ValueError:  # it contradicts itself
                return None
        ids = torch.tensor([start])
        self.watch.closest = torch.inf
        out = self.model.generate(
            ids, attention_mask=torch.ones_like(ids), num_beams=beams, num_return_sequences=beams, do_sample=False,
            max_new_tokens=STEPS, output_scores=True, return_dict_in_generate=True,
        )  # fmt: skip
        fed = 1 if self.has_source else len(start)
        ends = self.model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        sequences = [self.cut(tokens.tolist(), ends) for tokens in out.sequences[:, fed:]]
        if beams == 1:
            best, second = torch.cat(out.scores).topk(2).values.unbind(-1)
            decided = best.isfinite().all() and (best - second).min() > CLOSE
            return {"sequences": sequences} if decided or keep_close else None
        scores = [round(score, 6) for score in out.sequences_scores.tolist()]
        decided = self.watch.closest > CLOSE and all(score > -1e6 for score in scores)
        return {"sequences": sequences, "scores": scores} if decided or keep_close else None

    @staticmethod
    def cut(tokens, ends):
        """The end counts; what follows is padding."""
        at = next((at for at, token in enumerate(tokens) if token in ends), len(tokens))
        return tokens[: at + 1]


if __name__ == "__main__":
    main()
