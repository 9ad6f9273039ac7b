"""The score model: a network around the best linear denoiser, which the preconditioning of EDM is made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from p2d.errors import UNREADABLE, UserError
from p2d.fields import Grid
from p2d.places import place
from p2d.score import noise
from p2d.score.spectrum import Spectrum
from p2d.score.unet import EMBEDDING, UNet, is_marked


class ScoreModel(nn.Module):
    """Score of the noised density at every signal level it was trained on; it also denoises.

    Example:
        import torch, p2d
        model = p2d.ScoreModel.load("runs/score/waves")      # what p2d train-score has made
        x = torch.randn(2, 2, 64, 64)                        # noised states in training coordinates
        score = model.score(x, alpha=0.8)                    # grad log p, shaped as x
        clean = model.denoise(x, alpha=0.8)                  # E[clean state | x]

    States are in training coordinates of C species, [B, C, H, W] float32. The denoiser is

        E[x | y] = mean + L(y, sigma) + spread(sigma) F(y, L, sigma),   y = x + sigma n,

    with the best linear estimate L and its error's spread in the place of EDM's c_skip and c_out (Karras et al. 2022,
    Table 1), which are L for cells that do not know each other. So the network F has inputs and a target of unit
    variance at every level, and is left with what is not Gaussian. Outside a mask there is nothing to be learnt: states
    are shown at their means there, and denoised to them.

    Args:
        channels: of the U-Net, finest level first.
        alpha: the one signal level, or the range, that it is trained for.
        spectrum: of the training data, in training coordinates; independent cells of unit variance when None.
        sampled: whether it is trained for all noisier levels too, which sampling starts from.
        grid: whose edges it knows; with a mask it is for that grid alone, otherwise for those of any size, but that an
            axis of length 1 stays one. Periodic in two dimensions when None.
    """

    origin = "not loaded from a checkpoint"  # dataset of one that is
    augment = True  # whether it was shown images of the snapshots, if it was loaded from a checkpoint

    def __init__(
        self,
        channels: tuple[int, ...],
        alpha: tuple[float, ...],
        spectrum: Spectrum | None = None,
        sampled: bool = False,
        grid: Grid | None = None,
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.sampled = sampled
        self.downsampling = 2 ** len(channels)
        self.grid = grid or Grid((self.downsampling, self.downsampling))
        self.spectrum = spectrum or Spectrum.white(torch.zeros(2), torch.ones(2), self.grid.edges)
        self.species = len(self.spectrum.mean)
        self.net = UNet(channels, 2 * self.species + is_marked(self.grid), self.species, self.grid)
        self.mask: Tensor | None
        mask = None if self.grid.mask is None else torch.from_numpy(self.grid.mask.cells)
        self.register_buffer("mask", mask, persistent=False)
        self.doubt = nn.Linear(EMBEDDING, 1)
        nn.init.zeros_(self.doubt.weight)
        nn.init.zeros_(self.doubt.bias)

    def raw(
        self,
        y: Tensor,
        sigma: Tensor,
        precision: torch.dtype = torch.float32,
        network: Callable[..., Tensor] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Network output F at y = x + sigma n, the linear estimate of x, and the spread of its error, [B, C, 1, 1].

        E[x | y] = linear + spread F.

        Args:
            y: [B, C, H, W].
            sigma: [B].
            precision: of the network's convolutions; the output is of y's own.
            network: in the place of `net`, such as a compiled form of it.
        """
        y = self.filled(y)
        estimate, spread = self.spectrum.estimate(y, sigma)
        variance = self.spectrum.variance(y.shape[-2:]).view(1, -1, 1, 1)
        mean = self.spectrum.mean.view(1, -1, 1, 1)
        known = (variance - spread**2).clamp(min=1e-6 * variance)  # of the linear estimate
        total = (variance + sigma.view(-1, 1, 1, 1) ** 2).sqrt()
        fields = torch.cat([(y - mean) / total, estimate / known.sqrt(), *self._marks(y)], dim=1)
        with torch.autocast(y.device.type, precision, enabled=precision != torch.float32):
            output = (self.net if network is None else network)(fields, sigma.log() / 4)
        return output.to(y.dtype), mean + estimate, spread

    def filled(self, x: Tensor) -> Tensor:
        """States with the mean of each species outside the mask, where there is one."""
        return x if self.mask is None else torch.where(self.mask, x, self.spectrum.mean.view(1, -1, 1, 1))

    def inside(self, entries: Tensor) -> Tensor:
        """The entries [B, C, H, W] of the cells inside the mask, [B, C, cells]; all as they are where there is none."""
        return entries if self.mask is None else entries[..., self.mask]

    def _marks(self, y: Tensor) -> list[Tensor]:
        """The field that tells which cells are known, if the network is shown one."""
        if not is_marked(self.grid):
            return []
        known = y.new_ones(y.shape[-2:]) if self.mask is None else self.mask.to(y)
        return [known.expand(len(y), 1, -1, -1)]

    def uncertainty(self, sigma: Tensor) -> Tensor:
        """Logarithm of the mean squared error that the network leaves of its target, as far as learnt, [B] of [B]."""
        return self.doubt(self.net.features(sigma.log() / 4)).squeeze(1)

    def posterior_mean(self, y: Tensor, sigma: Tensor) -> Tensor:
        """E[x | y] of clean states x seen as y = x + sigma n; y [B, C, H, W], sigma [B]."""
        output, linear, spread = self.raw(y, sigma)
        return self.filled(linear + spread * output)

    def denoise(self, x_a: Tensor, alpha: Tensor | float) -> Tensor:
        """E[x | x_a], the posterior mean of the clean state (Tweedie's formula), shaped as x_a."""
        level = self._level(x_a, alpha)
        return self.posterior_mean(x_a / level.view(-1, 1, 1, 1).sqrt(), noise.sigma_of(level))

    def eps(self, x_a: Tensor, alpha: Tensor | float) -> Tensor:
        """E[eps | x_a], the expected noise, shaped as x_a."""
        level = self._level(x_a, alpha)
        y = x_a / level.view(-1, 1, 1, 1).sqrt()
        return (y - self.denoise(x_a, level)) / noise.sigma_of(level).view(-1, 1, 1, 1)

    def score(self, x_a: Tensor, alpha: Tensor | float) -> Tensor:
        """grad log p of the density of noised states x_a = sqrt(alpha) x + sqrt(1 - alpha) eps.

        Args:
            x_a: [B, C, H, W] in training coordinates.
            alpha: signal level, a number or [B].

        Returns:
            Shaped as x_a; outside a mask it means nothing.

        Raises:
            UserError: a shape that the model cannot take, or an alpha outside (0, 1).
        """
        return noise.score_of_eps(self.eps(x_a, alpha), self._level(x_a, alpha))

    def _level(self, x_a: Tensor, alpha: Tensor | float) -> Tensor:
        if x_a.ndim != 4 or x_a.shape[1] != self.species:
            raise UserError(f"states have shape {list(x_a.shape)}; they must be [B, {self.species}, H, W]")
        self.refuse_shape((x_a.shape[-2], x_a.shape[-1]))
        level = torch.as_tensor(alpha, dtype=x_a.dtype, device=x_a.device).expand(len(x_a))
        if not ((level > 0) & (level < 1)).all():
            raise UserError(f"alpha = {alpha} is not a signal level: it must lie between 0 and 1, ends excluded")
        return level

    def refuse_shape(self, shape: tuple[int, int]) -> None:
        """Refuse rows and columns that the model is not for.

        Raises:
            UserError: says what would do.
        """
        rows, columns = self.grid.shape
        if self.mask is not None and shape != self.grid.shape:
            raise UserError(
                f"height = {shape[0]}, width = {shape[1]} does not fit the score model, whose grid has a mask: "
                f"it is for {rows} x {columns} alone"
            )
        for name, size, own in zip(("height", "width"), shape, self.grid.shape, strict=True):
            if (size == 1) != (own == 1):
                what = "one dimension: it must be 1" if own == 1 else "two dimensions: it must be above 1"
                raise UserError(f"{name} = {size} does not fit the score model, which is of {what}")

    def __repr__(self) -> str:
        levels = " to ".join(f"{alpha:g}" for alpha in self.alpha)
        weights = sum(parameter.numel() for parameter in self.parameters())
        return f"ScoreModel: {self.origin}, alpha {levels}, {weights:,} weights"

    @classmethod
    def load(cls, path: str | Path) -> ScoreModel:
        """The model of a checkpoint folder, on the CPU, in evaluation mode.

        Raises:
            UserError: no checkpoint there, one of another kind, or weights that its config does not describe.
        """
        from p2d.training.checkpoint import fitted, origin_text, read_checkpoint

        config, weights = read_checkpoint(place(path), "score")
        try:
            grid = Grid.from_dict(config["data"]["grid"])
            knots, power, mean = (weights[f"spectrum.{name}"] for name in ("wavenumber", "power", "mean"))
            spectrum = Spectrum(knots, power, mean, grid.edges)
            options = model_options(config["settings"])
            model = fitted(lambda: cls(**options, spectrum=spectrum, grid=grid), weights)
        except (RuntimeError, *UNREADABLE) as error:
            raise UserError(
                f"{path}/model.safetensors does not hold the score model that its config.json describes "
                f"(channels {config['settings'].get('channels')}); train the score again"
            ) from error
        model.origin, model.augment = origin_text(config), config["settings"].get("augment", True)
        return model.eval()


def model_options(settings: dict[str, Any]) -> dict[str, Any]:
    """Constructor arguments of the ScoreModel that these training settings make."""
    alpha = tuple(settings["alpha"])
    return {
        "channels": tuple(settings["channels"]),
        "alpha": alpha,
        "sampled": len(alpha) == 2 and settings["sampling"] > 0,
    }
