"""The published training steps and the DDIM sampler, on the networks of networks.py."""
import torch
import torch.nn.functional as F


def alphas_cumprod(steps=1000, start=0.0015, end=0.0155):
    """The "linear" schedule: linear in the square root of beta."""
    betas = torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0)


def norms_in_bf16():
    """Norms take the type of what autocast gives them, with parameters rounded to it: PyTorch 1.13 has no norm of bf16
    numbers with f32 parameters."""

    def group_norm(self, x):
        return F.group_norm(x, self.num_groups, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)

    def layer_norm(self, x):
        return F.layer_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)

    torch.nn.GroupNorm.forward = group_norm
    torch.nn.LayerNorm.forward = layer_norm


class EMA:
    """Moving average of a module's parameters, with the published warm-up of the decay."""

    def __init__(self, module, decay=0.9999):
        self.parameters = list(module.parameters())
        self.shadow = [p.detach().clone() for p in self.parameters]
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self):
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for shadow, parameter in zip(self.shadow, self.parameters):
            shadow.lerp_(parameter, 1 - decay)


class EncDiffTraining:
    """Stage two: concept encoder and U-Net together, on latents of the frozen autoencoder. AdamW, EMA, L1."""

    def __init__(self, encoder, unet, autoencoder, learning_rate=2.56e-4, latent_scale=1.0,
                 autocast=False):  # fmt: skip
        self.encoder, self.unet, self.autoencoder = encoder.train(), unet.train(), autoencoder.eval()
        parameters = [*encoder.parameters(), *unet.parameters()]
        self.optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.01)
        self.ema = EMA(unet)
        self.latent_scale, self.autocast = latent_scale, autocast
        self.alphas = alphas_cumprod().float()

    def step(self, images, t, noise):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.autocast):
            with torch.no_grad():
                latent = self.latent_scale * self.autoencoder.encode(images)
                alpha = self.alphas[t].view(-1, 1, 1, 1)
                noisy = alpha.sqrt() * latent + (1 - alpha).sqrt() * noise
            predicted = self.unet(noisy, t, self.encoder(images))
        loss = F.l1_loss(predicted.float(), noise)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.ema.update()
        return loss.detach()


class AutoencoderTraining:
    """Stage one without the perceptual term: L1, codebook and adversarial loss with adaptive weight, then the
    discriminator on a fresh reconstruction (hinge loss). Adam with beta (0.5, 0.9)."""

    def __init__(self, autoencoder, discriminator, learning_rate=4.5e-6, disc_weight=0.75):
        self.autoencoder, self.discriminator = autoencoder.train(), discriminator.train()
        adam = dict(lr=learning_rate, betas=(0.5, 0.9))
        self.generator_optimizer = torch.optim.Adam(autoencoder.parameters(), **adam)
        self.discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), **adam)
        self.disc_weight = disc_weight

    def adaptive_weight(self, reconstruction_loss, adversarial_loss):
        last = self.autoencoder.decoder.conv_out.weight
        ours, theirs = (
            torch.autograd.grad(loss, last, retain_graph=True)[0].norm()
            for loss in (reconstruction_loss, adversarial_loss)
        )
        return self.disc_weight * (ours / (theirs + 1e-4)).clamp(0, 1e4).detach()

    def step(self, images):
        self.discriminator.requires_grad_(False)
        reconstruction, codebook_loss = self.autoencoder(images)
        reconstruction_loss = F.l1_loss(reconstruction, images)
        adversarial_loss = -self.discriminator(reconstruction).mean()
        weight = self.adaptive_weight(reconstruction_loss, adversarial_loss)
        loss = reconstruction_loss + weight * adversarial_loss + codebook_loss
        self.generator_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.generator_optimizer.step()

        self.discriminator.requires_grad_(True)
        with torch.no_grad():
            reconstruction, _ = self.autoencoder(images)
        real, fake = self.discriminator(images), self.discriminator(reconstruction)
        disc_loss = 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        disc_loss.backward()
        self.discriminator_optimizer.step()
        return loss.detach(), disc_loss.detach()


@torch.no_grad()
def ddim(unet, x, tokens, steps=50):
    """Deterministic DDIM from noise x to a latent."""
    alphas = alphas_cumprod()
    times = torch.arange(0, len(alphas), len(alphas) // steps) + 1
    previous = torch.cat([alphas[:1], alphas[times[:-1]]])
    for k in reversed(range(len(times))):
        a, before = float(alphas[times[k]]), float(previous[k])
        e = unet(x, times[k].expand(len(x)), tokens)
        x = before**0.5 * (x - (1 - a) ** 0.5 * e) / a**0.5 + (1 - before) ** 0.5 * e
    return x
