"""`{gpt2,llama,families/qwen2,marian}/beams.safetensors`: beam search by Hugging Face transformers' `generate`.

`early_stopping=True`: a sentence is done when as many hypotheses have ended as there are beams.
transformers takes the model's f64 logits to f32 before it forms log-probabilities and their sums.
"""

from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import torch
from transformers import Cache, EncoderDecoderCache, GPT2LMHeadModel, LlamaForCausalLM, MarianMTModel, Qwen2ForCausalLM

from common import HERE, save
from make_seq2seq import sentences

STEPS = 8
# beams, length penalty, fewest new tokens
CASES = [(beams, penalty, 0) for beams in (2, 3, 5) for penalty in (0.0, 0.6, 1.0, 2.0)] + [(3, 1.0, 5)]


def main():
    causal("gpt2", GPT2LMHeadModel, seed=37, end=48)
    causal("llama", LlamaForCausalLM, seed=7, end=8)
    causal("families/qwen2", Qwen2ForCausalLM, seed=0, end=11)
    marian(seed=0)


def causal(name, kind, *, seed, end):
    torch.manual_seed(seed)
    model = kind.from_pretrained(HERE / name).double().eval()
    prompts = torch.randint(1, model.config.vocab_size, (2, 4))

    def log_p(sentence, new):
        tokens = torch.cat([prompts[sentence], new])
        return model(tokens[None]).logits[0, prompts.shape[1] - 1 : -1].log_softmax(-1)

    inputs = {"input_ids": prompts, "attention_mask": torch.ones_like(prompts)}
    search(name, model, inputs, log_p, end=end, pad=0, prompts=prompts)


def marian(*, seed):
    torch.manual_seed(seed)
    model = MarianMTModel.from_pretrained(HERE / "marian").double().eval()
    config = model.config
    source, target = sentences(config)
    seen = (source != config.pad_token_id).long()

    def log_p(sentence, new):
        fed = torch.cat([target[sentence, :1], new[:-1]])  # the start token, then the hypothesis
        one = slice(sentence, sentence + 1)
        return model(source[one], attention_mask=seen[one], decoder_input_ids=fed[None]).logits[0].log_softmax(-1)

    search(
        "marian", model, {"input_ids": source, "attention_mask": seen}, log_p,
        end=config.eos_token_id, pad=config.pad_token_id, source=source, source_lengths=seen.sum(-1),
    )  # fmt: skip


def search(name, model, inputs, log_p, *, end, pad, **given):
    """All of `CASES`; `log_p(sentence, new)` is what the model says of a hypothesis's tokens in one pass."""
    shape = len(CASES), 2, max(beams for beams, _, _ in CASES)
    sequences, lengths, scores = np.zeros((*shape, STEPS), int), np.zeros(shape, int), np.zeros(shape)
    fed = 1 if model.config.is_encoder_decoder else inputs["input_ids"].shape[1]

    def generate(beams, penalty, fewest):
        return model.generate(
            **inputs, num_beams=beams, num_return_sequences=beams, length_penalty=penalty, early_stopping=True,
            do_sample=False, max_new_tokens=STEPS, min_new_tokens=fewest, eos_token_id=end, pad_token_id=pad,
            return_dict_in_generate=True, output_scores=True,
        )  # fmt: skip

    watch = Watch(model)
    with torch.no_grad():
        for case, (beams, penalty, fewest) in enumerate(CASES):
            found = generate(beams, penalty, fewest)
            for row, (new, score) in enumerate(zip(found.sequences[:, fed:], found.sequences_scores)):
                sentence, rank = divmod(row, beams)
                new = new[: length_of(new, end)]
                log_ps = log_p(sentence, new).gather(-1, new[:, None])
                assert len(new) >= fewest and abs(log_ps.sum() / len(new) ** penalty - score) < 1e-5
                sequences[case, sentence, rank, : len(new)] = new
                lengths[case, sentence, rank] = len(new)
                scores[case, sentence, rank] = score
    watch.decided(name)
    tells_apart(name, sequences, lengths, end)
    with torch.no_grad(), unordered():
        for case, settings in enumerate(CASES):
            other = generate(*settings).sequences_scores.numpy().reshape(2, -1)
            moved = np.abs(other - scores[case, :, : settings[0]]).max()
            assert moved > 1e-3, f"{name}: unordered caches pass unnoticed with {settings}; take another seed"
    save(
        f"{name}/beams", **given, end=[end], num_beams=[beams for beams, _, _ in CASES],
        length_penalty=[penalty for _, penalty, _ in CASES], min_new_tokens=[fewest for _, _, fewest in CASES],
        sequences=sequences, lengths=lengths, scores=scores,
    )  # fmt: skip


