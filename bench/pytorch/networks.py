"""EncDiff's networks in ordinary PyTorch: what the library is compared with, in numbers and in time.

Channels first, attention as batched products with a softmax between, every module and parameter under the
name that published checkpoints use. The defaults are the official 64x64 configuration.

Sources: EncDiff (arXiv 2402.09712), latent diffusion (arXiv 2112.10752), VQGAN (arXiv 2012.09841).
"""
import math

import torch
import torch.nn.functional as F
from torch import nn


def group_norm(channels, eps=1e-5):
    return nn.GroupNorm(32, channels, eps=eps)


# ---------------------------------------------------------------- concept encoder


class EncoderResidual(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.convs = nn.Sequential(
            nn.ReLU(), nn.Conv2d(d, d, 3, padding=1), nn.BatchNorm2d(d), nn.ReLU(), nn.Conv2d(d, d, 1)
        )

    def forward(self, x):
        return x + self.convs(x)


class ConceptEncoder(nn.Module):
    """Image [n, 3, s, s] -> scalars [n, concepts] -> tokens [n, concepts, token_size]."""

    def __init__(self, d=128, concepts=20, token_size=16, resolution=64):
        super().__init__()

        def halve(channels):
            return nn.Conv2d(channels, d, 4, stride=2, padding=1)

        self.encoder = nn.Sequential(
            halve(3), nn.BatchNorm2d(d), nn.ReLU(),
            halve(d), nn.BatchNorm2d(d), nn.ReLU(),
            halve(d), nn.BatchNorm2d(d),
            halve(d), nn.BatchNorm2d(d), nn.ReLU(),
            EncoderResidual(d), nn.BatchNorm2d(d), nn.ReLU(), EncoderResidual(d),
            nn.Flatten(), nn.Linear(d * (resolution // 16) ** 2, concepts),
        )  # fmt: skip
        self.net = nn.ModuleList(
            nn.Sequential(nn.Linear(1, 64), nn.ELU(), nn.Linear(64, 128), nn.ELU(), nn.Linear(128, token_size))
            for _ in range(concepts)
        )

    def scalars(self, image):
        return self.encoder(image)

    def tokens(self, scalars):
        return torch.stack([mlp(scalars[:, i : i + 1]) for i, mlp in enumerate(self.net)], 1)

    def forward(self, image):
        return self.tokens(self.scalars(image))


# ---------------------------------------------------------------- denoising U-Net


def timestep_embedding(t, size):
    half = size // 2
    frequency = torch.exp(torch.arange(half, dtype=torch.float32) * (-math.log(10000.0) / half))
    angle = t[:, None].float() * frequency[None]
    return torch.cat([angle.cos(), angle.sin()], -1)


class Attention(nn.Module):
    def __init__(self, channels, context_size, heads):
        super().__init__()
        self.heads, self.scale = heads, (channels // heads) ** -0.5
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context_size, channels, bias=False)
        self.to_v = nn.Linear(context_size, channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels), nn.Dropout(0.0))

    def split_heads(self, x):
        n, length, channels = x.shape
        x = x.reshape(n, length, self.heads, channels // self.heads)
        return x.permute(0, 2, 1, 3).reshape(n * self.heads, length, channels // self.heads)

    def forward(self, x, context=None):
        n, length, channels = x.shape
        context = x if context is None else context
        # The queries are scaled, and not the scores as published: the same, but for one pass over less.
        q, k, v = (self.split_heads(z) for z in (self.to_q(x) * self.scale, self.to_k(context), self.to_v(context)))
        weights = torch.softmax(torch.bmm(q, k.transpose(1, 2)), -1)
        out = torch.bmm(weights, v).reshape(n, self.heads, length, channels // self.heads)
        return self.to_out(out.permute(0, 2, 1, 3).reshape(n, length, channels))


class GEGLU(nn.Module):
    def __init__(self, channels, inner):
        super().__init__()
        self.proj = nn.Linear(channels, 2 * inner)

    def forward(self, x):
        value, gate = self.proj(x).chunk(2, -1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.net = nn.Sequential(GEGLU(channels, 4 * channels), nn.Dropout(0.0), nn.Linear(4 * channels, channels))

    def forward(self, x):
        return self.net(x)


class TransformerBlock(nn.Module):
    def __init__(self, channels, token_size, heads):
        super().__init__()
        self.attn1 = Attention(channels, channels, heads)
        self.ff = FeedForward(channels)
        self.attn2 = Attention(channels, token_size, heads)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(channels) for _ in range(3))

    def forward(self, x, tokens):
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), tokens)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    def __init__(self, channels, token_size, heads):
        super().__init__()
        self.norm = group_norm(channels, 1e-6)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(channels, token_size, heads)])
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x, tokens):
        h = self.proj_in(self.norm(x))
        h = h.flatten(2).transpose(1, 2)
        h = self.transformer_blocks[0](h, tokens)
        h = h.transpose(1, 2).reshape(x.shape)
        return x + self.proj_out(h)


