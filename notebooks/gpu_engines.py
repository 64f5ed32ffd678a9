"""Times one decode step of other public engines on a GPU, in turn with decode-bench, into a run of its own.

    python3 gpu_engines.py --program ./decode-bench --out DIR --minutes 2 --shapes toy,base,gpt2

Beside this file lie `other_engines.py`, which has the engines, and `run_files.py`. Nothing is installed: an engine
whose library is not there is named, and gets a row that says so.

**What is timed.** One interactive step of GPT-2, batch 1, f32: the device is idle (synchronised), the clock starts,
one given token is fed at its position, the clock stops when its logits are complete on the device
(`torch.cuda.synchronize`, `block_until_ready`). They are not copied to the host, and no token is chosen. A position is
the number of tokens after the step. The cache is put back outside the clock, and a few steps at the same position go
before, so that nothing is compiled, captured or first allocated in a timed step. TF32 is off in every engine.
`step_device_ns` is the time between two events around as many steps more, one at a time, each queued behind a kernel
that keeps the device busy until the host has queued the whole step: gaps between kernels are inside, the host is not.
An arm that waits for the device within a step has no such time.

| backend, strategy | what it is |
|---|---|
| `torch-eager-cuda`, concat | PyTorch, operation by operation; `torch.cat` makes the cache one row longer |
| `torch-eager-cuda`, padded | the same with a cache of capacity, written in place and masked; token and position on the device |
| `torch-graph-cuda`, padded | that step captured once in a `torch.cuda.CUDAGraph` and replayed; both numbers copied in before |
| `torch-compile-cuda`, padded | that step under `torch.compile(mode="reduce-overhead")`; compiling is a row of its own |
| `jax-cuda`, padded | one compiled function, the cache donated; compiling is a row of its own |
| `transformers-cuda`, concat and padded | its GPT-2's `forward` with `DynamicCache` and `StaticCache` |
| `cuda`, `cuda-graph` | decode-bench's own `step-time`, from this run's program |

**What is compared with what.** All have the same weights (written by decode-bench) and the same given tokens. Every arm
feeds itself all tokens, step by step, and its logits at each position are held against a full recompute in f64, by
NumPy, before any is timed; one that differs gets a row with its error and no time. decode-bench holds its own against
its `naive`.

**Turns.** Each arm is a process that lives as long as it is needed; they are asked in turn, A B C, in an order that
changes from round to round, and only the one that is asked works: the others wait for a line, holding a CUDA context
and their memory on the device (`gpu_states` in environment.json says how much is in use). A sample is as many steps as
fit in 20 ms. `torch.compile` takes a minute or more: first all others take their turns at all shapes, then all
of them once more with it, shape by shape, while the minutes last.

**What is left behind.** A run that `report`, `plot`, `cmp` and `import` read, in a folder of its own under `--out`. Every
sample is written when it is taken, so a run that is stopped keeps what it has. Ceilings are not measured here: `--ceilings`
names a run of the same GPU to take them from. With `--device cpu` no GPU is used, the backends are called `…-cpu`, and
the run names no GPU.
"""

import argparse
import itertools
import json
import math
import os
import re
import resource
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import other_engines
from run_files import append, case_id, row

# Largest difference of a logit from the f64 recompute, relative to the largest logit, as among the CPU's engines.
# TF32, whose products keep 10 bits, differs by more than ten times as much.
TOLERANCE = other_engines.TOLERANCE
SAMPLE_NS = 20e6
WARM_UP = 3
MOST_STEPS = 1000
ROUNDS = 12
# One round of a run is below the number from which rounds are whole decodes.
MOST_ROUNDS = 100
# What is measured once for a GPU, in environment.json.
CEILINGS = ("read_bandwidth", "peak_flops", "launch_ns", "graph_node_ns")


