#!/usr/bin/env python3
"""The programs of suite gpu without a device: they are skipped, with exit 77 and the reason.

usage: skips.py EMULATED_PLUGIN PROGRAM [argument ...]
"""
import os
import subprocess
import sys

CASES = [  # what is emulated, a part of the reason
    ("no device", "devices=0", "no NVIDIA GPU is visible"),
    ("no driver", "devices=-1", "no NVIDIA driver"),
    ("too old a device", "capability=75", "compute capability 7.5"),
]


def run(command, plugin, settings):
    environment = dict(os.environ, ENCDIFF_CUDA_PLUGIN=plugin, ENCDIFF_EMULATION=settings, ENCDIFF_TEST_DEVICE="cuda")
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def main():
    plugin, command = sys.argv[1], sys.argv[2:]
    failures = 0
    cases = [(name, plugin, settings, reason) for name, settings, reason in CASES]
    cases.append(("no plugin", "/nowhere/libencdiff-cuda.so", "", "/nowhere/libencdiff-cuda.so"))
    for name, which, settings, reason in cases:
        done = run(command, which, settings)
        said = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED: ")]
        good = done.returncode == 77 and len(said) == 1 and reason in said[0]
        print(f"{'ok' if good else 'FAILED'}: {name}: exit {done.returncode}, {said[0] if said else done.stdout!r}")
        failures += not good
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
