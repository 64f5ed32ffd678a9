"""Times one decode step of other public engines on a GPU, interleaved with decode-bench's, into a run of its own.

    python3 gpu_engines.py --program ./decode-bench --out DIR --minutes 3 --shapes toy,base,gpt2

Beside this file lie `gpu_arms.py`, which is one arm, `other_engines.py`, the engines on a CPU, and `run_files.py`.
Nothing is installed: an engine whose library is not there is named, and gets a row that says so.

**What is timed.** One interactive step of GPT-2, batch 1, f32: the device is idle (synchronised), the clock starts,
one given token is fed at its position, the clock stops when its logits are complete on the device
(`torch.cuda.synchronize`, `block_until_ready`). They are not copied to the host, and no token is chosen. A position
is the number of tokens after the step. The cache is put back outside the clock, and a few steps at the same position
go before, so that nothing is compiled, captured or first allocated in a timed step. TF32 is off in every engine.

`step_device_ns` is the time between two events around as many steps more, one at a time, each queued behind a kernel
that keeps the device busy until the host has queued the whole step: gaps between kernels are inside, the host is not.
An arm that waits for the device within a step has no such time, nor has JAX.

| backend | strategy | what it is |
|---|---|---|
| `torch-eager-cuda` | concat | PyTorch, operation by operation; `torch.cat` makes the cache one row longer |
| | padded | the same with a cache of capacity, written in place, masked; token and position on the device |
| `torch-graph-cuda` | padded | that step captured once in a `torch.cuda.CUDAGraph`, and replayed |
| `torch-compile-cuda` | padded | that step under `torch.compile(mode="reduce-overhead")` |
| `jax-cuda` | padded | one compiled function, the cache donated |
| `transformers-cuda` | concat, padded | its GPT-2's `forward` with `DynamicCache`, `StaticCache`; uploads the token |
| `cuda`, `cuda-graph` | concat, padded, bounded | decode-bench's own `step-time` |

`compile_ns`, at position 1, is a compiler's first step; `capture_ns` is capturing a graph and making it ready.

**What is compared with what.** All have the same weights (written by decode-bench) and the same given tokens. Every arm
feeds itself all tokens, step by step, and its logits at each position are held against a full recompute in f64, by
NumPy, before any is timed; one that differs gets a row with its error and no time. decode-bench holds its own against
its `naive`.

**Turns.** Each arm is a process that lives as long as it is needed. They are asked one after another, A B C, in an
order that changes from round to round. Only the one that is asked works: the others wait for a line, holding a CUDA
context and their memory on the device (`gpu_states` in environment.json says how much is in use). A sample is as many
steps as fit in 20 ms. `torch.compile` takes a minute or more: first all others take their turns at all shapes, then all
of them once more with it, shape by shape, while the minutes last.

**What is left behind.** A run that `report`, `plot`, `cmp` and `import` read, in a folder of its own under `--out`.
Every sample is written when it is taken, so a run that is stopped keeps what it has. Ceilings are not measured here:
`--ceilings` names a run of the same GPU to take them from. With `--device cpu` no GPU is used, backends are called
`torch-eager-cpu` and so on, and the run names no GPU.
"""

import argparse
import json
import math
import os
import re
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import other_engines
from gpu_arms import ENGINES, SLOW
from run_files import append, case_id, row

# Largest difference of a logit from the f64 recompute, relative to the largest logit, as among the CPU's engines.
# TF32, whose products keep 10 bits, differs by more than ten times as much.
TOLERANCE = other_engines.TOLERANCE
SAMPLE_NS = 20e6
MOST_STEPS = 1000
ROUNDS = 12
# The program that is one arm.
ARMS = str(Path(__file__).with_name("gpu_arms.py"))
# What is measured once for a GPU, in environment.json.
CEILINGS = ("read_bandwidth", "peak_flops", "launch_ns", "graph_node_ns")


