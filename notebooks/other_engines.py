"""Times one decode step of other public engines, on the models and shapes that decode-bench measures.

    python3 -m venv /tmp/engines && /tmp/engines/bin/pip install -r notebooks/requirements.txt
    /tmp/engines/bin/python notebooks/other_engines.py --out other_engines.csv
    /tmp/engines/bin/python notebooks/other_engines.py --out other_engines.csv \\
        --decode-bench target/release/decode-bench

**What a step is.** GPT-2, batch 1, f32. The cache holds 63 tokens and the clock runs while the 64th
is fed, until its logits are complete; the cache is put back outside the clock and the step taken
again. Warm-up is at the same position. The tokens are given, so no rounding sends engines apart.

**What is compared with what.** For every shape and thread count the arms run interleaved, A B C A B C, in
several rounds, each time in a fresh process pinned to as many CPUs as it may have threads: the machine
drifts under all of them alike, and no thread pool or allocator outlives its turn. Before an arm is
timed, it has to give the same logits and go on greedily with the same tokens as `torch-eager-concat`
run in f64 on the same weights; one that does not is reported and gets no row. decode-bench checks
itself.

| engine | how it keeps K and V | what is timed |
|---|---|---|
| `torch-eager-concat` | `torch.cat`, one row longer each step | `Gpt2.step` below |
| `torch-eager-padded` | M rows, written in place, masked | `Gpt2.step` below |
| `transformers-dynamic` | its `DynamicCache` (concatenates) | the model's `forward` |
| `transformers-static` | its `StaticCache` of M rows | the model's `forward` |
| `jax-jit-padded` | M rows, donated to the compiled step | the compiled step; compiling is not timed |
| `ctranslate2-mkl`, `-onednn` | concatenates | see `CTranslate2.time`: no single step can be called |
| `decode-bench-…` | the strategy in its name | its own `step-time` command |

candle is not here: it is a Rust library, and has no program of this kind to call.

The CSV has one row a turn: `value_ns` is the median of `iters` timed steps. `--weights` takes what
`decode-bench --weights-out` writes, or any GPT-2 checkpoint of one of the shapes; the times do not
depend on it. Run it on an otherwise idle machine; a turn that other programs disturbed says so.
"""

import argparse
import csv
import itertools
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

COLUMNS = ["engine", "shape", "threads", "position", "round", "iters", "value_ns"]
SEED = 1
GREEDY_TOKENS = 8
# Largest difference of a logit from the f64 decode, relative to the largest logit: ten times the 2e-6
# that f32 leaves after 12 layers; the other GELU makes 1e-4, a wrong mask or position over 1e-2.
TOLERANCE = 2e-5


@dataclass(frozen=True)
class Shape:
    n_layer: int
    n_embd: int
    n_head: int
    vocab_size: int
    n_positions: int  # also M, the rows of a padded cache


SHAPES = {
    "toy": Shape(3, 256, 8, 1024, 512),
    "base": Shape(6, 512, 8, 8192, 1024),
    "gpt2": Shape(12, 768, 12, 50257, 1024),
}


# ---- The engines ------------------------------------------------------------------------------------
# Each imports its library when it is made, so a process holds one engine and no other's threads.


class Stepwise:
    """An engine that can be asked for one step: `step` feeds one token at `position` (from 0) into
    `cache`, and returns when its logits are there. `fork` gives a cache of the first `length` tokens, to
    take the same step from again: a new one sharing its tensors, or, where rows are written in place,
    the same one, since the next step overwrites what the last one wrote."""

    def answers(self, tokens, count):
        """The logits after `tokens`, and the `count` tokens that greedy decoding goes on with."""
        import numpy as np

        cache = self.empty()
        for position, token in enumerate(tokens):
            logits = self.step(cache, token, position)
        first, chosen = np.asarray(logits).reshape(-1).copy(), []  # an engine may reuse the memory
        while len(chosen) < count:
            chosen.append(int(np.asarray(logits).argmax()))
            logits = self.step(cache, chosen[-1], len(tokens) + len(chosen) - 1)
        return first, chosen

    def time(self, tokens, seconds):
        """elapsed = one `step` each, the last of `tokens`; forking is outside."""
        cache = self.empty()
        for position, token in enumerate(tokens[:-1]):
            self.step(cache, token, position)

        def sample():
            fork = self.fork(cache, length=len(tokens) - 1)
            begin = time.perf_counter_ns()
            self.step(fork, tokens[-1], len(tokens) - 1)
            return time.perf_counter_ns() - begin

        return samples(sample, seconds)


