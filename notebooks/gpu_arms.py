"""The engines of gpu_engines.py, which says what is timed: each runs in a process of its own, and answers a question of
one line of JSON with another.
"""

import itertools
import json
import os
import resource
import statistics
import sys
import time
from pathlib import Path

import other_engines

WARM_UP = 3


class TorchArm:
    """What every arm of PyTorch's has in common, on a GPU or not."""

    def __init__(self, folder, threads, device):
        super().__init__(folder, threads, device=device)
        self.on_gpu = device == "cuda"

    def wait(self):
        if self.on_gpu:
            self.torch.cuda.synchronize()


class Concat(TorchArm, other_engines.TorchConcat):
    pass


class TransformersConcat(TorchArm, other_engines.TransformersDynamic):
    pass


class TransformersPadded(TorchArm, other_engines.TransformersStatic):
    pass


class Padded(TorchArm, other_engines.TorchPadded):
    """Token and position are data of the device, so that the same step serves at every position."""

    def empty(self):
        torch, cache = self.torch, super().empty()
        # Pinned, so that the copy is queued; one copy for both.
        self.host = torch.zeros(2, dtype=torch.int64, pin_memory=self.on_gpu)
        self.numbers = self.host.numpy()
        self.fed = torch.zeros(2, dtype=torch.int64, device=self.device)
        return cache

    def append(self, cache, layer, k, v, position):
        keys, values = cache[layer]
        keys.index_copy_(2, position, k)
        values.index_copy_(2, position, v)
        return keys, values

    def feed(self, token, position):
        """The device has to be idle: it may not have read the last numbers yet."""
        self.numbers[0], self.numbers[1] = token, position
        self.fed.copy_(self.host, non_blocking=True)

    def step(self, cache, token, position):
        with self.torch.no_grad():
            self.feed(token, position)
            return self.run(cache)

    def run(self, cache):
        return self.whole_step(cache)

    def whole_step(self, cache):
        return self.forward(cache, self.fed[:1], self.fed[1:])


class Graph(Padded):
    """A graph keeps the addresses of all tensors of the step it was captured from: it belongs to one cache."""

    def empty(self):
        if not self.on_gpu:
            raise RuntimeError("a CPU has no CUDA graphs")
        torch, cache = self.torch, super().empty()
        self.feed(0, 0)
        with torch.no_grad():
            # Before a capture the step runs on another stream, for what libraries set up when first called.
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(WARM_UP):
                    self.whole_step(cache)
            torch.cuda.current_stream().wait_stream(side)
            torch.cuda.synchronize()
            begin = time.perf_counter_ns()
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.logits = self.whole_step(cache)
            torch.cuda.synchronize()
            self.prepared = {"capture_ns": time.perf_counter_ns() - begin}
        return cache

    def run(self, cache):
        self.graph.replay()
        return self.logits


class Compiled(Padded):
    def empty(self):
        torch, cache = self.torch, super().empty()
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        # Weights, cache and numbers stay where they are: without this they would be copied into the graph each time,
        # and a cache that is written in place would rule a graph out.
        weights = [self.wte, self.wpe, *self.final, *itertools.chain(*itertools.chain(*self.layers))]
        for tensor in [*weights, *itertools.chain(*cache), self.fed, self.rows]:
            torch._dynamo.mark_static_address(tensor)
        self.compiled = torch.compile(self.whole_step, mode="reduce-overhead", fullgraph=True)
        begin = time.perf_counter_ns()
        self.step(cache, 0, 0)
        self.wait()
        self.prepared = {"compile_ns": time.perf_counter_ns() - begin}
        for _ in range(WARM_UP):  # its second call records the graph
            self.step(cache, 0, 0)
        self.wait()
        skips = torch._dynamo.utils.counters["inductor"]["cudagraph_skips"]
        if self.on_gpu and skips:
            self.remark = f"compiled without a CUDA graph: {skips} skipped"
        return cache

    def run(self, cache):
        self.torch.compiler.cudagraph_mark_step_begin()
        return self.compiled(cache)


class Jax(other_engines.JaxPadded):
    def __init__(self, folder, threads, device):
        import jax

        jax.config.update("jax_default_matmul_precision", "highest")
        found = jax.default_backend()
        if found != {"cuda": "gpu"}.get(device, device):
            raise RuntimeError(f"JAX sees no {device}, only {found}")
        super().__init__(folder, threads)

    def empty(self):
        begin, cache = time.perf_counter_ns(), super().empty()
        self.step(cache, 0, 0)
        self.prepared = {"compile_ns": time.perf_counter_ns() - begin}
        return cache

    def wait(self):
        pass  # every step has waited for itself


def set_up_torch(device):
    import torch

    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    assert not torch.backends.cuda.matmul.allow_tf32 and not torch.backends.cudnn.allow_tf32
    if device != "cuda":
        return {}
    if not torch.cuda.is_available():
        raise RuntimeError("PyTorch sees no GPU")
    about = torch.cuda.get_device_properties(0)
    return {
        "name": about.name,
        "compute_capability": f"{about.major}.{about.minor}",
        "memory_bytes": about.total_memory,
        "multiprocessors": about.multi_processor_count,
    }


# {backend: {strategy: the class}}; `slow` ones take their turns last.
ENGINES = {
    "torch-eager": {"concat": Concat, "padded": Padded},
    "torch-graph": {"padded": Graph},
    "jax": {"padded": Jax},
    "transformers": {"concat": TransformersConcat, "padded": TransformersPadded},
    "torch-compile": {"padded": Compiled},
}
SLOW = ("torch-compile",)
PACKAGES = {"jax": ("jax", "jaxlib", "numpy"), "transformers": ("torch", "transformers", "numpy")}