# ---- Asking them one after another ------------------------------------------------------------------


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
                    bufsize=0, start_new_session=True, env={**os.environ, **(environment or {})},
                )  # fmt: skip
        except OSError as error:
            raise Failed(f"{Path(command[0]).name}: {error.strerror}") from None

    def tell(self, line):
        try:
            self.process.stdin.write(line.encode() + b"\n")
        except OSError:
            pass  # it has ended; whoever waits for the answer learns it

    def answer(self, until):
        """The next line, waited for no longer than to that moment; one that is there already is taken."""
        while b"\n" not in self.rest:
            left = max(0, until - time.monotonic())
            if not select.select([self.process.stdout], [], [], left)[0]:
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
        if self.process.returncode is not None:
            return
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
    """A backend and a strategy, as in a case's id. It is ready at its `positions`: the steps that a sample has."""

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
            environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "HF_HUB_OFFLINE": "1"}
            environment["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"  # compiling is a row, too
            if stage.device == "cpu":
                environment |= {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
            log = stage.scratch / f"{self.backend}-{self.strategy}.log"
            self.process = Process([sys.executable, ARMS, json.dumps(settings)], log, environment)
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
            self.stage.prepared(self, shape, metric, value)
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
    "cuda": {"cuda": ("concat", "padded", "bounded"), "cuda-graph": ("padded", "bounded")},
    "cpu": {"cpu": ("concat", "padded", "bounded")},
}


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
            process = Process([sys.executable, ARMS, "{}"], stage.scratch / "reference.log")
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
        self.held = set()  # what is said once and not again: cases whose logits were compared, compilations
        self.times = {}  # {(shape, arm, position): [nanoseconds of a step]}
        self.begin_run()
        self.arms = self.make_arms()

    def make_arms(self):
        wanted = re.compile(self.options.arms)
        engines = [(engine, strategy) for engine, by in ENGINES.items() for strategy in by]
        own = [(backend, strategy) for backend, by in OWN[self.device].items() for strategy in by]
        arms = [OwnArm(*names, self) for names in own] + [EngineArm(*names, self) for names in engines]
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
        self.folder = Path(found.split("written to ")[-1].splitlines()[0].strip())
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
            "sampling": f"{self.options.rounds} rounds, twice with slow arms; {self.options.minutes:g} minutes in all",
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
        self.environment["gpu"] = gpu | {field: value for field, value in more.items() if not gpu.get(field)}

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

    def prepared(self, arm, shape, metric, value):
        """What came before the first step; of an arm that comes again, only the first time."""
        if (str(arm), shape.name, metric) not in self.held:
            self.held.add((str(arm), shape.name, metric))
            self.sample(arm, shape, 1, metric, 0, 1, value)

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
        first = min(self.options.position or [64])
        for at, (arms, name) in enumerate(units):
            left = self.until - time.monotonic()
            fresh = [arm for arm in arms if (arms is passes[0]) or arm.slow]
            if left < 2:
                for arm in fresh:
                    self.fail(arm, name, first, "the minutes were over before its turn")
                continue
            try:
                shape = Shape(name, self)
            except (Failed, OSError) as failure:
                for arm in fresh:
                    self.fail(arm, name, first, failure)
                continue
            # One shape with a slow arm is worth more than none: it may take most of what is left.
            self.prepare(arms, fresh, shape, self.share(0.6 if arms is passes[0] else 0.75))
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
        for arm in waiting:  # one at a time: how many steps are a sample?
            try:
                for position in arm.positions:
                    usual = statistics.median(arm.time(position, 5, self.until, device_time=False)["step_ns"])
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
            self.complete_gpu({"name": state.pop("name"), "driver": state.pop("driver_version")})
            self.environment["gpu_states"].append({"shape": shape.name, "round": round, **state})
        for arm in self.arms:
            if shape.name in arm.remarks:
                self.environment["remarks"][f"{shape.name}, {arm}"] = arm.remarks[shape.name]
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
    fields = ["name", "driver_version", "clocks.sm", "clocks.mem", "power.draw", "temperature.gpu", "memory.used"]
    names = ["name", "driver_version", "sm_clock_mhz", "memory_clock_mhz", "power_w", "celsius", "memory_used_mib"]
    asked = f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits", f"--id={pci_bus_id or 0}"
    try:
        said = subprocess.run(["nvidia-smi", *asked], capture_output=True, text=True, timeout=10, check=True).stdout
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
        description=__doc__.split("\n")[0], allow_abbrev=False,
        epilog="What is timed, and how: see the head of this file.",
    )  # fmt: skip
    add = parser.add_argument
    listed = dict(type=lambda text: text.split(","), metavar="A,B,…")
    add("--program", type=Path, required=True, metavar="FILE", help="decode-bench")
    add("--out", type=Path, required=True, metavar="DIR", help="where the run's folder is made")
    add("--minutes", type=float, default=3, help="of all together (default 3)")
    add("--shapes", **listed, default=["toy", "base", "gpt2"], help="(default toy,base,gpt2)")
    add("--device", choices=("cuda", "cpu"), default="cuda")
    add("--rounds", type=int, default=ROUNDS, help=f"at most, and as many more with slow arms (default {ROUNDS})")
    add("--position", type=int, nargs="+", metavar="P", help="(default: 64 and the capacity)")
    add("--arms", default="", metavar="RE", help="only arms like this, strategy/backend: padded/(jax|torch)")
    add("--threads", type=int, default=0, metavar="N", help="of the CPU (default: all)")
    add("--ceilings", type=Path, metavar="RUN", help="a run of the same GPU that has them")
    options = parser.parse_args()
    if not options.program.is_file():
        parser.error(f"--program {options.program}: no such file")
    known = ("tiny", *other_engines.SHAPES)
    for name in options.shapes:
        if name not in known:
            parser.error(f'--shapes: there is no "{name}"; there are {", ".join(known)}')
    if options.ceilings and not (options.ceilings / "environment.json").is_file():
        parser.error(f"--ceilings {options.ceilings}: no run")
    if options.threads < 0:
        parser.error("--threads is above 0")
    if not options.minutes > 0 or options.rounds < 1 or min(options.position or [1]) < 1:
        parser.error("--minutes, --rounds and --position are above 0")
    try:
        re.compile(options.arms)
    except re.error as error:
        parser.error(f"--arms {options.arms}: {error}")
    options.threads = options.threads or len(other_engines.available_cpus())
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
    main()
