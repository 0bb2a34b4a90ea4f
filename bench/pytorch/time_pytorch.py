#!/usr/bin/env python3
"""Times EncDiff's official configuration in PyTorch on the CPU and prints JSON.

    time_pytorch.py [--only train32,unet8,...] [--repeat 5] [--threads 2] [--layout auto] [--precision f32] [--compile]

A measurement is a name and a number of images; bench/time_encdiff.c says what each is. Each measurement runs in a process of its own, so that its peak of resident memory is its own, under the settings
of environment.py. Seconds are the median of the repetitions after one or more that are not counted. On a machine
that others use too, `--threads 1` and `cpu_seconds` (the least) still say something; the rest then does not.
"""
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

import environment

KINDS = ("train", "vq", "unet", "encode", "ddim", "start")
NAMES = ("train32", "unet8", "unet1", "encode64", "vq32", "ddim8")


def split(name):
    """train32 -> train, 32"""
    kind = name.rstrip("0123456789")
    return kind, int(name[len(kind):] or 0)


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(NAMES), help="which, separated by commas (default: all)")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--weights", help="a model of ours (.safetensors); default: PyTorch's initialisation")
    parser.add_argument("--layout", choices=("auto", "nchw", "nhwc"), default="auto",
                        help="memory layout of images; auto is what was found to be the faster for each")  # fmt: skip
    parser.add_argument("--precision", choices=("f32", "bf16"), default="f32", help="bf16: under autocast")
    parser.add_argument("--compile", action="store_true", help="networks through torch.compile (PyTorch 2)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    unknown = [name for name in options.only.split(",") if split(name)[0] not in KINDS or split(name)[1] < 1]
    if unknown:
        parser.error(f"unknown measurement {', '.join(unknown)}: one of {', '.join(KINDS)} and a number of images")
    return options


# ---------------------------------------------------------------- in the measuring process

FASTER_LAYOUT = "nchw"  # in all measurements but the smallest, where the two are about equal


class Measurements:
    """One method a measurement: it prepares, and returns the call to be timed and how many images it treats."""

    def __init__(self, options):
        import torch

        torch.manual_seed(0)
        torch.set_num_threads(options.threads)
        torch.set_flush_denormal(True)  # before OpenMP's threads begin, which inherit it
        self.torch, self.options = torch, options
        if options.precision == "bf16":
            import training

            training.norms_in_bf16()
        layout = FASTER_LAYOUT if options.layout == "auto" else options.layout
        self.format = torch.channels_last if layout == "nhwc" else torch.contiguous_format
        self.layout = layout
        self.tensors = None
        if options.weights:
            import safetensors

            self.tensors, _ = safetensors.load(options.weights)

    def network(self, kind, prefix, **arguments):
        import networks
        import safetensors

        module = getattr(networks, kind)(**arguments)
        if self.tensors is not None:
            safetensors.load_module(module, self.tensors, prefix)
        module = module.to(memory_format=self.format)
        return self.torch.compile(module) if self.options.compile else module

    def images(self, n, channels=3, size=64):
        return (2 * self.torch.rand(n, channels, size, size) - 1).contiguous(memory_format=self.format)

    def new_unet(self):
        return self.network("UNet", "model.diffusion_model.")

    def train(self, n):
        import training

        step = training.EncDiffTraining(
            self.network("ConceptEncoder", "cond_stage_model."), self.new_unet(),
            self.network("VQModel", "first_stage_model."), autocast=self.options.precision == "bf16")  # fmt: skip
        images, noise = self.images(n), self.torch.randn(n, 3, 16, 16).contiguous(memory_format=self.format)
        t = self.torch.randint(0, 1000, (n,))
        return lambda: step.step(images, t, noise)

    def unet(self, n):
        unet, tokens = self.new_unet().eval(), self.torch.randn(n, 20, 16)
        x, t = self.images(n, size=16), self.torch.full((n,), 500)
        return lambda: unet(x, t, tokens)

    def encode(self, n):
        encoder, images = self.network("ConceptEncoder", "cond_stage_model.").eval(), self.images(n)
        return lambda: encoder(images)

    def start(self, n):
        encoder = self.network("ConceptEncoder", "cond_stage_model.").eval()
        return lambda: encoder(self.torch.zeros(n, 3, 64, 64))

    def vq(self, n):
        import training

        step = training.AutoencoderTraining(
            self.network("VQModel", "first_stage_model."),
            self.network("PatchDiscriminator", "first_stage_model.loss.discriminator."))  # fmt: skip
        images = self.images(n)
        return lambda: step.step(images)

    def ddim(self, n):
        import training

        unet, tokens, x = self.new_unet().eval(), self.torch.randn(n, 20, 16), self.images(n, size=16)
        return lambda: training.ddim(unet, x, tokens, 50)


def measure(options):
    measurements = Measurements(options)
    kind, images = split(options.one)
    call = getattr(measurements, kind)(images)
    learns = kind in ("train", "vq")
    seconds, cpu = [], []
    torch = measurements.torch
    bf16 = options.precision == "bf16" and not learns  # training brings its own, around the forward passes alone
    with torch.set_grad_enabled(learns), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        if kind == "start":  # what the whole process takes is for the caller to measure
            return {"code": float(call().flatten()[0])}
        for _ in range(1 if kind == "ddim" else 3 if images >= 32 else 10):
            call()
        while len(seconds) < options.repeat:
            begin, begin_cpu = time.perf_counter(), time.process_time()
            call()
            seconds.append(time.perf_counter() - begin)
            cpu.append(time.process_time() - begin_cpu)
    return {
        "seconds": statistics.median(seconds),
        "fastest": min(seconds),
        "slowest": max(seconds),
        "cpu_seconds": min(cpu),
        "repetitions": len(seconds),
        "images": images,
        "layout": measurements.layout,
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


# ---------------------------------------------------------------- in the process that starts them


def in_own_process(name, options):
    environ = {**os.environ, **environment.settings(options.threads)}
    arguments = [f"--{key}" if value is True else f"--{key}={value}"
                 for key, value in vars(options).items() if value not in (None, False) and key != "one"]  # fmt: skip
    command = [environment.interpreter(), os.path.abspath(__file__), f"--one={name}", *arguments]
    return json.loads(subprocess.run(command, env=environ, stdout=subprocess.PIPE, check=True).stdout)


def main():
    options = parse(sys.argv[1:])
    if options.one:
        print(json.dumps(measure(options)))
        return
    if not environment.openblas_folder():
        sys.exit("time_pytorch.py: no OpenBLAS here, without which PyTorch is ten times slower and a comparison unfair:\n"
                 "  apt-get install libopenblas0-openmp, or give the folder of its libblas.so.3 in ENCDIFF_OPENBLAS")
    result = {"threads": options.threads, "settings": environment.settings(options.threads)}
    for name in options.only.split(","):
        result[name] = in_own_process(name, options)
        print(name, result[name], file=sys.stderr)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
