#!/usr/bin/env python3
"""The programs of suite gpu without a device: they are skipped, with exit 77 and the reason.

usage: skips.py PROGRAM EMULATED_PLUGIN
"""
import os
import subprocess
import sys

CASES = [  # what is emulated, a part of the reason
    ("no device", "devices=0", "no NVIDIA GPU is visible"),
    ("no driver", "devices=-1", "no NVIDIA driver"),
    ("too old a device", "capability=75", "compute capability 7.5, below 8.0"),
]


def run(program, plugin, settings):
    environment = dict(os.environ, ENCDIFF_CUDA_PLUGIN=plugin, ENCDIFF_EMULATION=settings)
    return subprocess.run([program], env=environment, capture_output=True, text=True, timeout=60)


def main():
    program, plugin = sys.argv[1:]
    failures = 0
    cases = [(name, plugin, settings, reason) for name, settings, reason in CASES]
    cases.append(("no plugin", "/nowhere/libencdiff-cuda.so", "", "/nowhere/libencdiff-cuda.so"))
    for name, which, settings, reason in cases:
        done = run(program, which, settings)
        said = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED: ")]
        good = done.returncode == 77 and len(said) == 1 and reason in said[0]
        print(f"{'ok' if good else 'FAILED'}: {name}: exit {done.returncode}, {said[0] if said else done.stdout!r}")
        failures += not good
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
