"""A small convolutional autoencoder with a KL term, for images of about 32×32."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.errors import BenchError
from bench.generators.base import Code, GeneratorModule, Inputs

REDUCTION = 4  # of height and width, in the code


class ConvAutoencoder(GeneratorModule):
    """Variational autoencoder (Kingma and Welling 2014, arXiv 1312.6114), code ``(Z, H/4, W/4)``.

    Trained by ``mean((x − Dec(z))²) + β·KL`` with ``z = μ + s·ν`` and the KL divergence to
    N(0, I) averaged over the code's dimensions.  :meth:`encode` gives ``μ``.

    Args:
        width: channels at half resolution; twice as many at a quarter.
        latent: ``Z``, channels of the code.
        size: image height and width; multiples of 4.
        low: the value of a black pixel in each channel, ``(3,)``.
        high: the value of a white one, ``(3,)``.
        kl_weight: ``β``; small, so that the code is smooth rather than small.
    """

    differentiable = True

    def __init__(
        self,
        width: int,
        latent: int,
        *,
        size: tuple[int, int],
        low: Tensor,
        high: Tensor,
        kl_weight: float = 1e-3,
    ) -> None:
        super().__init__()
        if any(side % REDUCTION for side in size):
            raise BenchError(
                f"an autoencoder for images of {size[0]}×{size[1]} pixels",
                f"height and width must be multiples of {REDUCTION}",
            )
        self.latent, self.kl_weight = latent, kl_weight
        wide = 2 * width
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 4, stride=2, padding=1),
            _Residual(width),
            nn.Conv2d(width, wide, 4, stride=2, padding=1),
            _Residual(wide),
            nn.Conv2d(wide, 2 * latent, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(latent, wide, 3, padding=1),
            _Residual(wide),
            _upsampled(wide, width),
            _Residual(width),
            _upsampled(width, 3),
        )
        self.register_buffer("low", low.view(1, 3, 1, 1).clone())
        self.register_buffer("high", high.view(1, 3, 1, 1).clone())
        code = (latent, size[0] // REDUCTION, size[1] // REDUCTION)
        self.register_buffer("scale", torch.ones(code))
        self.to(memory_format=torch.channels_last)

    def encode(self, inputs: Inputs) -> Code:
        mean, _ = self._moments(inputs["image"])
        return Code(mean.float())

    def decode(self, code: Code) -> dict[str, Tensor]:
        image: Tensor = self.decoder(code.values).float()
        # a colour that no pixel can have is none of a picture
        return {"image": torch.clamp(image, self.low, self.high)}  # type: ignore[arg-type]

    def objective(self, inputs: Inputs) -> Tensor:
        image = inputs["image"]
        mean, log_variance = self._moments(image)
        mean, log_variance = mean.float(), log_variance.float().clamp(-12.0, 4.0)
        code = mean
        if self.training:
            code = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        error = F.mse_loss(self.decoder(code).float(), image, reduction="none").mean(dim=(1, 2, 3))
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1.0 - log_variance)
        return error + self.kl_weight * divergence.mean(dim=(1, 2, 3))

    def _moments(self, image: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.encoder(image).chunk(2, dim=1)
        return mean, log_variance


class _Residual(nn.Module):
    """Two 3×3 convolutions on a normalised input, added to it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, value: Tensor) -> Tensor:
        return value + self.layers(value)  # type: ignore[no-any-return]


def _upsampled(width: int, out: int) -> nn.Module:
    """Return a convolution to twice the resolution (sub-pixel; Shi et al. 2016)."""
    return nn.Sequential(nn.Conv2d(width, 4 * out, 3, padding=1), nn.PixelShuffle(2))