def samples(sample, seconds):
    """Repeats for `seconds`, after a quarter as long that is thrown away; never fewer than 5."""
    for length in (seconds / 4, seconds):
        taken, end = [], time.monotonic() + length
        while len(taken) < 5 or time.monotonic() < end:
            taken.append(sample())
    return taken


class Gpt2(Stepwise):
    """GPT-2 in eager PyTorch, as one would write it for one sequence. Subclasses keep the cache."""

    def __init__(self, folder, threads, dtype="float32", device="cpu"):
        import torch

        self.torch, self.device = torch, device
        torch.set_num_threads(threads)
        self.config, weights = read_model(folder)
        # Cloned: into memory that PyTorch itself allocated and aligned.
        weights = {
            name: torch.from_numpy(array).clone().to(device, getattr(torch, dtype)) for name, array in weights.items()
        }
        self.wte, self.wpe = weights["wte.weight"], weights["wpe.weight"]
        self.final = weights["ln_f.weight"], weights["ln_f.bias"]
        self.layers = [
            [
                (weights[f"h.{layer}.{part}.weight"], weights[f"h.{layer}.{part}.bias"])
                for part in ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")
            ]
            for layer in range(self.config.n_layer)
        ]

    def step(self, cache, token, position):
        with self.torch.inference_mode():
            return self.forward(cache, token, position)

    def forward(self, cache, token, position):
        """`token` and `position` are numbers, or tensors `[1]` on the device."""
        torch, functional = self.torch, self.torch.nn.functional
        width, heads = self.config.n_embd, self.config.n_head

        def norm(x, gain_bias):
            return functional.layer_norm(x, (width,), *gain_bias)

        def linear(x, weight_bias):
            weight, bias = weight_bias
            return torch.addmm(bias, x, weight)

        mask = self.mask(position)
        x = (self.wte[token] + self.wpe[position]).view(1, width)
        for layer, (ln_1, c_attn, c_proj, ln_2, c_fc, mlp_proj) in enumerate(self.layers):
            q, k, v = linear(norm(x, ln_1), c_attn).view(3, 1, heads, 1, width // heads)
            k, v = self.append(cache, layer, k, v, position)
            attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            x = x + linear(attended.view(1, width), c_proj)
            x = x + linear(functional.gelu(linear(norm(x, ln_2), c_fc), approximate="tanh"), mlp_proj)
        return functional.linear(norm(x, self.final), self.wte)


class TorchConcat(Gpt2):
    def empty(self):
        config = self.config
        none = self.wte.new_empty(1, config.n_head, 0, config.n_embd // config.n_head)
        return [(none, none)] * config.n_layer

    def fork(self, cache, length):
        return list(cache)  # a step replaces tensors, it writes into none

    def mask(self, position):
        return None

    def append(self, cache, layer, k, v, position):
        past_k, past_v = cache[layer]
        cache[layer] = self.torch.cat((past_k, k), 2), self.torch.cat((past_v, v), 2)
        return cache[layer]


class TorchPadded(Gpt2):
    def empty(self):
        torch, config = self.torch, self.config
        self.rows = torch.arange(config.n_positions, device=self.device).view(1, 1, 1, -1)
        shape = 1, config.n_head, config.n_positions, config.n_embd // config.n_head
        return [(self.wte.new_zeros(shape), self.wte.new_zeros(shape)) for _ in range(config.n_layer)]

    def fork(self, cache, length):
        return cache

    def mask(self, position):
        return self.rows <= position

    def append(self, cache, layer, k, v, position):
        keys, values = cache[layer]
        keys[:, :, position] = k[:, :, 0]
        values[:, :, position] = v[:, :, 0]
        return keys, values


class Transformers(Stepwise):
    """Hugging Face transformers' own GPT-2, one `forward` a step, its default attention."""

    def __init__(self, folder, threads, device="cpu"):
        import torch

        self.torch, self.device = torch, device
        torch.set_num_threads(threads)
        self.model = transformers_model(folder).to(device)

    def step(self, cache, token, position):
        with self.torch.inference_mode():
            fed = self.torch.tensor([[token]], device=self.device)
            return self.model(fed, past_key_values=cache, use_cache=True).logits


class TransformersDynamic(Transformers):
    def empty(self):
        from transformers import DynamicCache

        return DynamicCache()

    def fork(self, cache, length):
        from transformers import DynamicCache

        return DynamicCache([(keys, values) for keys, values, _ in cache])


class TransformersStatic(Transformers):
    def empty(self):
        from transformers import StaticCache

        return StaticCache(config=self.model.config, max_cache_len=self.model.config.n_positions)

    def fork(self, cache, length):
        with self.torch.inference_mode():  # on a GPU it was made in this mode
            for layer in cache.layers:
                layer.cumulative_length.fill_(length)
        return cache


class JaxPadded(Stepwise):
    """GPT-2 as one compiled function of (weights, cache, token, position), compiled once."""

    def __init__(self, folder, threads):
        import jax
        import jax.numpy as jnp

        config, weights = read_model(folder)
        heads, capacity, head_width = config.n_head, config.n_positions, config.n_embd // config.n_head

        def step(weights, cache, token, position):
            def norm(x, name):
                centred = x - x.mean()
                scaled = centred * jax.lax.rsqrt((centred * centred).mean() + 1e-5)
                return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

            def linear(x, name):
                return x @ weights[f"{name}.weight"] + weights[f"{name}.bias"]

            x = weights["wte.weight"][token] + weights["wpe.weight"][position]
            visible = jnp.arange(capacity) <= position
            for layer, (keys, values) in enumerate(cache):
                h = f"h.{layer}"
                q, k, v = linear(norm(x, f"{h}.ln_1"), f"{h}.attn.c_attn").reshape(3, heads, head_width)
                keys = jax.lax.dynamic_update_slice(keys, k[:, None], (0, position, 0))
                values = jax.lax.dynamic_update_slice(values, v[:, None], (0, position, 0))
                cache[layer] = keys, values
                scores = jnp.einsum("hd,hmd->hm", q, keys) / head_width**0.5
                share = jax.nn.softmax(jnp.where(visible, scores, -jnp.inf))
                x = x + linear(jnp.einsum("hm,hmd->hd", share, values).reshape(-1), f"{h}.attn.c_proj")
                hidden = jax.nn.gelu(linear(norm(x, f"{h}.ln_2"), f"{h}.mlp.c_fc"), approximate=True)
                x = x + linear(hidden, f"{h}.mlp.c_proj")
            return weights["wte.weight"] @ norm(x, "ln_f"), cache

        self.weights = {name: jnp.array(array) for name, array in weights.items()}
        # Donated, so that the cache is updated where it is instead of copied whole.
        self.compiled = jax.jit(step, donate_argnums=1)
        self.zeros = lambda: jnp.zeros((heads, capacity, head_width))
        self.n_layer = config.n_layer

    def empty(self):
        return [(self.zeros(), self.zeros()) for _ in range(self.n_layer)]

    def fork(self, cache, length):
        return cache

    def step(self, cache, token, position):
        logits, cache[:] = self.compiled(self.weights, cache, token, position)
        return logits.block_until_ready()


class CTranslate2:
    """Its library of matrix products is named in the arm, because it chooses by the CPU's maker (MKL on
    Intel's), and which is faster depends on the shape and, severalfold, on the number of threads."""

    use_mkl: bool

    def __init__(self, folder, threads):
        os.environ["CT2_USE_MKL"] = str(int(self.use_mkl))
        import ctranslate2

        self.generator = ctranslate2.Generator(
            str(folder / "ctranslate2"), compute_type="float32", inter_threads=1, intra_threads=threads
        )

    def generate(self, tokens, count):
        """`count` tokens after `tokens`. The state after all but the last of `tokens` is computed once
        and kept by the library ("static prompt"), so that a call takes `count` steps and no prefill."""
        *prompt, last = map(str, tokens)
        [result] = self.generator.generate_batch(
            [[last]], static_prompt=prompt, include_prompt_in_result=False, max_length=count, end_token=[]
        )  # fmt: skip
        return result.sequences_ids[0]

    def answers(self, tokens, count):
        import numpy as np

        logits = np.array(self.generator.forward_batch([tokens]))[0, -1]
        return logits, self.generate(tokens, count)

    def time(self, tokens, seconds):
        """The library decodes whole sequences only, so a step is the difference between generating
        10 tokens and 1, over the 9 steps between: those that feed positions 60 to 68, for position 64,
        the average of which is the step in the middle. Unlike the other arms' it feeds the tokens it
        chose itself and includes the choosing, an argmax over the vocabulary."""
        window = 9
        start = tokens[: len(tokens) - window // 2 - 1]

        def elapsed(count):
            begin = time.perf_counter_ns()
            self.generate(start, count)
            return time.perf_counter_ns() - begin

        def sample():
            one = elapsed(1)
            return (elapsed(1 + window) - one) // window

        return samples(sample, seconds)


class CTranslate2Mkl(CTranslate2):
    use_mkl = True


class CTranslate2OneDnn(CTranslate2):
    use_mkl = False


ENGINES = {
    "torch-eager-concat": TorchConcat,
    "torch-eager-padded": TorchPadded,
    "transformers-dynamic": TransformersDynamic,
    "transformers-static": TransformersStatic,
    "jax-jit-padded": JaxPadded,
    "ctranslate2-mkl": CTranslate2Mkl,
    "ctranslate2-onednn": CTranslate2OneDnn,
}


# ---- Weights and the answers to agree on ------------------------------------------------------------


def read_model(folder):
    """(Shape, {tensor name without `transformer.`: f32 array}) of a GPT-2 checkpoint."""
    from safetensors.numpy import load_file

    tensors = load_file(folder / "model.safetensors")
    wanted = {name.removeprefix("transformer."): tensors[name] for name in tensors if not is_ignored(name)}
    return read_shape(folder), wanted


def is_ignored(name):
    """The tied output embedding, and the causal masks that old checkpoints carry."""
    return name == "lm_head.weight" or name.endswith((".attn.bias", ".attn.masked_bias"))


def read_shape(folder):
    config = json.loads((folder / "config.json").read_text())
    return Shape(**{field: config[field] for field in Shape.__dataclass_fields__})


def write_random_model(folder, shape):
    """GPT-2's usual spread, also around biases of 0 and gains of 1, so that agreeing means something."""
    import numpy as np
    from safetensors.numpy import save_file

    random, d = np.random.default_rng(SEED), shape.n_embd
    shapes = {"wte.weight": (shape.vocab_size, d), "wpe.weight": (shape.n_positions, d)}
    for layer in range(shape.n_layer):
        for part, ends in {
            "ln_1": (d,), "attn.c_attn": (d, 3 * d), "attn.c_proj": (d, d),
            "ln_2": (d,), "mlp.c_fc": (d, 4 * d), "mlp.c_proj": (4 * d, d),
        }.items():  # fmt: skip
            shapes |= {f"h.{layer}.{part}.weight": ends, f"h.{layer}.{part}.bias": ends[-1:]}
    shapes |= {"ln_f.weight": (d,), "ln_f.bias": (d,)}

    weights = {name: random.standard_normal(ends, np.float32) * np.float32(0.02) for name, ends in shapes.items()}
    for name in weights:
        if "ln_" in name and name.endswith("weight"):
            weights[name] += 1
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2", **vars(shape)}))


def transformers_model(folder):
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    shape, weights = read_model(folder)
    with torch.device("meta"):  # no time spent on initial values
        model = GPT2LMHeadModel(GPT2Config(**vars(shape), bos_token_id=None, eos_token_id=None))
    tensors = {name: torch.from_numpy(array).clone() for name, array in weights.items()}
    model.transformer.load_state_dict(tensors, assign=True)
    model.tie_weights()
    return model.eval()


def convert_to_ctranslate2(folder):
    """By CTranslate2's own GPT-2 converter, less its tokenizer: token 7 is the word "7"."""
    from ctranslate2.converters.transformers import GPT2Loader

    model, loader = transformers_model(folder), GPT2Loader()
    words = [str(token) for token in range(model.config.vocab_size)]
    spec = loader.get_model_spec(model)
    loader.set_vocabulary(spec, words)
    spec.config.bos_token = spec.config.eos_token = spec.config.unk_token = words[0]
    spec.validate()
    spec.optimize(quantization="float32")
    (folder / "ctranslate2").mkdir()
    spec.save(str(folder / "ctranslate2"))


def prepare(folder, shape, position, weights, engines):
    """Fills `folder`: config.json, model.safetensors, reference.npz and, if wanted, ctranslate2/."""
    import numpy as np

    if weights:
        weights = Path(weights)
        if (weights / shape).is_dir():
            weights = weights / shape
        for name in ("config.json", "model.safetensors"):
            if not (weights / name).exists():
                sys.exit(f"{weights}: no {name}; expected a GPT-2 checkpoint of Hugging Face's layout")
            (folder / name).symlink_to((weights / name).resolve())
        if (found := read_shape(folder)) != SHAPES[shape]:
            sys.exit(f"{weights}/config.json is {found}, but {shape} is {SHAPES[shape]}")
    else:
        write_random_model(folder, SHAPES[shape])
    if any(engine.startswith("ctranslate2") for engine in engines):
        convert_to_ctranslate2(folder)
    tokens = np.random.default_rng(SEED).integers(SHAPES[shape].vocab_size, size=position)
    logits, greedy = TorchConcat(folder, len(available_cpus()), "float64").answers(tokens.tolist(), GREEDY_TOKENS)
    np.savez(folder / "reference.npz", tokens=tokens, logits=logits, greedy=greedy)


def measure(folder, engine, threads, seconds):
    """One turn of one engine: agree first, then be timed."""
    import numpy as np

    reference = np.load(folder / "reference.npz")
    tokens, expected = reference["tokens"].tolist(), reference["greedy"].tolist()
    engine = ENGINES[engine](folder, threads)
    logits, greedy = engine.answers(tokens, GREEDY_TOKENS)
    error = np.abs(logits - reference["logits"]).max() / np.abs(reference["logits"]).max()
    if not error <= TOLERANCE:
        sys.exit(f"its logits are off by {error:.1e} of the largest, more than {TOLERANCE:.0e}")
    if greedy != expected:
        sys.exit(f"it goes on with the tokens {greedy}, not {expected}")
    begin, others = time.monotonic(), others_cpu_seconds()
    step_ns = engine.time(tokens, seconds)
    others_cpus = (others_cpu_seconds() - others) / (time.monotonic() - begin)
    return {"logits_error": float(error), "others_cpus": others_cpus, "step_ns": step_ns}


def others_cpu_seconds():
    """CPU time that every process but this one has used so far. Threads that wait for each other by
    spinning take many times as long when one of them has lost its CPU, so it must be seen."""
    try:
        user, nice, system = map(int, Path("/proc/stat").read_text().split()[1:4])
    except OSError:
        return 0.0  # not Linux: not known
    own = os.times()
    return (user + nice + system) / os.sysconf("SC_CLK_TCK") - own.user - own.system


# ---- decode-bench as one more arm -------------------------------------------------------------------


def decode_bench_command(binary, strategy, shape, threads, position):
    """THE ONE PLACE that knows decode-bench's command line. Of what it prints, a line of JSON
    `{"step_ns": [...]}` is read, one number for every timed step, as from the processes above."""
    return [
        binary, "step-time", "--shape", shape, "--threads", str(threads),
        "--position", str(position), "--strategy", strategy,
    ]  # fmt: skip


# ---- Taking turns -----------------------------------------------------------------------------------


class Failed(Exception):
    """A process that ended without an answer; says what it said last."""


def run(command, threads, prefix):
    """Runs one process of at most `threads` threads to its end; returns the JSON line it printed."""
    command = prefix + command
    try:
        done = subprocess.run(
            command,
            env=environment(threads),
            preexec_fn=lambda: pin(threads),
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise Failed(f"{error.strerror}: {shlex.join(command)}") from None
    if done.returncode != 0:
        last_words = done.stderr.strip().splitlines()[-8:] or [f"exit status {done.returncode}: {shlex.join(command)}"]
        raise Failed("\n    ".join(last_words))
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            try:
                return json.loads(line)
            except json.JSONDecodeError:
                break
    raise Failed(f"printed no line of JSON: {shlex.join(command)}")


def environment(threads):
    # A kernel forced upon OpenBLAS from outside would be timed instead of the one it chooses.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OPENBLAS_", "XLA_"))}
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS", "NPROC"):
        env[name] = str(threads)  # NPROC is what JAX reads
    if threads == 1:
        env["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    return env | {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1"}


def pin(threads):
    if hasattr(os, "sched_setaffinity"):  # Linux; elsewhere the variables above have to do
        os.sched_setaffinity(0, available_cpus()[:threads])


def available_cpus():
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count()))


def child_command(task, **arguments):
    return [sys.executable, __file__, "--child", json.dumps({"task": task, **arguments})]


def child(task, folder, **arguments):
    """This program in a process of its own: one preparation, or one turn of one engine."""
    try:
        answer = {"prepare": prepare, "measure": measure}[task](Path(folder), **arguments)
        print(json.dumps(answer or {}))
    except ModuleNotFoundError as error:
        sys.exit(f"{error}: pip install -r notebooks/requirements.txt")


def arms(options, folder, shape, threads):
    """{engine: the command that takes its turn}."""
    turns = {
        engine: child_command("measure", folder=folder, engine=engine, threads=threads, seconds=options.seconds)
        for engine in options.engines
    }
    if options.decode_bench:
        for strategy in options.strategies:
            turns[f"decode-bench-{strategy}"] = decode_bench_command(
                options.decode_bench, strategy, shape, threads, options.position
            )
    return turns


def compare(options, record):
    """Lets every arm take its turns and `record`s each: the engine, its cell and its steps. A turn that
    fails is reported and leaves a gap. Returns the number of those."""
    failures = 0
    for shape in options.shapes:
        with tempfile.TemporaryDirectory(prefix="other-engines-") as folder:
            log(f"{shape}: preparing weights and the answers to agree on")
            weights = options.weights and str(options.weights.resolve())
            arguments = dict(shape=shape, position=options.position, weights=weights, engines=options.engines)
            run(child_command("prepare", folder=folder, **arguments), len(available_cpus()), options.prefix)
            for threads, turn in itertools.product(options.threads, range(1, options.rounds + 1)):
                for engine, command in arms(options, folder, shape, threads).items():
                    where = f"{shape}, threads {threads}, round {turn}, {engine}"
                    try:
                        step_ns, remarks = take_turn(command, threads, options.prefix)
                    except Failed as failure:
                        failures += 1
                        log(f"{where}: NOT MEASURED: {failure}")
                        continue
                    value_ns = round(statistics.median(step_ns))
                    record(engine, shape, threads, turn, len(step_ns), value_ns)
                    log(f"{where}: {value_ns / 1e3:.0f} µs{remarks}")
    return failures


def take_turn(command, threads, prefix):
    """The timed steps, and what the person watching should know about them."""
    answer = run(command, threads, prefix)
    if not answer.get("step_ns"):
        raise Failed(f'printed no "step_ns": {shlex.join(command)}')
    remarks = ""
    if "logits_error" in answer:
        remarks += f", logits within {answer['logits_error']:.0e}"
    if answer.get("others_cpus", 0) > 0.1:
        remarks += f"; DISTURBED: other programs used {answer['others_cpus']:.1f} CPUs"
    return answer["step_ns"], remarks


def log(message):
    print(message, file=sys.stderr, flush=True)


def table(rows):
    """Median over the rounds in µs, with the least and the most of them; engines down, cells across."""
    cells = {}
    for engine, shape, threads, _, _, _, value_ns in rows:
        cells.setdefault(engine, {}).setdefault(f"{shape}, threads {threads}", []).append(value_ns / 1e3)
    heads = list(dict.fromkeys(head for row in cells.values() for head in row))
    lines = [["median µs per step"] + heads]
    for engine, row in cells.items():
        lines.append([engine] + [spread(row[head]) if head in row else "" for head in heads])
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def counts(text):
    return [int(count) for count in text.split(",")]


def spread(values):
    return f"{statistics.median(values):.0f} ({min(values):.0f}..{max(values):.0f})"


def read_options():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], allow_abbrev=False,
        epilog="What is timed, and how: see the head of this file.",
    )  # fmt: skip
    listed = dict(type=lambda text: text.split(","), metavar="A,B,…")
    parser.add_argument("--out", type=Path, required=True, help="the CSV to write; must not exist yet")
    parser.add_argument("--shapes", **listed, default=list(SHAPES), help="of " + ", ".join(SHAPES))
    parser.add_argument("--engines", **listed, default=list(ENGINES), help="of " + ", ".join(ENGINES))
    parser.add_argument("--threads", type=counts, metavar="N,N,…", default=[1, 2], help="(default 1,2)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of every arm (default 5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="timed for so long per turn (default 2)")
    parser.add_argument("--position", type=int, default=64, help="the token whose step is timed (default 64)")
    parser.add_argument(
        "--weights", type=Path, metavar="DIR",
        help="a GPT-2 checkpoint (config.json, model.safetensors), or a folder of one for each shape, "
        "named like it; without it, random weights from a fixed seed",
    )  # fmt: skip
    parser.add_argument("--decode-bench", type=Path, metavar="BINARY", help="let decode-bench take turns too")
    parser.add_argument(
        "--strategies", **listed, default=["concat", "padded"], help="its strategies (default concat,padded)"
    )
    parser.add_argument(
        "--prefix", type=shlex.split, default=[], metavar="COMMAND",
        help="put before every process started, for example 'numactl --membind=0'",
    )  # fmt: skip
    options = parser.parse_args()
    if options.out.exists():
        parser.error(f"{options.out} is there already; name another file")
    if not options.out.parent.is_dir():
        parser.error(f"{options.out.parent}: no such folder")
    for given, known in ((options.shapes, SHAPES), (options.engines, ENGINES)):
        for name in given:
            if name not in known:
                parser.error(f'there is no "{name}"; there are {", ".join(known)}')
    last = min(SHAPES[shape].n_positions for shape in options.shapes) - GREEDY_TOKENS
    if not 8 <= options.position <= last:
        parser.error(f"--position {options.position} must be in 8..{last} for these shapes")
    if options.rounds < 1 or not options.seconds > 0:
        parser.error("--rounds and --seconds are above 0")
    for count in options.threads:
        if not 1 <= count <= len(available_cpus()):
            parser.error(f"--threads {count} must be in 1..{len(available_cpus())}, the CPUs there are")
    if options.decode_bench:
        if not options.decode_bench.is_file():
            parser.error(f"{options.decode_bench}: no such file; cargo build --release makes it")
        options.decode_bench = str(options.decode_bench.resolve())

    return options


def main():
    options, rows = read_options(), []

    def record(engine, shape, threads, turn, iters, value_ns):
        rows.append([engine, shape, threads, options.position, turn, iters, value_ns])
        with options.out.open("a", newline="") as file:  # each at once: a run that is stopped keeps what it has
            csv.writer(file).writerows([COLUMNS, rows[0]] if len(rows) == 1 else rows[-1:])

    try:
        failures = compare(options, record)
    except Failed as failure:
        sys.exit(str(failure))
    print(table(rows))
    if failures:
        sys.exit(f"{failures} turns were not measured; see above")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(**json.loads(sys.argv[2]))
    else:
        main()
