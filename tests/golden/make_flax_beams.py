"""`marian/beams_flax.safetensors`: beam search by `beam_search` of Flax's WMT example, over the Marian model.

    /tmp/golden/bin/python tests/golden/make_flax_beams.py flax/examples/wmt/decode.py

The examples come with no package: the file is that of github.com/google/flax at revision 18f8f311. Its
sums are f64 here, and the model is asked anew for every prefix.
"""

import importlib.util
import sys

import jax
import jax.numpy as jnp
import numpy as np
import torch
from transformers import MarianMTModel

from common import HERE, save
from make_beams import length_of
from make_seq2seq import sentences

jax.config.update("jax_enable_x64", True)

ALPHA = 0.6
# token that ends, beams, most new tokens. The model's own end comes early and, in two steps, to fewer
# hypotheses than there are beams; another one comes late or to none.
CASES = [(0, 2, 8), (0, 4, 8), (0, 4, 2), (16, 2, 8), (16, 4, 8)]


def main(decode):
    torch.manual_seed(2)
    model = Marian()
    source = model.source
    ends, beams, steps = zip(*CASES)
    shape, longest = (len(CASES), len(source), max(beams)), max(steps)
    sequences, lengths, scores = np.zeros((*shape, longest), int), np.zeros(shape, int), np.zeros(shape)
    for case, (end, most, length) in enumerate(CASES):
        search = Search(model, end, most, length)
        found, found_scores = decode.beam_search(
            jnp.asarray(source), search.cache(), search.tokens_to_logits, beam_size=most, alpha=ALPHA,
            eos_id=end, max_decode_len=1 + length,
        )  # fmt: skip
        for sentence in range(len(source)):
            # Flax has the best last, an empty place at -10⁷, and the start token before each.
            best_first = zip(found[sentence, ::-1, 1:], found_scores[sentence, ::-1])
            kept = [(new, float(score)) for new, score in best_first if score > -1e6]
            search.decided(sentence, [score for _, score in kept])
            for rank, (new, score) in enumerate(kept):
                new = new[: length_of(new, end)]
                sequences[case, sentence, rank, : len(new)] = new
                lengths[case, sentence, rank] = len(new)
                scores[case, sentence, rank] = score
        print(f"beams_flax: {CASES[case]}: closest beam chosen by {search.closest:.1e}")
    save(
        "marian/beams_flax", source=source, source_lengths=model.seen.sum(-1), alpha=[ALPHA],
        end=ends, num_beams=beams, max_new_tokens=steps, sequences=sequences, lengths=lengths, scores=scores,
    )  # fmt: skip


class Marian:
    def __init__(self):
        self.inner = MarianMTModel.from_pretrained(HERE / "marian").double().eval()
        config = self.inner.config
        self.source, _ = sentences(config)
        self.seen = (self.source != config.pad_token_id).long()
        self.start = config.decoder_start_token_id

    def log_p(self, sentence, fed):
        """Of every token after every prefix of `fed [batch, T]`."""
        with torch.no_grad():
            return self.inner(
                self.source[sentence], attention_mask=self.seen[sentence], decoder_input_ids=fed
            ).logits.log_softmax(-1)  # fmt: skip


class Search:
    """The model as `beam_search` wants it, looking over the search's shoulder.

    The cache is what was fed so far; so beams that are not reordered with it show.
    """

    def __init__(self, model, end, beams, steps):
        self.model, self.end, self.beams, self.steps = model, end, beams, steps
        self.ended = [[] for _ in model.source]  # the score of every hypothesis that ended
        self.closest = np.inf

    def cache(self):
        sentences = len(self.model.source)
        return {
            "sentence": jnp.arange(sentences),
            "fed": jnp.zeros((sentences, self.steps), int),
            "length": jnp.zeros(sentences, int),
        }

    def tokens_to_logits(self, tokens, cache):
        rows, vocab = len(tokens), self.model.inner.config.vocab_size
        length = cache["length"][0]
        # Flax starts every sentence with token 0.
        tokens = jnp.where(length == 0, self.model.start, tokens[:, 0])
        cache = cache | {"fed": cache["fed"].at[:, length].set(tokens), "length": cache["length"] + 1}
        result = jax.ShapeDtypeStruct((rows, vocab), jnp.float64)
        return jax.pure_callback(self.ask, result, cache["sentence"], cache["fed"], length + 1), cache

    def ask(self, sentence, fed, length):
        sentence, fed = (torch.tensor(np.asarray(array)) for array in (sentence, fed[:, : int(length)]))
        log_p = self.model.log_p(sentence, fed)
        sums = log_p[:, :-1].gather(-1, fed[:, 1:, None]).sum((1, 2))
        for which, candidates in enumerate((sums[:, None] + log_p[:, -1]).split(self.beams)):
            distinct = candidates if length > 1 else candidates[:1]
            best, index = distinct.flatten().topk(2 * self.beams + 1)
            self.closest = min(self.closest, (best[:-1] - best[1:]).min().item())
            ends = best[:-1][index[:-1] % log_p.shape[-1] == self.end]
            self.ended[which] += (ends / ((5 + int(length)) / 6) ** ALPHA).tolist()
        return log_p[:, -1].numpy()

    def decided(self, sentence, scores):
        """The hypotheses kept are the best of all that ended or, where none did, those that did not."""
        ended = sorted(self.ended[sentence], reverse=True)
        assert not ended or np.allclose(scores, ended[: self.beams], atol=1e-9), "beams_flax: others were kept"
        gaps = -np.diff(ended[: self.beams + 1] or scores)
        self.closest = min([self.closest, *gaps])
        assert self.closest > 1e-4, f"beams_flax: a beam is chosen by {self.closest:.1e} only; take another seed"


if __name__ == "__main__":
    spec = importlib.util.spec_from_file_location("decode", sys.argv[1])
    spec.loader.exec_module(decode := importlib.util.module_from_spec(spec))
    main(decode)
