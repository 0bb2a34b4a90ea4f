#!/usr/bin/env python3
"""Checks networks.py against the golden numbers that the library's own parity tests read.

    check_equal.py [FOLDER]      default: $ENCDIFF_FIXTURES, then tests/data/fixtures

Parameters are functions of their names (FNV-1a and splitmix64), so no weights file is needed. Each quantity's
relative L2 error is printed; the exit status is 1 where one is above 1e-5.
"""
import json
import math
import os
import pathlib
import sys

import environment

environment.enter()

import numpy as np  # noqa: E402  (after the environment)
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

import networks  # noqa: E402
import safetensors  # noqa: E402

LIMIT = 1e-5
UNET, COND, FIRST = "model.diffusion_model.", "cond_stage_model.", "first_stage_model."


def hash_uniform(name, count, seed):
    """`count` numbers in [0, 1): splitmix64 of FNV-1a(name) + seed + i, the top 53 bits."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = (h ^ byte) * 0x100000001B3 % 2**64
    with np.errstate(over="ignore"):
        z = np.arange(count, dtype=np.uint64) + np.uint64((h + seed) % 2**64) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)).astype(np.float64) / 2.0**53


def hashed(name, shape, is_norm, seed):
    u = hash_uniform(name, math.prod(shape), seed).reshape(shape)
    if name.endswith("running_var"):
        return 0.5 + u
    if name.endswith("running_mean") or name.endswith(".bias"):
        return 0.2 * u - 0.1
    if is_norm:
        return 0.8 + 0.4 * u
    return (2 * u - 1) * math.sqrt(3.0 / math.prod(shape[1:]))


def with_hashed_parameters(module, prefix, seed):
    norms = (torch.nn.GroupNorm, torch.nn.LayerNorm, torch.nn.BatchNorm2d)
    for path, part in module.named_modules():
        own = [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]
        for name, tensor in own:
            if name == "num_batches_tracked":
                continue
            full = prefix + (path + "." if path else "") + name
            value = hashed(full, tuple(tensor.shape), isinstance(part, norms), seed)
            tensor.data.copy_(torch.from_numpy(value))
    return module


class Comparison:
    def __init__(self, folder, case):
        self.case = case
        self.golden, metadata = safetensors.load(folder / f"{case}.safetensors")
        self.seed = json.loads(metadata["config"])["seed"]
        self.good = True

    def check(self, name, tensor):
        wanted = self.golden[name].double()
        error = float((tensor.detach().double() - wanted).norm() / wanted.norm().clamp_min(1e-30))
        self.good &= error <= LIMIT
        print(f"{'ok' if error <= LIMIT else 'FAILED':6} {error:8.1e}  {self.case}  {name}")

    def check_gradients(self, module, prefix):
        for name, parameter in module.named_parameters():
            golden = self.golden.get("grad." + prefix + name)
            if golden is None:
                continue
            # A bias in front of a BatchNorm moves nothing: what is stored for it is rounding, and stays so here.
            if golden.norm() < 1e-6 and parameter.grad.norm() < 1e-6:
                print(f"ok     both zero  {self.case}  grad.{prefix}{name}")
                continue
            self.check("grad." + prefix + name, parameter.grad)


def check_unet(folder):
    c = Comparison(folder, "unet_official")
    net = with_hashed_parameters(networks.UNet(), UNET, c.seed)
    x, tokens = (c.golden[k].clone().requires_grad_(True) for k in ("x", "tokens"))
    out = net(x, c.golden["t"], tokens)
    loss = F.l1_loss(out, c.golden["target"])
    loss.backward()
    for name, value in dict(out=out, loss=loss, grad_x=x.grad, grad_tokens=tokens.grad).items():
        c.check(name, value)
    c.check_gradients(net, UNET)
    return c.good


def check_encoder(folder):
    c = Comparison(folder, "encoder_official")
    net = with_hashed_parameters(networks.ConceptEncoder(), COND, c.seed).eval()
    image, weight = c.golden["image"], c.golden["loss_weight"]
    with torch.no_grad():
        scalars = net.scalars(image)
        c.check("eval_scalars", scalars)
        c.check("eval_tokens", net.tokens(scalars))
    net.train()
    scalars = net.scalars(image)
    tokens = net.tokens(scalars)
    loss = (tokens * weight).mean()
    loss.backward()
    for name, value in dict(train_scalars=scalars, train_tokens=tokens, loss=loss).items():
        c.check(name, value)
    for name, buffer in net.named_buffers():
        if "running" in name:
            c.check("after." + COND + name, buffer)
    c.check_gradients(net, COND)
    return c.good


def check_autoencoder(folder):
    c = Comparison(folder, "autoencoder_official")
    net = with_hashed_parameters(networks.VQModel(), FIRST, c.seed)
    image = c.golden["image"]
    z = net.encode(image)
    q, codebook, indices = net.quantize(z)
    reconstruction = net.decode(q)
    loss = F.l1_loss(reconstruction, image) + codebook
    loss.backward()
    for name, value in dict(latent=z, reconstruction=reconstruction, codebook_loss=codebook, loss=loss).items():
        c.check(name, value)
    c.check("indices", indices)
    c.check_gradients(net, FIRST)
    return c.good


def main():
    own = pathlib.Path(__file__).resolve().parents[2] / "tests/data/fixtures"
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("ENCDIFF_FIXTURES", own))
    results = [check(folder) for check in (check_unet, check_encoder, check_autoencoder)]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