class Worker:
    """One arm, in its process. Answers a question of one line of JSON with another."""

    def __init__(self, engine, strategy, device, threads):
        self.engine, self.strategy, self.device, self.threads = engine, strategy, device, threads
        self.gpu = {}
        if engine != "jax":
            self.gpu = set_up_torch(device)
        self.prefilled = {}

    def about(self):
        from importlib.metadata import version

        packages = PACKAGES.get(self.engine, ("torch", "numpy"))
        return {"gpu": self.gpu, "packages": {name: version(name) for name in packages}}

    def prepare(self, folder, tokens, positions):
        """Feeds all tokens. The cache before each position is kept, and the logits after it compared."""
        import numpy as np

        self.prefilled = {}
        self.arm = None  # the last shape's memory is given back first
        expected = np.load(Path(folder) / "reference.npz")
        self.tokens = tokens
        self.arm = arm = ENGINES[self.engine][self.strategy](Path(folder), self.threads, self.device)
        found, cache = {}, arm.empty()
        for at, token in enumerate(tokens):
            if at + 1 in positions:
                self.prefilled[at + 1] = arm.fork(cache, at)
            logits = arm.step(cache, token, at)
            arm.wait()
            if at + 1 in positions:
                found[at + 1] = difference(logits, expected[str(at + 1)])
        return {"found": found, "prepared": getattr(arm, "prepared", {}), "remark": getattr(arm, "remark", "")}

    def time(self, position, steps, device_time):
        switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        step_ns = [self.step_ns(position) for _ in range(WARM_UP + steps)][WARM_UP:]
        preempted = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw > switches
        answer = {"step_ns": step_ns, "mark": "preempted" if preempted else ""}
        if device_time and self.device == "cuda" and self.engine != "jax":
            answer["device_ns"] = self.device_ns(position, steps, statistics.median(step_ns))
        return answer

    def step_ns(self, position):
        cache = self.arm.fork(self.prefilled[position], position - 1)
        self.arm.wait()
        begin = time.perf_counter_ns()
        self.arm.step(cache, self.tokens[position - 1], position - 1)
        self.arm.wait()
        return time.perf_counter_ns() - begin

    def device_ns(self, position, steps, usual_ns):
        """Nanoseconds of as many steps by the device's clock; None where the step was not queued as a whole."""
        torch, total_ms = self.arm.torch, 0.0
        for _ in range(steps):
            cache = self.arm.fork(self.prefilled[position], position - 1)
            self.arm.wait()
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda._sleep(int(4 * usual_ns + 100_000))  # cycles, two a nanosecond at most
            begin.record()
            self.arm.step(cache, self.tokens[position - 1], position - 1)
            end.record()
            if begin.query():
                return None  # the device was there before the host had queued all
            self.arm.wait()
            total_ms += begin.elapsed_time(end)
        return round(total_ms * 1e6)


def difference(logits, expected):
    import numpy as np

    logits = np.asarray(logits.cpu() if hasattr(logits, "cpu") else logits, np.float64).reshape(-1)
    apart = np.abs(logits - expected)
    most = float(apart.max())
    return {"max_abs": most, "max_rel": most / float(np.abs(expected).max()), "place": f"0/{int(apart.argmax())}"}


def reference(folder, tokens, positions):
    """Writes the logits after each position: the whole sequence at once in f64, no cache."""
    import numpy as np

    config, weights = other_engines.read_model(Path(folder))
    weights = {name: array.astype(np.float64) for name, array in weights.items()}
    heads, rows = config.n_head, len(tokens)

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred * centred).mean(-1, keepdims=True) + 1e-5)
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def linear(x, name):
        return x @ weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def attention(q, k, v):
        scores = q @ k.T / np.sqrt(q.shape[1])
        scores[np.triu_indices(rows, 1)] = -np.inf
        share = np.exp(scores - scores.max(1, keepdims=True))
        return share / share.sum(1, keepdims=True) @ v

    x = weights["wte.weight"][tokens] + weights["wpe.weight"][:rows]
    for layer in range(config.n_layer):
        h = f"h.{layer}"
        qkv = linear(norm(x, f"{h}.ln_1"), f"{h}.attn.c_attn").reshape(rows, 3, heads, -1)
        attended = [attention(*(qkv[:, part, head] for part in range(3))) for head in range(heads)]
        x = x + linear(np.concatenate(attended, 1), f"{h}.attn.c_proj")
        hidden = linear(norm(x, f"{h}.ln_2"), f"{h}.mlp.c_fc")
        hidden *= 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)))
        x = x + linear(hidden, f"{h}.mlp.c_proj")
    last = norm(x, "ln_f")[[position - 1 for position in positions]] @ weights["wte.weight"].T
    np.savez(Path(folder) / "reference.npz", **{str(position): one for position, one in zip(positions, last)})
    return {}


def worker(**settings):
    """Reads questions until the end of its input; its answers are the only lines on its output."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints goes with the errors
    arm = None
    for line in sys.stdin:
        question = json.loads(line)
        try:
            if question["do"] == "reference":
                answer = reference(**question["with"])
            elif question["do"] == "about":
                arm = Worker(**settings)
                answer = arm.about()
            else:
                answer = getattr(arm, question["do"])(**question["with"])
        except Exception as error:  # whatever a library throws is this arm's row
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1].startswith("{"):
        print("gpu_arms.py is started by gpu_engines.py, with its settings in one argument", file=sys.stderr)
        sys.exit(2)
    worker(**json.loads(sys.argv[1]))