def length_of(new, end):
    """The end counts; a hypothesis without one was cut."""
    ends = np.flatnonzero(np.asarray(new) == end)
    return ends[0] + 1 if len(ends) else len(new)


@contextmanager
def unordered():
    """The mistake that this witness is for: beams go on with each other's caches."""
    leave = lambda self, beams: None
    with patch.object(Cache, "reorder_cache", leave), patch.object(EncoderDecoderCache, "reorder_cache", leave):
        yield


class Watch:
    """Looks over a search's shoulder: how close were its choices?"""

    def __init__(self, model):
        self.closest, self.reordered, self.crowded = np.inf, False, False
        top_k, update = model._get_top_k_continuations, model._update_finished_beams

        def continuations(**step):
            beams, scores = step["num_beams"], step["accumulated_log_probs"]
            self.ranked(scores, step["beams_to_keep"])
            parents = scores.topk(beams).indices // (scores.shape[1] // beams)
            self.reordered |= (parents != torch.arange(beams)).any().item()
            return top_k(**step)

        def finished(**step):
            beams, length = step["num_beams"], step["cur_len"] + 1 - step["decoder_prompt_len"]
            room = beams - step["is_sent_finished"].sum(-1)
            ended = step["next_token_hits_stopping_criteria"][:, :beams] & (room > 0)[:, None]
            if length < STEPS:
                self.crowded |= (ended.sum(-1) > room).any().item()
            scores = step["topk_log_probs"][:, :beams] / length ** step["length_penalty"]
            self.ranked(torch.cat([step["beam_scores"], scores.masked_fill(~ended, -1e9)], 1), beams)
            return update(**step)

        model._get_top_k_continuations, model._update_finished_beams = continuations, finished

    def ranked(self, scores, kept):
        """The `kept` best of `scores [batch, candidates]`, and the best of those not kept."""
        best = scores.topk(kept + 1).values
        gaps = (best[:, :-1] - best[:, 1:])[best[:, 1:] > -1e8]  # below are empty places
        self.closest = min([self.closest, *gaps.tolist()])

    def decided(self, name):
        assert self.closest > 1e-4, f"{name}: a beam is chosen by {self.closest:.1e} only; take another seed"
        assert self.reordered, f"{name}: no beam is another's child; take another seed"
        # Before the last step there is room for all that end. Which are kept where there is not is a
        # matter of taste: transformers keeps the best, fairseq those that ended first.
        assert not self.crowded, f"{name}: more hypotheses end than there are beams; take another seed"
        print(f"{name}: closest beam chosen by {self.closest:.1e}")


def tells_apart(name, sequences, lengths, end):
    """No setting is without effect."""
    for beams in {beams for beams, _, _ in CASES}:
        of = [case for case, settings in enumerate(CASES) if settings[0] == beams]
        ended = (sequences[of] == end).any(-1)
        early, cut = ended & (lengths[of] < STEPS), ~ended & (lengths[of] == STEPS)
        assert early.any() and cut.any(), f"{name}: with {beams} beams all end, or none does; take another seed"
    by = {settings: sequences[case] for case, settings in enumerate(CASES)}
    for one, other in [((5, 0.0, 0), (5, 2.0, 0)), ((3, 1.0, 0), (3, 1.0, 5)), ((2, 1.0, 0), (5, 1.0, 0))]:
        assert (by[one][:, 0] != by[other][:, 0]).any(), f"{name}: {one} and {other} find the same; take another seed"


if __name__ == "__main__":
    main()
