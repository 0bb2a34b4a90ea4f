#!/usr/bin/env python3
"""Registers, spills and shared memory of every kernel, as ptxas says, and its occupancy, as the table of docs/gpu.md.

usage: cuda/budgets.py [--arch 80 --arch 90 ...] [--nvcc PROGRAM] [FAMILY ...]

Compiles cuda/kernels/FAMILY.cu (all of them by default) once for each architecture. A row is a kernel of a family, with
the largest figure over its instances, the least for occupancy. Exits with 1 where a register is spilled.
"""
import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROPERTIES = re.compile(r"Function properties for (\S+)")
SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")
ENTRY = re.compile(r"\.entry (\w+)\([^)]*\)\s*\.maxntid (\d+)")

# Bytes that a launch adds, at most (attention.h: a tile of rows, padded).
DYNAMIC_SHARED = {"attention_forward": 33 << 10, "attention_grad_queries": 33 << 10, "attention_grad_keys": 33 << 10}


def plain_name(mangled):
    """The name of a kernel without its template's arguments: of _Z<length><name>..., after a namespace or not."""
    found = re.match(r"_Z(?:L|N\S*?)?(\d+)", mangled)
    if not found:
        return mangled
    return mangled[found.end():found.end() + int(found.group(1))]


class Kernel:
    """The instances of one name, for one architecture."""

    def __init__(self):
        self.instances, self.registers, self.spilled, self.shared, self.occupancy = 0, 0, 0, 0, 100

    def add(self, registers, spilled, shared, occupancy):
        self.instances += 1
        self.registers = max(self.registers, registers)
        self.spilled = max(self.spilled, spilled)
        self.shared = max(self.shared, shared)
        self.occupancy = min(self.occupancy, occupancy)


def block_sizes(folder):
    """{mangled name: threads of a block} of the PTX in a folder."""
    sizes = {}
    for path in pathlib.Path(folder).glob("*.ptx"):
        sizes.update((name, int(threads)) for name, threads in ENTRY.findall(path.read_text()))
    return sizes


def ask(program, questions):
    """bench/occupancy.cpp about tuples of architecture, registers, static and dynamic shared memory, threads."""
    text = "".join(" ".join(map(str, question)) + "\n" for question in questions)
    run = subprocess.run([program], input=text, capture_output=True, text=True)
    if run.returncode:
        sys.exit(run.stderr)
    return list(map(int, run.stdout.split()))


def compile_family(nvcc, occupancy, family, arch):
    """{name: Kernel} of one file."""
    with tempfile.TemporaryDirectory() as folder:
        command = [nvcc, "-std=c++17", "-O3", f"-arch=sm_{arch}", "-Xptxas", "-v", "-I", str(ROOT), "-I", str(ROOT / "lib"),
                   "-I", str(ROOT / "include"), "-cubin", str(ROOT / "cuda/kernels" / (family + ".cu")),
                   "--keep", "--keep-dir", folder, "-o", folder + "/kernel.cubin"]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode:
            sys.exit(f"{family}.cu for sm_{arch}: {run.stderr}")
        threads = block_sizes(folder)
    found_all, name, spilled = [], None, 0
    for line in run.stderr.splitlines():
        if found := PROPERTIES.search(line):
            name = found.group(1)
        elif found := SPILLS.search(line):
            spilled = int(found.group(1)) + int(found.group(2))
        elif (found := USED.search(line)) and name:
            shared = SHARED.search(line)
            found_all.append((name, int(found.group(1)), spilled, int(shared.group(1)) if shared else 0))
            name = None
    shares = ask(occupancy, [(arch, registers, shared, DYNAMIC_SHARED.get(plain_name(name), 0), threads[name])
                             for name, registers, _, shared in found_all])
    kernels = {}
    for (name, registers, spilled, shared), share in zip(found_all, shares):
        kernels.setdefault(plain_name(name), Kernel()).add(registers, spilled, shared, share)
    return kernels


def build_occupancy(nvcc, folder):
    program = folder + "/occupancy"
    run = subprocess.run([nvcc, "-std=c++17", "-O1", str(ROOT / "bench/occupancy.cpp"), "-o", program],
                         capture_output=True, text=True)
    if run.returncode:
        sys.exit(run.stderr)
    return program


def print_table(nvcc, families, archs, occupancy):
    """The bytes that are spilled."""
    named = "sm_" + ", ".join(archs)
    print(f"| family | kernel | instances | registers, {named} | spilled | static shared | occupancy, % |")
    print("|---|---|---|---|---|---|---|")
    spills = 0
    for family in families:
        each = [compile_family(nvcc, occupancy, family, arch) for arch in archs]
        for name in sorted(each[0]):
            rows = [kernels[name] for kernels in each]
            spilled = max(row.spilled for row in rows)
            spills += spilled
            print(f"| {family} | {name} | {rows[0].instances} | {', '.join(str(row.registers) for row in rows)} | {spilled} |"
                  f" {max(row.shared for row in rows)} | {', '.join(str(row.occupancy) for row in rows)} |", flush=True)
    return spills


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", action="append", help="compute capability, such as 90; 80, 90, 100 and 120 by default")
    parser.add_argument("--nvcc", default="nvcc")
    parser.add_argument("family", nargs="*")
    options = parser.parse_args()
    archs = options.arch or ["80", "90", "100", "120"]
    families = options.family or sorted(path.stem for path in (ROOT / "cuda/kernels").glob("*.cu"))
    with tempfile.TemporaryDirectory() as folder:
        return 1 if print_table(options.nvcc, families, archs, build_occupancy(options.nvcc, folder)) else 0


if __name__ == "__main__":
    sys.exit(main())