class ResBlock(nn.Module):
    """Residual block with scale and shift from the timestep; `resample` halves or doubles the image inside."""

    def __init__(self, channels, embedding, out_channels, resample=None):
        super().__init__()
        self.resample = {
            None: nn.Identity(),
            "down": nn.AvgPool2d(2),
            "up": nn.Upsample(scale_factor=2, mode="nearest"),
        }[resample]
        self.in_layers = nn.Sequential(
            group_norm(channels), nn.SiLU(), nn.Conv2d(channels, out_channels, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * out_channels))
        self.out_layers = nn.Sequential(
            group_norm(out_channels), nn.SiLU(), nn.Dropout(0.0), nn.Conv2d(out_channels, out_channels, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x, embedding):
        h = self.in_layers[1](self.in_layers[0](x))
        h, x = self.resample(h), self.resample(x)
        h = self.in_layers[2](h)
        scale, shift = self.emb_layers(embedding)[:, :, None, None].chunk(2, 1)
        h = self.out_layers[0](h) * (1 + scale) + shift
        return self.skip_connection(x) + self.out_layers[1:](h)


class Stage(nn.ModuleList):
    """Modules in a row, each given what it asks for."""

    def forward(self, h, embedding, tokens):
        for module in self:
            if isinstance(module, ResBlock):
                h = module(h, embedding)
            elif isinstance(module, SpatialTransformer):
                h = module(h, tokens)
            else:
                h = module(h)
        return h


class UNet(nn.Module):
    def __init__(self, channels=3, model_channels=64, channel_mult=(1, 2, 4, 4), num_res_blocks=2,
                 attention_resolutions=(1, 2, 4), num_heads=8, token_size=16):  # fmt: skip
        super().__init__()
        self.model_channels = model_channels
        embedding = 4 * model_channels
        self.time_embed = nn.Sequential(
            nn.Linear(model_channels, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        width, factor = model_channels, 1

        def block(into, resample=None):
            return ResBlock(width, embedding, into, resample)

        def attention():
            return [SpatialTransformer(width, token_size, num_heads)] if factor in attention_resolutions else []

        self.input_blocks = nn.ModuleList([Stage([nn.Conv2d(channels, model_channels, 3, padding=1)])])
        skips = [width]
        for level, mult in enumerate(channel_mult):
            for _ in range(num_res_blocks):
                first = block(mult * model_channels)
                width = mult * model_channels
                self.input_blocks.append(Stage([first, *attention()]))
                skips.append(width)
            if level < len(channel_mult) - 1:
                self.input_blocks.append(Stage([block(width, "down")]))
                skips.append(width)
                factor *= 2

        self.middle_block = Stage(
            [block(width), SpatialTransformer(width, token_size, num_heads), block(width)]
        )  # attention at the bottom whatever the resolution

        self.output_blocks = nn.ModuleList()
        for level, mult in reversed(list(enumerate(channel_mult))):
            for i in range(num_res_blocks + 1):
                width += skips.pop()
                first = block(mult * model_channels)
                width = mult * model_channels
                stage = [first, *attention()]
                if level and i == num_res_blocks:
                    stage.append(block(width, "up"))
                    factor //= 2
                self.output_blocks.append(Stage(stage))
        self.out = nn.Sequential(group_norm(width), nn.SiLU(), nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, x, t, tokens):
        embedding = self.time_embed(timestep_embedding(t, self.model_channels))
        skips, h = [], x
        for stage in self.input_blocks:
            h = stage(h, embedding, tokens)
            skips.append(h)
        h = self.middle_block(h, embedding, tokens)
        for stage in self.output_blocks:
            h = stage(torch.cat([h, skips.pop()], 1), embedding, tokens)
        return self.out(h)


# ---------------------------------------------------------------- first-stage autoencoder


class ResnetBlock(nn.Module):
    def __init__(self, channels, out_channels):
        super().__init__()
        self.norm1 = group_norm(channels, 1e-6)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.norm2 = group_norm(out_channels, 1e-6)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        if channels != out_channels:
            self.nin_shortcut = nn.Conv2d(channels, out_channels, 1)

    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class AttnBlock(nn.Module):
    """One head over all pixels."""

    def __init__(self, channels):
        super().__init__()
        self.norm = group_norm(channels, 1e-6)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x):
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2) for layer in (self.q, self.k, self.v))
        weights = torch.softmax(torch.bmm(q.transpose(1, 2), k) * x.shape[1] ** -0.5, -1)
        return x + self.proj_out(torch.bmm(v, weights.transpose(1, 2)).reshape(x.shape))


