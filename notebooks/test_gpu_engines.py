"""Tests of gpu_engines.py on a CPU, with whatever engines are installed:

    DECODE_BENCH=target/debug/decode-bench python3 notebooks/test_gpu_engines.py

What only a GPU can do is not run: capturing a graph, times between events.
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import gpu_arms
import gpu_engines
from gpu_engines import Failed, Process, Stage

HERE = Path(__file__).resolve().parent
PROGRAM = Path(os.environ.get("DECODE_BENCH", HERE / "../target/debug/decode-bench")).resolve()
COLUMNS = "case,model,shape,strategy,backend,batch,position,metric,protocol,round,iters,value,error,mark\n"
ARMS = "^(concat|padded)/(cpu|torch-eager-cpu|torch-graph-cpu)$"


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def decode_bench(*arguments):
    done = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


class WholeRun(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        cls.out = Path(cls.scratch.name) / "out"
        arguments = "--minutes 5 --shapes tiny --device cpu --rounds 2 --position 8 64 --threads 1 --arms".split()
        command = [sys.executable, HERE / "gpu_engines.py", "--program", PROGRAM, "--out", cls.out, *arguments, ARMS]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        [cls.run_folder] = cls.out.iterdir()
        cls.samples = rows(cls.run_folder / "samples.csv")
        cls.environment = json.loads((cls.run_folder / "environment.json").read_text())

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def test_every_arm_has_a_sample_of_each_round_at_each_position(self):
        for backend in ("cpu", "torch-eager-cpu"):
            for strategy in ("concat", "padded"):
                for position in (8, 64):
                    case = f"transformer-tiny/{strategy}/{backend}/b1/t{position}"
                    steps = [row for row in self.samples if row["case"] == case and row["metric"] == "step_ns"]
                    rounds = [(row["protocol"], row["round"]) for row in steps]
                    self.assertEqual(rounds, [("interleaved", "1"), ("interleaved", "2")], case)
                    self.assertTrue(all(int(row["value"]) >= int(row["iters"]) for row in steps))

    def test_an_arm_that_cannot_be_has_its_reason_and_no_time(self):
        graph = [row for row in self.samples if row["backend"] == "torch-graph-cpu"]
        self.assertEqual([row["position"] for row in graph], ["8", "64"])
        for row in graph:
            self.assertEqual((row["value"], row["error"]), ("", "RuntimeError: a CPU has no CUDA graphs"))

    def test_all_logits_were_compared(self):
        found = {row["case"]: float(row["max_rel"]) for row in rows(self.run_folder / "equality.csv")}
        for strategy in ("concat", "padded"):
            for position in (8, 64):
                self.assertLess(found[f"transformer-tiny/{strategy}/torch-eager-cpu/b1/t{position}"], 1e-6)

    def test_a_run_on_a_cpu_names_no_gpu(self):
        self.assertIsNone(self.environment["gpu"])
        self.assertFalse([row for row in self.samples if "cuda" in row["case"]])
        self.assertIn("torch", self.environment["packages"])
        self.assertNotIn(str(self.out), self.environment["command_line"][0])

    def test_decode_bench_reads_it(self):
        self.assertIn("transformer-tiny, torch-eager-cpu, batch 1", decode_bench("report", self.run_folder))
        self.assertIn("torch-eager-cpu", decode_bench("cmp", self.run_folder, self.run_folder))
        imported = decode_bench("import", self.run_folder, "--results", Path(self.scratch.name) / "imported")
        self.assertIn("imported to", imported)


class Answers(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.addCleanup(self.scratch.cleanup)
        self.folder = Path(self.scratch.name)

    def process(self, code):
        return Process([sys.executable, "-c", code], self.folder / "log")

    def test_one_that_takes_too_long_is_ended_with_all_that_it_started(self):
        process = self.process("import subprocess; subprocess.Popen(['sleep', '60']); input(); input()")
        process.tell("go")
        with self.assertRaisesRegex(Failed, "its time was up"):
            process.answer(time.monotonic() + 0.5)
        self.assertIsNotNone(process.process.poll())

    def test_an_answer_that_is_there_is_taken_after_its_time(self):
        process = self.process("import sys; sys.stdout.write('{}\\n'); sys.stdout.flush(); input()")
        self.addCleanup(process.end)
        gpu_engines.select.select([process.process.stdout], [], [])
        self.assertEqual(process.answer(time.monotonic() - 1), {})

    def test_one_that_dies_says_its_last_words(self):
        with self.assertRaisesRegex(Failed, "ValueError: no memory"):
            self.process("raise ValueError('no memory')").answer(time.monotonic() + 30)

    def stage(self):
        stage = object.__new__(Stage)
        stage.folder, stage.held, stage.environment = self.folder, set(), {"gpu": None, "emulated": False}
        return stage

    def test_wrong_logits_get_a_row_with_the_error_and_no_time(self):
        arm, stage = gpu_engines.Arm("jax-cuda", "padded"), self.stage()
        (self.folder / "samples.csv").write_text(COLUMNS)
        for wrong in (1e-3, float("nan")):
            arm.positions = {8: 0, 64: 0}
            shape = type("Shape", (), {"name": "tiny"})
            stage.judge(arm, shape, 8, {"max_abs": wrong, "max_rel": wrong, "place": "0/3"})
            stage.judge(arm, shape, 64, {"max_abs": 1e-7, "max_rel": 1e-7, "place": "0/3"})
            self.assertEqual(list(arm.positions), [64])
        failed = rows(self.folder / "samples.csv")
        self.assertEqual([row["value"] for row in failed], ["", ""])
        self.assertIn("the logits differ by 1.0e-03", failed[0]["error"])

    def test_ceilings_are_taken_from_a_run_of_the_same_gpu_only(self):
        theirs = {"emulated": False, "gpu": {"name": "A", "read_bandwidth": [7], "sm_clock_mhz": 345}}
        (self.folder / "environment.json").write_text(json.dumps(theirs))
        for name, expected in (("A", [7]), ("B", [])):
            stage = self.stage()
            stage.environment["gpu"] = {"name": name, "read_bandwidth": []}
            stage.write = lambda: None
            stage.take_ceilings(self.folder)
            self.assertEqual(stage.environment["gpu"], {"name": name, "read_bandwidth": expected})

    def test_errors_are_one_plain_line(self):
        self.assertEqual(gpu_engines.one_line("=cmd\n\x1b[31mred\u202e"), "cmd [31mred")
        self.assertEqual(gpu_engines.one_line(""), "it said nothing")


class Reference(unittest.TestCase):
    def test_it_is_what_a_decode_in_f64_gives(self):
        import numpy as np
        import other_engines

        with tempfile.TemporaryDirectory() as folder:
            folder, tokens = Path(folder), [5, 3, 96, 0, 41]
            other_engines.write_random_model(folder, other_engines.Shape(2, 32, 4, 97, 16))
            gpu_arms.reference(folder, tokens, [2, 5])
            found = np.load(folder / "reference.npz")
            for position in (2, 5):
                decoder = other_engines.TorchConcat(folder, 1, "float64")
                logits, _ = decoder.answers(tokens[:position], 0)
                np.testing.assert_allclose(found[str(position)], logits, rtol=1e-9, atol=1e-12)


if __name__ == "__main__":
    unittest.main()
