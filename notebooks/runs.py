"""A run's files as pandas tables, and the crate's estimates of them. What the files hold is said in
results/README.md; the definitions here are those of src/analysis, so that a notebook and `decode-bench
report` say the same of a run.

A step is sampled by three protocols, which are different quantities and never mixed: `single`, `interleaved` and
`decode`. Rounds count from 1 on within a protocol. Files of earlier versions have one number for both:

>>> [protocol_and_round(code) for code in (0, 1, 100, 101)]
[('single', 0), ('interleaved', 1), ('interleaved', 100), ('decode', 1)]
"""

import io
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from run_files import append, row  # noqa: F401: to write what is read here

FIRST_OLD_DECODE = 101
"""The first round of whole decodes in files without a column `protocol`."""
CONFIDENCE = 0.95
PARTS = ["model", "shape", "strategy", "backend", "batch", "position"]
COLOURS = {"naive": "tab:red", "naive-padded": "tab:pink", "concat": "tab:blue", "padded": "tab:orange",
           "bounded": "tab:green", "chunked-64": "tab:purple", "onehot": "tab:brown", "shift": "tab:gray"}  # fmt: skip


@dataclass
class Run:
    name: str
    environment: dict
    samples: pd.DataFrame
    """Of samples.csv, with one column more: `one`, the value of one repetition."""
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
    >>> marks, list(samples.one), list(samples.protocol), list(samples.error)
    (False, [250.0, nan], ['interleaved', 'interleaved'], ['', 'it differs'])

    An old file and a new one that say the same are the same table:

    >>> _, old = read_samples(header + begin + "0,1,7,\\n" + begin + "101,1,8,\\n")
    >>> header = header.replace("round", "protocol,round").replace("error", "error,mark")
    >>> marks, new = read_samples(header + begin + "single,0,1,7,,\\n" + begin + "decode,1,1,8,,\\n")
    >>> marks, list(new.protocol), list(new["round"]), new[sorted(new)].equals(old[sorted(old)])
    (True, ['single', 'decode'], [0, 1], True)
    """
    whole = text[: text.rfind("\n") + 1]  # a run that was killed may leave a line without its end
    columns = ("case", "model", "shape", "strategy", "backend", "metric", "protocol", "error", "mark")
    texts = {column: str for column in columns}
    samples = pd.read_csv(io.StringIO(whole), dtype=texts, keep_default_na=False, na_values={"value": ""})
    has_marks = "mark" in samples
    if not has_marks:
        samples["mark"] = ""
    samples["one"] = samples.value / samples.iters
    if "protocol" not in samples:
        both = [protocol_and_round(code) for code in samples["round"]]
        samples["protocol"] = pd.Series([protocol for protocol, _ in both], samples.index, dtype=str)
        samples["round"] = pd.Series([number for _, number in both], samples.index, dtype=int)
    return has_marks, samples


def protocol_and_round(code):
    """Of the one number that files of earlier versions have."""
    if code >= FIRST_OLD_DECODE:
        return "decode", code - FIRST_OLD_DECODE + 1
    return "interleaved" if code else "single", code


def taken(samples, protocol, metric="step_ns"):
    """The samples of one protocol that count. Failed ones have no value; of a round that was begun again
    after a kill, the last two of each case count if interleaved, and the last one in a decode."""
    chosen = samples[(samples.protocol == protocol) & (samples.metric == metric) & samples.value.notna()]
    last = {"interleaved": 2, "decode": 1}.get(protocol)
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
    """The newest run under a folder that holds whole decodes and interleaved steps."""
    for folder in sorted(Path(results).glob("*/environment.json"), reverse=True):
        run = open_run(folder.parent)
        if {"interleaved", "decode"} <= set(run.samples.protocol) and "cache_live_bytes" in set(run.samples.metric):
            return folder.parent
    raise FileNotFoundError(f"no complete run under {Path(results).name}/: cargo bench makes one")