class Middle(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.block_1 = ResnetBlock(channels, channels)
        self.attn_1 = AttnBlock(channels)
        self.block_2 = ResnetBlock(channels, channels)

    def forward(self, x):
        return self.block_2(self.attn_1(self.block_1(x)))


class Resample(nn.Module):
    """Halves (padding on the right and the bottom only) or doubles the image, then or while convolving."""

    def __init__(self, channels, up):
        super().__init__()
        self.up = up
        self.conv = nn.Conv2d(channels, channels, 3, **(dict(padding=1) if up else dict(stride=2)))

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest") if self.up else F.pad(x, (0, 1, 0, 1)))


class Level(nn.Module):
    """The blocks of one resolution and the change to the next."""

    def __init__(self, channels, out_channels, blocks, resample=None):
        super().__init__()
        self.block = nn.ModuleList(
            ResnetBlock(channels if i == 0 else out_channels, out_channels) for i in range(blocks)
        )
        if resample:
            setattr(self, resample, Resample(out_channels, up=resample == "upsample"))
        self.resample = resample

    def forward(self, h):
        for block in self.block:
            h = block(h)
        return getattr(self, self.resample)(h) if self.resample else h


class Encoder(nn.Module):
    def __init__(self, ch=32, ch_mult=(1, 2, 4), num_res_blocks=2, z_channels=3):
        super().__init__()
        widths, last = [ch, *(ch * m for m in ch_mult)], len(ch_mult) - 1
        self.conv_in = nn.Conv2d(3, ch, 3, padding=1)
        self.down = nn.ModuleList(
            Level(widths[i], widths[i + 1], num_res_blocks, "downsample" if i < last else None)
            for i in range(len(ch_mult))
        )
        self.mid = Middle(widths[-1])
        self.norm_out = group_norm(widths[-1], 1e-6)
        self.conv_out = nn.Conv2d(widths[-1], z_channels, 3, padding=1)

    def forward(self, x):
        h = self.conv_in(x)
        for level in self.down:
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(self.mid(h))))


class Decoder(nn.Module):
    def __init__(self, ch=32, ch_mult=(1, 2, 4), num_res_blocks=2, z_channels=3):
        super().__init__()
        widths = [ch * m for m in ch_mult]
        self.conv_in = nn.Conv2d(z_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1])
        self.up = nn.ModuleList(
            Level(widths[min(i + 1, len(widths) - 1)], widths[i], num_res_blocks + 1, "upsample" if i else None)
            for i in range(len(widths))
        )
        self.norm_out = group_norm(ch * ch_mult[0], 1e-6)
        self.conv_out = nn.Conv2d(ch * ch_mult[0], 3, 3, padding=1)

    def forward(self, z):
        h = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(h)))


class Quantizer(nn.Module):
    """Nearest codebook entry, straight-through; beta weighs the codebook term, as published ('legacy')."""

    def __init__(self, entries=2048, size=3, beta=0.25):
        super().__init__()
        self.beta = beta
        self.embedding = nn.Embedding(entries, size)
        nn.init.uniform_(self.embedding.weight, -1.0 / entries, 1.0 / entries)

    def forward(self, z):
        flat = z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])
        book = self.embedding.weight
        distance = flat.pow(2).sum(1, keepdim=True) + book.pow(2).sum(1) - 2 * flat @ book.t()
        index = distance.argmin(1)
        n, c, h, w = z.shape
        q = self.embedding(index).reshape(n, h, w, c).permute(0, 3, 1, 2)
        loss = F.mse_loss(q.detach(), z) + self.beta * F.mse_loss(q, z.detach())
        return z + (q - z).detach(), loss, index.reshape(n, h, w)


class VQModel(nn.Module):
    def __init__(self, ch=32, ch_mult=(1, 2, 4), num_res_blocks=2, z_channels=3, embed_dim=3, n_embed=2048):
        super().__init__()
        shape = dict(ch=ch, ch_mult=ch_mult, num_res_blocks=num_res_blocks, z_channels=z_channels)
        self.encoder, self.decoder = Encoder(**shape), Decoder(**shape)
        self.quantize = Quantizer(n_embed, embed_dim)
        self.quant_conv = nn.Conv2d(z_channels, embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(embed_dim, z_channels, 1)

    def encode(self, image):
        return self.quant_conv(self.encoder(image))

    def decode(self, latent):
        return self.decoder(self.post_quant_conv(latent))

    def forward(self, image):
        latent, loss, _ = self.quantize(self.encode(image))
        return self.decode(latent), loss


class PatchDiscriminator(nn.Module):
    """PatchGAN. Convolutions in front of a BatchNorm carry no bias."""

    def __init__(self, ndf=64, n_layers=3):
        super().__init__()
        layers, width = [nn.Conv2d(3, ndf, 4, 2, 1), nn.LeakyReLU(0.2)], ndf
        for i in range(1, n_layers + 1):
            wider = ndf * min(2**i, 8)
            layers += [
                nn.Conv2d(width, wider, 4, 2 if i < n_layers else 1, 1, bias=False),
                nn.BatchNorm2d(wider),
                nn.LeakyReLU(0.2),
            ]
            width = wider
        self.main = nn.Sequential(*layers, nn.Conv2d(width, 1, 4, 1, 1))

    def forward(self, x):
        return self.main(x)
