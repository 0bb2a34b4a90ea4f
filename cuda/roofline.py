#!/usr/bin/env python3
"""The time that a step of encoder and U-Net would take on a GPU, by roofline: a model, not a measurement.

usage: cuda/roofline.py [--program build/tools/encdiff/encdiff] [--config shapes3d-official] [--batch 32]
                        [--bandwidth 3350] [--tflops 67] [--efficiency 0.7] [--start 2] [--kernels 1.5]

An operator takes the longer of its arithmetic at --tflops and its bytes at --bandwidth (GB/s), of both of which
--efficiency is reached, and for each of --kernels kernels --start microseconds, which is what a node of a CUDA graph
costs. FLOPs and bytes are the cost rules' (`encdiff bench --plan`), which count each operand once. They grow evenly
with the images, so two plans of few images give those of --batch.
"""
import argparse
import collections
import json
import subprocess
import sys
import tempfile

FEW = (4, 8)  # a plan of the CPU has at most eight images at once


def operators(options, run, images):
    """[(graph, name, FLOPs, bytes)] of one plan."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [options.program, "bench", "--config", options.config, "--plan", "--run", run, "--batch", str(images),
                   "--threads", "1", "--json", file.name]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)}: {done.stderr}")
        plan = json.load(open(file.name))
    return [(number, op["operator"], op["flops"], op["bytes"]) for number, graph in enumerate(plan["graphs"])
            for op in graph["operators"] if op["operator"] != "reshape"]


def at_batch(options, run):
    """The same at the batch that is asked for: the line through two plans."""
    low, high = (operators(options, run, images) for images in FEW)
    if [op[:2] for op in low] != [op[:2] for op in high]:
        sys.exit(f"the plans of {run} at {FEW[0]} and {FEW[1]} images have other operators")
    far = (options.batch - FEW[0]) / (FEW[1] - FEW[0])
    return [(b[1], a[2] + far * (b[2] - a[2]), a[3] + far * (b[3] - a[3])) for a, b in zip(low, high)]


def seconds(options, flops, size):
    return max(flops / (1e12 * options.tflops), size / (1e9 * options.bandwidth)) / options.efficiency


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", default="build/tools/encdiff/encdiff")
    parser.add_argument("--config", default="shapes3d-official")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--bandwidth", type=float, default=3350, help="GB/s")
    parser.add_argument("--tflops", type=float, default=67)
    parser.add_argument("--efficiency", type=float, default=0.7)
    parser.add_argument("--start", type=float, default=2, help="microseconds of a kernel in a CUDA graph")
    parser.add_argument("--kernels", type=float, default=1.5, help="of an operator, on average")
    parser.add_argument("--parameters", type=float, default=38.8e6, help="that are trained")
    options = parser.parse_args()
    listed = at_batch(options, "latents") + at_batch(options, "train_encdiff")
    listed.append(("adamw", 18 * options.parameters, 40 * options.parameters))
    rows = collections.defaultdict(lambda: [0, 0.0, 0.0, 0.0])
    for name, flops, size in listed:
        row = rows[name]
        row[0] += 1
        row[1] += flops
        row[2] += size
        row[3] += seconds(options, flops, size)
    print("| operator | number | GFLOP | GB | ms |\n|---|---|---|---|---|")
    for name, row in sorted(rows.items(), key=lambda item: -item[1][3])[:14]:
        print(f"| {name} | {row[0]} | {1e-9 * row[1]:.1f} | {1e-9 * row[2]:.2f} | {1e3 * row[3]:.2f} |")
    total = [sum(row[i] for row in rows.values()) for i in range(4)]
    starts = 1e-6 * options.start * options.kernels * total[0]
    print(f"| all | {total[0]} | {1e-9 * total[1]:.1f} | {1e-9 * total[2]:.2f} | {1e3 * total[3]:.2f} |")
    print(f"| starts of kernels | {options.kernels * total[0]:.0f} | | | {1e3 * starts:.2f} |")
    print(f"| predicted step | | | | {1e3 * (total[3] + starts):.1f} |")


if __name__ == "__main__":
    main()
