#!/usr/bin/env python3
"""Registers, spills and shared memory of every kernel, as ptxas says, as the table of docs/gpu.md.

usage: cuda/budgets.py [--arch 80 --arch 90 ...] [--nvcc PROGRAM] [FAMILY ...]

Compiles cuda/kernels/FAMILY.cu (all of them by default) once for each architecture. A row is a kernel of a family, with
the largest figure over its instances. Exits with 1 where a register is spilled.
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


def plain_name(mangled):
    """The name of a kernel without its template's arguments: of _Z<length><name>..., after a namespace or not."""
    found = re.match(r"_Z(?:L|N\S*?)?(\d+)", mangled)
    if not found:
        return mangled
    return mangled[found.end():found.end() + int(found.group(1))]


def compile_family(nvcc, family, arch):
    """{kernel: (instances, registers, spilled bytes, shared bytes)} of one file."""
    with tempfile.TemporaryDirectory() as folder:
        command = [nvcc, "-std=c++17", "-O3", f"-arch=sm_{arch}", "-Xptxas", "-v", "-I", str(ROOT), "-I", str(ROOT / "lib"),
                   "-I", str(ROOT / "include"), "-cubin", str(ROOT / "cuda/kernels" / (family + ".cu")),
                   "-o", folder + "/kernel.cubin"]
        run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"{family}.cu for sm_{arch}: {run.stderr}")
    kernels, name, spilled = {}, None, 0
    for line in run.stderr.splitlines():
        if found := PROPERTIES.search(line):
            name = plain_name(found.group(1))
        elif found := SPILLS.search(line):
            spilled = int(found.group(1)) + int(found.group(2))
        elif (found := USED.search(line)) and name:
            shared = SHARED.search(line)
            new = (1, int(found.group(1)), spilled, int(shared.group(1)) if shared else 0)
            old = kernels.get(name, (0, 0, 0, 0))
            kernels[name] = (old[0] + 1,) + tuple(max(a, b) for a, b in zip(old[1:], new[1:]))
            name = None
    return kernels


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", action="append", help="compute capability, such as 90; 80, 90, 100 and 120 by default")
    parser.add_argument("--nvcc", default="nvcc")
    parser.add_argument("family", nargs="*")
    options = parser.parse_args()
    archs = options.arch or ["80", "90", "100", "120"]
    families = options.family or sorted(path.stem for path in (ROOT / "cuda/kernels").glob("*.cu"))
    print("| family | kernel | instances | registers, sm_" + ", ".join(archs) + " | spilled | static shared |")
    print("|---|---|---|---|---|---|")
    spills = 0
    for family in families:
        each = [compile_family(options.nvcc, family, arch) for arch in archs]
        for name in sorted(each[0]):
            rows = [kernels[name] for kernels in each]
            spilled = max(row[2] for row in rows)
            spills += spilled
            print(f"| {family} | {name} | {rows[0][0]} | {', '.join(str(row[1]) for row in rows)} | {spilled} |"
                  f" {max(row[3] for row in rows)} |", flush=True)
    return 1 if spills else 0


if __name__ == "__main__":
    sys.exit(main())
