"""What is added to a run's files, by the standard library alone. What they hold is said in results/README.md."""

import csv
from pathlib import Path


def row(
    strategy, backend, position, metric, round, iters, value, mark="", model="transformer", shape="toy", error="",
    protocol=None,
):  # fmt: skip
    """One line of samples.csv. Without a `protocol`, round 0 is `single` and all others are `interleaved`: the caller
    says `decode` for whole decodes.

    >>> row("padded", "jax", 64, "step_ns", 1, 8, 4000)[:2]
    ['transformer-toy/padded/jax/b1/t64', 'transformer']
    >>> row("padded", "jax", 64, "step_ns", 1, 8, 4000)[7:]
    ['step_ns', 'interleaved', 1, 8, 4000, '', '']
    >>> row("padded", "jax", 64, "compile_ns", 0, 1, 9000)[7:10]
    ['compile_ns', 'single', 0]
    >>> row("padded", "jax", 64, "step_ns", 1, 1, 500, protocol="decode")[7:10]
    ['step_ns', 'decode', 1]
    """
    case = case_id(strategy, backend, position, model, shape)
    protocol = protocol or ("interleaved" if round else "single")
    return [case, model, shape, strategy, backend, 1, position, metric, protocol, round, iters, value, error, mark]


def case_id(strategy, backend, position, model="transformer", shape="toy"):
    return f"{model}-{shape}/{strategy}/{backend}/b1/t{position}"


def append(path, rows):
    """Adds rows to a table of a run, at once: a run that is stopped keeps what it has."""
    with Path(path).open("a", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
