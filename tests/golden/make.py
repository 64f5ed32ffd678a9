"""Regenerates the golden values beside this file (all but `fconv_*/` and `beams_flax`, see README.md).

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install -r tests/golden/requirements.txt
    /tmp/golden/bin/python tests/golden/make.py

The point of golden values is that somebody else's program made them; only `derived/` is written down
here, from formulas. Everything is computed in f64 from f32 inputs, wherever the program lets it, and
rounded once, when it is stored, so a difference seen by a test is the tested program's.

Each script beside this one makes a few folders and can be run alone.
"""

import make_beams
import make_configs
import make_derived
import make_families
import make_flax
import make_generate
import make_gpt2
import make_llama
import make_rope
import make_seq2seq

SCRIPTS = [
    make_gpt2, make_llama, make_families, make_seq2seq, make_beams, make_generate, make_rope, make_flax, make_derived,
    make_configs,
]  # fmt: skip
for script in SCRIPTS:
    script.main()