# ---- The engines: each in a process of its own ------------------------------------------------------


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
        # Weights, cache and numbers stay where they are: without this they would be copied into the graph each time,
        # and a cache that is written in place would rule a graph out.
        weights = [self.wte, self.wpe, *self.final, *itertools.chain(*itertools.chain(*self.layers))]
        for tensor in [*weights, *itertools.chain(*cache), self.fed, self.rows]:
            torch._dynamo.mark_static_address(tensor)
        torch._dynamo.reset()
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
        self.trunks = {}

    def about(self):
        from importlib.metadata import version

        packages = PACKAGES.get(self.engine, ("torch", "numpy"))
        return {"gpu": self.gpu, "packages": {name: version(name) for name in packages}}

    def prepare(self, folder, tokens, positions):
        """Feeds all tokens. The cache before each position is kept, and the logits after it compared."""
        import numpy as np

        self.trunks = {}
        self.arm = None  # the last shape's memory is given back first
        expected = np.load(Path(folder) / "reference.npz")
        self.tokens = tokens
        self.arm = arm = ENGINES[self.engine][self.strategy](Path(folder), self.threads, self.device)
        found, cache = {}, arm.empty()
        for at, token in enumerate(tokens):
            if at + 1 in positions:
                self.trunks[at + 1] = arm.fork(cache, at)
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
        cache = self.arm.fork(self.trunks[position], position - 1)
        self.arm.wait()
        begin = time.perf_counter_ns()
        self.arm.step(cache, self.tokens[position - 1], position - 1)
        self.arm.wait()
        return time.perf_counter_ns() - begin

    def device_ns(self, position, steps, usual_ns):
        """Nanoseconds of as many steps by the device's clock; None where the step was not queued as a whole."""
        torch, total_ms = self.arm.torch, 0.0
        for _ in range(steps):
            cache = self.arm.fork(self.trunks[position], position - 1)
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


# ---- Asking them in turn ----------------------------------------------------------------------------


class Failed(Exception):
    """Why an arm has no time, in one line."""


class Process:
    """A process that answers every line it is given with one of JSON."""

    def __init__(self, command, log, environment=None):
        self.log, self.rest = log, b""
        try:
            with log.open("ab") as errors:
                self.process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                    start_new_session=True, env={**os.environ, **(environment or {})},
                )  # fmt: skip
        except OSError as error:
            raise Failed(f"{Path(command[0]).name}: {error.strerror}") from None

    def tell(self, line):
        try:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            pass  # it has ended; whoever waits for the answer learns it

    def answer(self, until):
        """The next line, waited for no longer than to that moment."""
        while b"\n" not in self.rest:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                self.end()
                raise Failed("its time was up")
            read = os.read(self.process.stdout.fileno(), 1 << 16)
            if not read:
                self.end()
                raise Failed(f"it ended: {last_line(self.log)}")
            self.rest += read
        line, self.rest = self.rest.split(b"\n", 1)
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def end(self):
        """With all that it started."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def last_line(log):
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


class Arm:
    """A backend and a strategy, as they are in a case's id. Ready where `positions` says how many steps a sample has."""

    slow = False

    def __init__(self, backend, strategy):
        self.backend, self.strategy, self.positions, self.remarks = backend, strategy, {}, {}

    def __str__(self):
        return f"{self.strategy}/{self.backend}"


