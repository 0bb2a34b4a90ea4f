#!/usr/bin/env python3
"""Times libencdiff and PyTorch alternately on the same work and prints the ratios.

    compare.py [--build build] [--only train,unet8,...] [--precision f32,bf16] [--rounds 3] [--batch 32] [--threads 2]
               [--json FILE]

Each round runs one side after the other in fresh processes, so that a busy spell of the machine meets both; a ratio is the
median over the rounds of (ours / PyTorch's), each of them a median of repetitions. In bf16 PyTorch runs under autocast;
the autoencoder's training has no bf16.
"""
import argparse
import itertools
import json
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
NAMES = ("train", "unet8", "unet1", "encode", "vq", "ddim")


def ours(options, name, precision):
    command = [str(options.build / "bench" / "time_encdiff"), name, "--batch", str(options.batch),
               "--threads", str(options.threads), "--repeat", str(options.repeat),
               "--bf16", str(int(precision == "bf16"))]  # fmt: skip
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def pytorch(options, name, precision):
    command = [options.python, str(HERE / "pytorch" / "time_pytorch.py"), "--only", name, "--batch", str(options.batch),
               "--threads", str(options.threads), "--repeat", str(options.repeat), "--precision", precision]  # fmt: skip
    result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return result[name]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=HERE.parent / "build")
    parser.add_argument("--python", default="/usr/bin/python3", help="one that has torch")
    parser.add_argument("--only", default=",".join(NAMES))
    parser.add_argument("--precision", default="f32", help="f32, bf16 or both, separated by a comma")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    table = {}
    print(f"{'':13} {'libencdiff':>12} {'PyTorch':>12} {'ratio':>7} {'spread':>15} {'MB':>7} {'MB':>7}")
    for name, precision in itertools.product(options.only.split(","), options.precision.split(",")):
        if (name, precision) == ("vq", "bf16"):
            continue
        rounds = [(ours(options, name, precision), pytorch(options, name, precision)) for _ in range(options.rounds)]
        ratios = [a["seconds"] / b["seconds"] for a, b in rounds]
        a, b = (statistics.median(r[side]["seconds"] for r in rounds) for side in (0, 1))
        memory = [max(r[0]["peak_mb"] for r in rounds), max(r[1]["peak_rss_mb"] for r in rounds)]
        table[f"{name} {precision}"] = dict(ours=a, pytorch=b, ratio=statistics.median(ratios), ratios=ratios, peak_mb=memory)
        print(f"{name:8} {precision:4} {a * 1e3:10.1f}ms {b * 1e3:10.1f}ms {statistics.median(ratios):7.3f} "
              f"{min(ratios):7.3f}-{max(ratios):.3f} {memory[0]:7.0f} {memory[1]:7.0f}", flush=True)  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    sys.exit(main())
