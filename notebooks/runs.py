"""A run's files as pandas tables, and the crate's estimates of them. What the files hold is said in
results/README.md; the definitions here are those of src/analysis, so that a notebook and `decode-bench
report` say the same of a run.

A step is sampled in three ways, which are different quantities and never mixed:

>>> kind(0), kind(1), kind(100), kind(101)
('alone', 'in turn', 'in turn', 'decode')
"""

import io
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from run_files import append, row  # noqa: F401: to write what is read here

FIRST_DECODE_ROUND = 101
CONFIDENCE = 0.95
PARTS = ["model", "shape", "strategy", "backend", "batch", "position"]
COLOURS = {"naive": "tab:red", "naive-padded": "tab:pink", "concat": "tab:blue", "padded": "tab:orange",
           "bounded": "tab:green", "chunked-64": "tab:purple", "onehot": "tab:brown", "shift": "tab:gray"}  # fmt: skip


@dataclass
class Run:
    name: str
    environment: dict
    samples: pd.DataFrame
    """Of samples.csv, with two columns more: `kind`, and `one`, the value of one repetition."""
    equality: pd.DataFrame
    has_marks: bool
    """Whether its samples say what disturbed them; runs of earlier versions do not."""


def open_run(folder):
    folder = Path(folder)
    environment = json.loads((folder / "environment.json").read_text())
    if environment["emulated"]:
        raise ValueError(f"{folder.name}: the run's GPU was emulated in software: its times say nothing")
    has_marks, samples = read_samples((folder / "samples.csv").read_text())
    equality = folder / "equality.csv"
    equality = pd.read_csv(equality) if equality.exists() else pd.DataFrame(columns=["case", "max_rel"])
    return Run(folder.resolve().name, environment, samples, equality, has_marks)


def read_samples(text):
    """
    >>> header = "case,model,shape,strategy,backend,batch,position,metric,round,iters,value,error\\n"
    >>> begin = "transformer-toy/concat/cpu/b1/t64,transformer,toy,concat,cpu,1,64,step_ns,"
    >>> marks, samples = read_samples(header + begin + "1,4,1000,\\n" + begin + "2,1,,it differs\\n" + begin + "3,1")
    >>> marks, list(samples.one), list(samples.kind), list(samples.error)
    (False, [250.0, nan], ['in turn', 'in turn'], ['', 'it differs'])
    """
    whole = text[: text.rfind("\n") + 1]  # a run that was killed may leave a line without its end
    texts = {column: str for column in ("case", "model", "shape", "strategy", "backend", "metric", "error", "mark")}
    samples = pd.read_csv(io.StringIO(whole), dtype=texts, keep_default_na=False, na_values={"value": ""})
    has_marks = "mark" in samples
    if not has_marks:
        samples["mark"] = ""
    samples["one"] = samples.value / samples.iters
    samples["kind"] = samples["round"].map(kind)
    return has_marks, samples


def kind(round):
    return "alone" if round == 0 else "in turn" if round < FIRST_DECODE_ROUND else "decode"


def taken(samples, kind, metric="step_ns"):
    """The samples of one kind that count. Failed ones have no value; of a round that was begun again
    after a kill, the last two of each case count in turn, and the last one in a decode."""
    chosen = samples[(samples.kind == kind) & (samples.metric == metric) & samples.value.notna()]
    last = {"in turn": 2, "decode": 1}.get(kind)
    return chosen.groupby(["case", "round"]).tail(last) if last else chosen


def rounds(samples):
    """One value for each case and round, the median: samples of one round are fast or slow together."""
    return samples.groupby(["case", *PARTS, "round"], sort=True).one.median().reset_index()


def estimates(rounds):
    """`median`, `lo`, `hi`, `n` for each case."""
    return expanded(rounds.groupby(["case", *PARTS], sort=True).one.apply(interval)).reset_index()


def ratios(rounds, by="strategy", base="concat"):
    """The time over that of the same case with `base` for its `by`, formed within each round, so that
    drift cancels: the median of the rounds' ratios."""
    keys = [part for part in PARTS if part != by] + ["round"]
    both = rounds.merge(rounds[rounds[by] == base][[*keys, "one"]], on=keys, suffixes=("", "_base"))
    both = both[both[by] != base]
    logs = np.log(both.one / both.one_base)
    found = expanded(logs.groupby([both[key] for key in ("case", *PARTS)]).apply(interval))
    found[["median", "lo", "hi"]] = np.exp(found[["median", "lo", "hi"]])
    return found.reset_index()


def expanded(intervals):
    columns = ["median", "lo", "hi", "n"]
    return pd.DataFrame(intervals.tolist(), index=intervals.index, columns=columns)


def interval(values):
    """The median, its 95 % interval after Hettmansperger and Sheather, and n. With fewer than six values
    the interval is the whole range, which is less than 95 %.

    >>> interval([1, 2, 3, 4, 50])
    (3.0, 1.0, 50.0, 5)
    >>> median, lo, hi, n = interval(range(1, 11))
    >>> bool(2 < lo < 3 and abs(lo + hi - 11) < 1e-9)
    True
    """
    ordered = np.sort(np.asarray(list(values), float))
    n = len(ordered)
    coverage, below = [], 0.0
    for d in range(1, n // 2 + 1):  # between the d-th smallest and the d-th largest
        below += math.comb(n, d - 1) / 2**n
        coverage.append(1 - 2 * below)
    enough = [d for d, covered in enumerate(coverage, 1) if covered >= CONFIDENCE]
    median = float(np.median(ordered))
    if not enough:
        return median, float(ordered[0]), float(ordered[-1]), n
    d = enough[-1]
    outer, inner = coverage[d - 1], coverage[d] if d < len(coverage) else 0.0
    excess = (outer - CONFIDENCE) / (outer - inner)
    inwards = (n - d) * excess / (d + (n - 2 * d) * excess)
    between = lambda outer, inner: float((1 - inwards) * outer + inwards * inner)
    return median, between(ordered[d - 1], ordered[d]), between(ordered[n - d], ordered[n - d - 1]), n


def groups(table):
    """`(title, rows)` of each model, shape, backend and batch."""
    for (model, shape, backend, batch), rows in table.groupby(["model", "shape", "backend", "batch"], sort=True):
        yield f"{model}-{shape}, {backend}, batch {batch}", rows


def newest(results):
    """The newest run under a folder that holds whole decodes and steps in turn."""
    for folder in sorted(Path(results).glob("*/environment.json"), reverse=True):
        run = open_run(folder.parent)
        if {"in turn", "decode"} <= set(run.samples.kind) and "cache_live_bytes" in set(run.samples.metric):
            return folder.parent
    raise FileNotFoundError(f"no complete run under {Path(results).name}/: cargo bench makes one")