class EngineArm(Arm):
    def __init__(self, engine, strategy, stage):
        super().__init__(f"{engine}-{stage.device}", strategy)
        self.engine, self.stage, self.process = engine, stage, None
        self.slow, self.device_time = engine in SLOW, True

    def begin(self, shape):
        """Starts to prepare; all arms do at once, for nothing is timed meanwhile."""
        stage = self.stage
        if self.process is None or self.process.process.poll() is not None:
            settings = dict(engine=self.engine, strategy=self.strategy, device=stage.device, threads=stage.threads)
            environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "HF_HUB_OFFLINE": "1", "USE_TF": "0"}
            if stage.device == "cpu":
                environment |= {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
            log = stage.scratch / f"{self.backend}-{self.strategy}.log"
            self.process = Process([sys.executable, __file__, "--worker", json.dumps(settings)], log, environment)
            self.ask("about")
            self.new = True
        tokens = shape.tokens
        self.ask("prepare", folder=str(shape.folder), tokens=tokens, positions=shape.positions)

    def ask(self, do, **arguments):
        self.process.tell(json.dumps({"do": do, "with": arguments}))

    def prepared(self, shape, until):
        """{position: its difference}, when it is ready."""
        if self.new:
            about = self.process.answer(until)
            self.stage.know(about)
            self.new = False
        answer = self.process.answer(until)
        if answer["remark"]:
            self.remarks[shape.name] = answer["remark"]
        for metric, value in answer["prepared"].items():
            self.stage.sample(self, shape, 1, metric, 0, 1, value)
        return {int(position): found for position, found in answer["found"].items()}

    def time(self, position, steps, until, device_time=True):
        self.ask("time", position=position, steps=steps, device_time=device_time and self.device_time)
        answer = self.process.answer(until)
        if device_time and answer.get("device_ns") is None:
            self.device_time = False
        return answer

    def end(self):
        if self.process:
            self.process.end()
            self.process = None


class OwnArm(Arm):
    """decode-bench itself: one process for each position, since `step-time` times one."""

    def __init__(self, backend, strategy, stage):
        super().__init__(backend, strategy)
        self.stage, self.processes = stage, {}

    def begin(self, shape):
        self.end()
        if self.stage.missing:
            raise Failed(self.stage.missing)
        for position in shape.positions:
            command = [
                str(self.stage.program), "step-time", "--shape", shape.name, "--strategy", self.strategy,
                "--position", str(position), "--threads", str(self.stage.threads), "--samples", "5", "--turns",
            ]  # fmt: skip
            if self.backend != "cpu":
                command += ["--backend", self.backend]
            log = self.stage.scratch / f"{self.backend}-{self.strategy}-{position}.log"
            self.processes[position] = Process(command, log)

    def prepared(self, shape, until):
        for process in self.processes.values():
            if process.answer(until).get("emulated"):
                self.stage.is_emulated()
        return {}

    def time(self, position, steps, until, device_time=True):
        self.processes[position].tell(str(steps))
        return self.processes[position].answer(until)

    def end(self):
        for process in self.processes.values():
            process.end()
        self.processes = {}


OWN = {
    "cuda": [("cuda", "concat"), ("cuda", "padded"), ("cuda", "bounded"), ("cuda-graph", "padded"), ("cuda-graph", "bounded")],
    "cpu": [("cpu", "concat"), ("cpu", "padded"), ("cpu", "bounded")],
}  # fmt: skip


class Shape:
    """A model's size, its weights in a folder, the tokens fed to it."""

    def __init__(self, name, stage):
        self.name, self.folder = name, stage.scratch / name
        if not self.folder.exists():
            stage.run(
                "decode", "--model", "transformer", "--shape", name, "--seed", "1", "--strategy", "concat",
                "--prompt", "0", "--steps", "1", "--weights-out", str(self.folder),
            )  # fmt: skip
        config = other_engines.read_shape(self.folder)
        capacity = config.n_positions
        asked = stage.options.position or [64, capacity]
        self.positions = sorted({min(position, capacity) for position in asked})
        # As decode-bench's own: no engine's rounding can send it another way.
        text = range(max(self.positions))
        self.tokens = [(at * 7919 + at * at) % config.vocab_size for at in text]
        if not (self.folder / "reference.npz").exists():
            process = Process([sys.executable, __file__, "--worker", "{}"], stage.scratch / "reference.log")
            given = dict(folder=str(self.folder), tokens=self.tokens, positions=self.positions)
            process.tell(json.dumps({"do": "reference", "with": given}))
            try:
                process.answer(stage.until)
            finally:
                process.end()


class Stage:
    """The whole comparison: its run folder, its arms, its end."""

    def __init__(self, options, scratch):
        self.options, self.scratch, self.device = options, scratch, options.device
        self.program = options.program.resolve()
        self.threads = options.threads
        self.until = time.monotonic() + 60 * options.minutes
        self.rounds = {}  # done, by shape
        self.held = set()  # cases whose logits were compared
        self.times = {}  # {(shape, arm, position): [nanoseconds of a step]}
        self.begin_run()
        self.arms = self.make_arms()

    def make_arms(self):
        wanted = re.compile(self.options.arms)
        engines = [(engine, strategy) for engine, by in ENGINES.items() for strategy in by]
        arms = [OwnArm(backend, strategy, self) for backend, strategy in OWN[self.device]]
        arms += [EngineArm(engine, strategy, self) for engine, strategy in engines]
        return [arm for arm in arms if wanted.search(str(arm))]

    # -- the run

    def run(self, *arguments):
        left = max(1, self.until - time.monotonic())
        try:
            done = subprocess.run([self.program, *arguments], capture_output=True, text=True, timeout=left)
        except OSError as error:
            raise Failed(f"{self.program}: {error.strerror}") from None
        except subprocess.TimeoutExpired:
            raise Failed(f"decode-bench {arguments[0]}: its time was up") from None
        if done.returncode:
            raise Failed(f"decode-bench {arguments[0]}: {(done.stderr.strip().splitlines() or ['it failed'])[-1]}")
        return done.stdout

    def begin_run(self):
        """decode-bench begins the run, with one step: it knows the machine, itself and its GPU."""
        backends, found = (["cuda", "cpu"] if self.device == "cuda" else ["cpu"]), None
        for backend in backends:
            case = f"^transformer-tiny/padded/{backend}/b1/"
            given = "--tokens", "1", "--rounds", "1", "--seed", "1", "--threads", str(self.threads)
            try:
                found = self.run("trace", "--filter", case, *given, "--results", str(self.options.out))
                break
            except Failed as failure:
                log(f"a run begun on {backend}: {failure}")
                refused = failure
        if found is None:
            raise refused
        self.folder = Path(found.split("written to ")[-1].strip())
        self.environment = json.loads((self.folder / "environment.json").read_text())
        help_text = self.run("step-time", "--help")
        lacking = [option for option in ("--backend", "--turns") if option not in help_text]
        self.missing = ""
        if "--turns" in lacking or (self.device == "cuda" and lacking):
            self.missing = f"this decode-bench has no step-time {' and no '.join(lacking)}"
        program = Path(self.environment["command_line"][0]).name
        self.environment |= {
            "command_line": [Path(__file__).name, *sys.argv[1:]],
            "finished_utc": None,
            "packages": {"python": sys.version.split()[0]},
            "tf32": False,
            "gpu_states": [],
            "remarks": {},
        }
        for at, argument in enumerate(self.environment["command_line"]):
            if argument == str(self.options.program):
                self.environment["command_line"][at] = program
        if self.device == "cpu":
            self.environment["gpu"] = None
        self.write()

    def write(self):
        path = self.folder / "environment.json"
        new = path.with_suffix(".new")
        new.write_text(json.dumps(self.environment, indent=2, ensure_ascii=False) + "\n")
        new.replace(path)

    def know(self, about):
        """Versions; and the GPU as PyTorch sees it, where decode-bench has not said."""
        self.environment["packages"] |= about["packages"]
        if about["gpu"]:
            self.complete_gpu(about["gpu"])
        self.write()

    def complete_gpu(self, more):
        gpu = self.environment["gpu"] or {}
        if gpu.get("name") not in (None, more.get("name")):
            return log(f"the GPU is {gpu['name']}, and not {more.get('name')}: nothing is taken over")
        self.environment["gpu"] = {**more, **{field: value for field, value in gpu.items() if value not in (None, [])}}

    def take_ceilings(self, run):
        """What another run of the same GPU has measured, and this one has not."""
        try:
            theirs = json.loads((run / "environment.json").read_text())
        except (OSError, ValueError) as error:
            return log(f"--ceilings {run}: {error}; there are none")
        gpu, of = self.environment["gpu"], theirs.get("gpu")
        if theirs.get("emulated") or not gpu or not of or gpu["name"] != of["name"]:
            return log(f"--ceilings {run.name}: not of this run's GPU; there are none")
        gpu |= {what: of[what] for what in CEILINGS if what in of and not gpu.get(what)}
        self.environment["ceilings_of"] = run.resolve().name
        self.write()

    def is_emulated(self):
        if not self.environment["emulated"]:
            self.environment["emulated"] = True
            self.write()

    def sample(self, arm, shape, position, metric, round, iters, value, mark=""):
        given = arm.strategy, arm.backend, position, metric, round, iters, value, mark
        append(self.folder / "samples.csv", [row(*given, shape=shape.name)])

    def fail(self, arm, shape_name, position, why, round=0):
        why = one_line(why)
        log(f"{shape_name}, {arm}, position {position}: NOT MEASURED: {why}")
        given = arm.strategy, arm.backend, position, "step_ns", round, 1, ""
        append(self.folder / "samples.csv", [row(*given, shape=shape_name, error=why)])

    # -- the turns

    def compare(self):
        passes = [[arm for arm in self.arms if not arm.slow]]
        if any(arm.slow for arm in self.arms):
            passes.append(self.arms)
        units = [(arms, shape) for arms in passes for shape in self.options.shapes]
        for at, (arms, name) in enumerate(units):
            left = self.until - time.monotonic()
            fresh = [arm for arm in arms if (arms is passes[0]) or arm.slow]
            if left < 2:
                for arm in fresh:
                    self.fail(arm, name, 64, "the minutes were over before its turn")
                continue
            try:
                shape = Shape(name, self)
            except Failed as failure:
                for arm in fresh:
                    self.fail(arm, name, 64, failure)
                continue
            # One shape with a slow arm is worth more than none: it may take most of what is left.
            self.prepare(arms, fresh, shape, self.share(0.5 if arms is passes[0] else 0.75))
            ready = [arm for arm in arms if arm.positions]
            if ready and (arms is passes[0] or any(arm.slow for arm in ready)):
                self.take_turns(ready, shape, self.share(1 / (len(units) - at)))
        for arm in self.arms:
            arm.end()

    def share(self, part):
        """The moment when this part of the time that is left is over."""
        now = time.monotonic()
        return now + max(0, self.until - now) * part

    def prepare(self, arms, fresh, shape, until):
        """All at once. `positions` are those at which an arm is right, with the steps of a sample."""
        log(f"{shape.name}: {len(arms)} arms prepare, at positions {shape.positions}")
        waiting = []
        for arm in arms:
            arm.positions = {}
            try:
                arm.begin(shape)
                waiting.append(arm)
            except Failed as failure:
                self.give_up(arm, shape, failure, arm in fresh)
        for arm in waiting:
            try:
                found = arm.prepared(shape, until)
                arm.positions = {position: 0 for position in shape.positions}
                for position, one in found.items():
                    self.judge(arm, shape, position, one)
            except Failed as failure:
                self.give_up(arm, shape, failure, arm in fresh)
        for arm in waiting:  # alone: how many steps are a sample?
            try:
                for position in arm.positions:
                    usual = statistics.median(arm.time(position, 5, until, device_time=False)["step_ns"])
                    arm.positions[position] = max(1, min(MOST_STEPS, int(SAMPLE_NS / usual)))
            except Failed as failure:
                self.give_up(arm, shape, failure, arm in fresh)

    def give_up(self, arm, shape, failure, is_new):
        arm.end()
        arm.positions = {}
        if is_new:  # else it has its times, from the turns before
            for position in shape.positions:
                self.fail(arm, shape.name, position, failure)

    def judge(self, arm, shape, position, found):
        right = found["max_rel"] <= TOLERANCE  # no number is not right
        error = "" if right else f"the logits differ by {found['max_rel']:.1e}, more than {TOLERANCE:.0e}"
        case = case_id(arm.strategy, arm.backend, position, shape=shape.name)
        measured = [found[what] if math.isfinite(found[what]) else "" for what in ("max_abs", "max_rel")]
        if error or case not in self.held:
            self.held.add(case)
            append(self.folder / "equality.csv", [[case, *measured, found["place"], TOLERANCE, error]])
        if not right:
            del arm.positions[position]
            self.fail(arm, shape.name, position, error)

    def take_turns(self, arms, shape, until):
        begun = time.monotonic()
        for count in range(self.options.rounds):
            if count and time.monotonic() + (time.monotonic() - begun) / count > until:
                break
            round = self.rounds[shape.name] = self.rounds.get(shape.name, 0) + 1
            if round > MOST_ROUNDS:
                break
            for position in shape.positions:
                for arm in in_order(arms, round):
                    if position in arm.positions:
                        self.take_turn(arm, shape, position, round)
        rounds = self.rounds.get(shape.name, 0)
        log(f"{shape.name}: {rounds} rounds of {', '.join(map(str, arms))}")
        self.note_gpu(shape, rounds)

    def take_turn(self, arm, shape, position, round):
        steps = arm.positions[position]
        try:
            answer = arm.time(position, steps, self.until)
        except Failed as failure:
            arm.end()
            arm.positions = {}
            return self.fail(arm, shape.name, position, failure, round)
        total = sum(answer["step_ns"])
        self.sample(arm, shape, position, "step_ns", round, steps, total, answer.get("mark", ""))
        if answer.get("device_ns"):
            self.sample(arm, shape, position, "step_device_ns", round, steps, answer["device_ns"])
        self.times.setdefault((shape.name, str(arm), position), []).append(total / steps)

    def note_gpu(self, shape, round):
        """Clocks, right after the last turn, and how much memory all arms together hold."""
        state = gpu_state((self.environment["gpu"] or {}).get("pci_bus_id")) if self.device == "cuda" else None
        if state:
            driver = state.pop("driver_version")
            self.complete_gpu({"name": self.environment["gpu"]["name"], "driver": driver})
            self.environment["gpu_states"].append({"shape": shape.name, "round": round, **state})
        self.environment["remarks"] |= {f"{shape.name}, {arm}": arm.remarks[shape.name] for arm in self.arms if shape.name in arm.remarks}  # fmt: skip
        self.write()

    def finish(self):
        self.environment["finished_utc"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.write()

    def table(self):
        """Median over the rounds in µs, with the least and the most of them."""
        lines = ["median µs per step (least..most of the rounds)"]
        for (shape, arm, position), times in sorted(self.times.items()):
            micros = [one / 1e3 for one in times]
            spread = f"{statistics.median(micros):.1f} ({min(micros):.1f}..{max(micros):.1f})"
            lines.append(f"{shape:6} t{position:<5} {arm:32} {spread}, n = {len(times)}")
        return "\n".join(lines)


def in_order(arms, round):
    """Rotated by one each round, and every other round backwards."""
    turned = arms[round % len(arms) :] + arms[: round % len(arms)]
    return turned if round % 2 else turned[::-1]


def gpu_state(pci_bus_id):
    """As nvidia-smi says it; None where it says nothing."""
    fields = ["driver_version", "clocks.sm", "clocks.mem", "power.draw", "temperature.gpu", "memory.used"]
    names = ["driver_version", "sm_clock_mhz", "memory_clock_mhz", "power_w", "temperature_c", "memory_used_mib"]
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits", f"--id={pci_bus_id or 0}"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return dict(zip(names, map(str.strip, said.strip().split(","))))


def one_line(error):
    """As much of it as a row holds: no line ends, nothing a terminal or a spreadsheet would obey."""
    words = "".join(c if c.isprintable() else " " for c in str(error)).split()
    return " ".join(words).lstrip("=+-@ ")[:300] or "it said nothing"


def log(message):
    print(message, file=sys.stderr, flush=True)


def read_options():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], epilog="What is timed, and how: see the head of this file."
    )
    parser.add_argument("--program", type=Path, required=True, help="decode-bench")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the run's folder is made")
    parser.add_argument("--minutes", type=float, default=3, help="of all together (default 3)")
    parser.add_argument("--shapes", type=lambda text: text.split(","), default=["toy", "base", "gpt2"], metavar="A,B,…")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"at most, and as many again with slow arms (default {ROUNDS})")
    parser.add_argument("--position", type=int, nargs="+", metavar="P", help="(default: 64 and the capacity)")
    parser.add_argument("--arms", default="", metavar="RE", help="only arms like this, of strategy/backend: padded/(jax|cuda)")
    parser.add_argument("--threads", type=int, default=0, help="of the CPU (default: all)")
    parser.add_argument("--ceilings", type=Path, metavar="RUN", help="a run of the same GPU that has them")
    options = parser.parse_args()
    options.threads = options.threads or len(other_engines.available_cpus())
    if not options.program.is_file():
        parser.error(f"--program {options.program}: no such file")
    if options.minutes <= 0 or options.rounds < 1 or min(options.position or [1]) < 1:
        parser.error("--minutes, --rounds and --position are above 0")
    try:
        re.compile(options.arms)
    except re.error as error:
        parser.error(f"--arms {options.arms}: {error}")
    return options


def main():
    options = read_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped; what was measured is there"))  # the arms end, too
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="gpu-engines-") as scratch:
        try:
            stage = Stage(options, Path(scratch))
        except Failed as failure:
            sys.exit(f"no run was begun: {failure}")
        if options.ceilings:
            stage.take_ceilings(options.ceilings)
        try:
            stage.compare()
        finally:
            for arm in stage.arms:
                arm.end()
        stage.finish()
    if stage.environment["emulated"]:
        print("the GPU is emulated in software: its times say nothing, and are not shown")
    else:
        print(stage.table())
    print(f"written to {stage.folder}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(**json.loads(sys.argv[2]))
    else:
        main()
