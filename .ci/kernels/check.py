"""Registers, spills, shared memory, occupancy and load widths of every kernel, from ptxas and nvdisasm."""

import ctypes
import glob
import itertools
import os
import re
import subprocess
import sys
import sysconfig
import tempfile

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
KERNELS = os.path.join(ROOT, "kernels")
README = os.path.join(KERNELS, "README.md")
BEGIN, END = "<!-- table: written by .ci/kernels/check --write -->", "<!-- end of table -->"
NVIDIA = os.path.join(sysconfig.get_paths()["purelib"], "nvidia")

# Threads and shared memory of a multiprocessor; all have 65 536 registers and at most 32 or 24 blocks.
ARCHS = {"80": (2048, 164 << 10, 32), "90": (2048, 228 << 10, 32), "100": (2048, 228 << 10, 32), "120": (1536, 100 << 10, 24)}
# Numbers of a head; the widest of attention is the one head of the convolutional model's looks.
HEADS = {"attention": (8, 32, 64, 128, 160, 512), "attention_many": (8, 32, 64, 128), "attention_combine": (8, 32, 64, 128, 160, 512), "retain": (8, 32, 64, 128, 256)}
# The most rows at once.
ROWS = {"linear_one": (1, 2, 4, 8)}
# Whose hot loop streams from memory: it must move 16 bytes an instruction.
STREAMS = {"linear_one", "linear", "linear_combine", "attention", "attention_many", "conv_glu", "concat", "grow", "gather_batch", "write_onehot", "norm_rows", "ceiling_read"}


def tool(name):
    found = glob.glob(os.path.join(NVIDIA, "*", "bin", name))
    if not found:
        sys.exit(f"check: no {name} under {NVIDIA}")
    return found[0]


def nvrtc():
    return ctypes.CDLL(glob.glob(os.path.join(NVIDIA, "cuda_nvrtc", "lib", "libnvrtc.so.1*"))[0])


def output(lib, program, size, get):
    n = ctypes.c_size_t()
    getattr(lib, size)(program, ctypes.byref(n))
    text = ctypes.create_string_buffer(n.value)
    getattr(lib, get)(program, text)
    return text.value


def source(name):
    return open(os.path.join(KERNELS, f"{name}.cu")).read()


def compile_ptx(lib, name, defines, arch):
    program = ctypes.c_void_p()
    text = open(os.path.join(KERNELS, "common.cuh")).read() + source(name)
    lib.nvrtcCreateProgram(ctypes.byref(program), text.encode(), f"{name}.cu".encode(), 0, None, None)
    options = [f"--gpu-architecture=compute_{arch}", "-lineinfo", "-std=c++17", *(f"-D{d}" for d in defines)]
    options = [o.encode() for o in options]
    if lib.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options)):
        log = output(lib, program, "nvrtcGetProgramLogSize", "nvrtcGetProgramLog").decode()
        sys.exit(f"check: {name} {defines} for {arch}:\n{log}")
    return output(lib, program, "nvrtcGetPTXSize", "nvrtcGetPTX")


def assemble(ptx, arch, folder):
    """Registers, shared bytes, spilled bytes, threads of a block, and the machine code."""
    source, cubin = os.path.join(folder, "k.ptx"), os.path.join(folder, "k.cubin")
    open(source, "wb").write(ptx)
    log = subprocess.run([tool("ptxas"), "-v", f"-arch=sm_{arch}", source, "-o", cubin], check=True, capture_output=True, text=True).stderr
    number = lambda pattern: sum(int(n) for n in re.findall(pattern, log))
    threads = int(re.search(rb"\.maxntid (\d+)", ptx).group(1))
    return number(r"Used (\d+) registers"), number(r"(\d+) bytes smem"), number(r"(\d+) bytes spill"), threads, cubin


def occupancy(arch, registers, shared, threads):
    """Of the threads that a multiprocessor can hold, in percent: registers go by 256 a warp, shared memory by 128 and 1 KiB a block."""
    most_threads, memory, blocks = ARCHS[arch]
    warps = threads // 32
    by_registers = 65536 // (-(-registers * 32 // 256) * 256) // warps
    by_shared = memory // (-(-shared // 128) * 128 + 1024)
    return 100 * min(by_registers, by_shared, most_threads // threads, blocks) * threads // most_threads


def hot_loads(cubin):
    """Widths in bits of the loads from global memory in the loop that loads most; in a kernel without loops, of the widest.

    A loop is what lies between a label and a later branch back to it.
    """
    code = subprocess.run([tool("nvdisasm"), "-c", cubin], check=True, capture_output=True, text=True).stdout
    labels, widths, loops = {}, [], []
    for line in code.splitlines():
        if label := re.match(r"(\.L_x_\d+):", line):
            labels[label[1]] = len(widths)
        elif load := re.search(r"\bLDG\.([A-Z0-9_.]+)", line):
            widths.append(128 if ".128" in "." + load[1] else 64 if ".64" in "." + load[1] else 32)
        elif (back := re.search(r"\bBRA.*\((\.L_x_\d+)\)", line)) and back[1] in labels:
            loops.append(widths[labels[back[1]]:])
    return max([loop for loop in loops if loop] or [[max(widths)]], key=sum)


def measure():
    lib, faults, rows = nvrtc(), [], []
    names = sorted(os.path.basename(f)[:-3] for f in glob.glob(os.path.join(KERNELS, "*.cu")))
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            for vec in (4, 1):
                for head, rows_at_once in itertools.product(HEADS.get(name, (0,)), ROWS.get(name, (0,))):
                    if vec == 4 and not re.search(r"\b(VEC|Pack|load)\b", source(name)):
                        continue  # it moves single numbers, or none
                    defines = [f"VEC={vec}"] + ([f"HEAD={head}"] if head else [])
                    defines += [f"ROWS={rows_at_once}"] if rows_at_once else []
                    cells = []
                    for arch in ARCHS:
                        registers, shared, spilled, threads, cubin = assemble(compile_ptx(lib, name, defines, arch), arch, folder)
                        what = f"{name} {' '.join(defines)} sm_{arch}"
                        if spilled:
                            faults.append(f"{what}: {spilled} bytes spilled")
                        if vec == 4 and name in STREAMS and set(hot_loads(cubin)) != {128}:
                            faults.append(f"{what}: the hot loop loads {hot_loads(cubin)} bits")
                        cells.append(f"{registers} / {occupancy(arch, registers, shared, threads)} %")
                    label = f"`{name}`" + (f", head {head}" if head else "")
                    label += f", rows {rows_at_once}" if rows_at_once else ""
                    rows.append(f"| {label} | {4 * vec} | {threads} | {shared} | " + " | ".join(cells) + " |")
    head = "| kernel | bytes a load | threads | shared bytes | " + " | ".join(f"sm_{a}" for a in ARCHS) + " |"
    return faults, "\n".join([head, "|---" * (4 + len(ARCHS)) + "|", *rows])


def main():
    faults, table = measure()
    before = open(README).read()
    start, end = before.index(BEGIN) + len(BEGIN), before.index(END)
    after = f"{before[:start]}\n{table}\n{before[end:]}"
    if "--write" in sys.argv:
        open(README, "w").write(after)
    elif before != after:
        faults.append("the table in kernels/README.md is not what the kernels are; run .ci/kernels/check --write")
    print(table)
    sys.exit("".join(f"check: {fault}\n" for fault in faults) or 0)


main()
