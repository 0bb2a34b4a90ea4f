#!/usr/bin/env python3
"""Times libencdiff and PyTorch alternately on the same work and prints the ratios.

    compare.py [--build build] [--only train32,unet8,...] [--precision f32,bf16] [--rounds 5] [--threads 2] [--busy]
               [--python /usr/bin/python3]... [--compile] [--json FILE]

A measurement is a name and a number of images; time_encdiff.c says what each is. Each round runs every side after the
other in fresh processes, so that a busy spell of the machine meets all; a ratio is the median over the rounds of ours /
the best PyTorch's of that round, each of them a median of repetitions. PyTorch's sides are each --python (the system's
by default) and, with --compile, each of version 2 through torch.compile. In bf16 PyTorch runs under autocast; the
autoencoder's training has no bf16. "start" is a process from its begin to its end, for the first tokens of one image;
both sides read the same model file, and their tokens are compared. --busy keeps the last processor busy meanwhile.
"""
import argparse
import contextlib
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE / "pytorch"))
import environment  # noqa: E402

NAMES = "train32,vq32,encode1,encode64,unet1,unet8,unet64,ddim1,ddim8,start1"


def run(command, environ=None):
    begin = time.perf_counter()
    done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"compare.py: {' '.join(map(str, command))} ended with {done.returncode}")
    result = json.loads(done.stdout)
    result.setdefault("seconds", time.perf_counter() - begin)  # where the process is what is timed
    return result


def ours(options, name, precision, threads, model):
    arguments = ["--threads", str(threads), "--repeat", str(options.repeat), "--bf16", str(int(precision == "bf16"))]
    return run([options.build / "bench" / "time_encdiff", name, *arguments, *(["--model", model] if model else [])])


def pytorch(options, side, name, precision, threads, model):
    python, compiled = side
    arguments = [f"--one={name}", f"--threads={threads}", f"--repeat={options.repeat}", f"--precision={precision}"]
    arguments += [f"--weights={model}"] if model else []
    arguments += ["--compile"] if compiled else []
    environ = {**os.environ, **environment.settings(threads)}
    return run([python, HERE / "pytorch" / "time_pytorch.py", *arguments], environ)


def version(python):
    done = subprocess.run([python, "-c", "import torch; print(torch.__version__)"], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"compare.py: {python} has no PyTorch (apt-get install python3-torch, or --python another)")
    return done.stdout.strip()


@contextlib.contextmanager
def neighbour(wanted):
    """A process that keeps the last processor busy."""
    if not wanted:
        yield
        return
    last = max(os.sched_getaffinity(0))
    with subprocess.Popen([sys.executable, "-c", "while True: pass"], preexec_fn=lambda: os.sched_setaffinity(0, {last})) as p:
        try:
            yield
        finally:
            p.kill()


def compare(options, sides, name, precision, threads, model):
    rounds = []
    for _ in range(options.rounds):
        rounds.append((ours(options, name, precision, threads, model),
                       [pytorch(options, side, name, precision, threads, model) for side in sides]))  # fmt: skip
    if model:
        a, b = rounds[0][0]["code"], rounds[0][1][0]["code"]
        if abs(a - b) > 1e-4 * max(abs(a), abs(b)):
            sys.exit(f"compare.py: the sides' first tokens differ, {a} and {b}")
    best = [min(others, key=lambda other: other["seconds"]) for _, others in rounds]
    ratios = [a["seconds"] / b["seconds"] for (a, _), b in zip(rounds, best)]
    by_side = [statistics.median(others[i]["seconds"] for _, others in rounds) for i in range(len(sides))]
    return {
        "ours": statistics.median(a["seconds"] for a, _ in rounds),
        "pytorch": statistics.median(b["seconds"] for b in best),
        "by_side": by_side,
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "peak_mb": [max(a.get("peak_mb", 0) for a, _ in rounds), max(b.get("peak_rss_mb", 0) for b in best)],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=HERE.parent / "build")
    parser.add_argument("--python", action="append", help="one that has torch; may be given again")
    parser.add_argument("--compile", action="store_true", help="also through torch.compile")
    parser.add_argument("--only", default=NAMES)
    parser.add_argument("--precision", default="f32", help="f32, bf16 or both, separated by a comma")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", default="2", help="one or several, separated by commas")
    parser.add_argument("--busy", action="store_true", help="beside a process that keeps one processor busy")
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    if not environment.openblas_folder():
        sys.exit("compare.py: no OpenBLAS here, without which a comparison is unfair: apt-get install libopenblas0-openmp")
    versions = {python: version(python) for python in options.python or ["/usr/bin/python3"]}
    sides = [(python, False) for python in versions]
    if options.compile:
        sides += [(python, True) for python, v in versions.items() if not v.startswith("1.")]
    labels = [versions[python] + (" compiled" if compiled else "") for python, compiled in sides]
    print("PyTorch", ", ".join(labels), "; the best of each round counts" if len(sides) > 1 else "")
    print(f"{'':17} {'libencdiff':>12} {'PyTorch':>12} {'ratio':>7} {'spread':>15} {'MB':>7} {'MB':>7}")
    table = {"pytorch": labels}
    names, precisions, threads = (text.split(",") for text in (options.only, options.precision, options.threads))
    with tempfile.TemporaryDirectory() as folder, neighbour(options.busy):
        for name, precision, count in itertools.product(names, precisions, map(int, threads)):
            if precision == "bf16" and name.startswith(("vq", "start")):
                continue
            model = None
            if name.startswith("start"):
                model = os.path.join(folder, "model.safetensors")
                command = [options.build / "tools" / "encdiff" / "encdiff", "init", "-p", "shapes3d-official", "-o", model, "-q"]
                if not os.path.exists(model):
                    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            t = table[f"{name} {precision} {count}"] = compare(options, sides, name, precision, count, model)
            print(f"{name:9} {precision:4} x{count} {t['ours'] * 1e3:10.1f}ms {t['pytorch'] * 1e3:10.1f}ms "
                  f"{t['ratio']:7.3f} {min(t['ratios']):7.3f}-{max(t['ratios']):.3f} "
                  f"{t['peak_mb'][0]:7.0f} {t['peak_mb'][1]:7.0f}"
                  + ("  " + " ".join(f"{s * 1e3:.1f}" for s in t["by_side"]) if len(sides) > 1 else ""), flush=True)  # fmt: skip
            if options.json:
                options.json.write_text(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
