"""The encoder of learned registration: from a pair of images to the latent code of its deformation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..geometry import Grid
from ..images.interpolation import stretched
from ..maps.spline import EXTRA

SLOPE = 0.2  # of the LeakyReLU
HEAD = 256  # width of the global code's hidden layer
START = 0.03  # scale of the last layers' weights: training starts near the identity
NORMS = ("batch", "group")
GROUPS = 8  # of channels that are normalised together
FLAT = 1e-3  # squared intensity below which there is no force
FORCE = 4.0  # brings forces to the size of intensities
BORDER = 2  # nodes that repeat the border on each side of the feature map


@dataclass(frozen=True)
class EncoderSizes:
    """The sizes of an encoder; the paper has 175^3 images, six blocks and the local code from the third.

    Attributes:
        dim: 2 or 3.
        size: voxels along each side of the cube that both images are resampled to; a multiple of 2^local_block.
        widths: channels of the blocks, each of which halves the grid.
        local_block: the block whose grid carries the local code, counted from 1.
        channels: of the local code.
        shared: of the global code; may be 0.
        depth: residual blocks on the local code's grid, where both images and all scales have come together.
        norm: "batch", as in the paper, with running statistics at inference; or "group", with each pair's own
            statistics, for small batches of dissimilar pairs.
        cues: whether every block also reads the images and the force between them, at its own resolution.
    """

    dim: int
    size: int
    widths: tuple[int, ...]
    local_block: int
    channels: int
    shared: int
    depth: int = 0
    norm: str = "batch"
    cues: bool = False

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise ValueError(f"The norm is {self.norm!r}; it can be {' or '.join(NORMS)}.")
        if not 1 <= self.local_block <= len(self.widths):
            raise ValueError(f"The local code is read from block {self.local_block} of {len(self.widths)}.")
        if self.size % self.stride or self.size < 2 * self.stride:
            raise ValueError(f"The size {self.size} is not a multiple of {self.stride} of at least {2 * self.stride}.")

    @property
    def stride(self) -> int:
        """Voxels along the side of a latent cell."""
        return 2**self.local_block

    @property
    def coarsest(self) -> int:
        """Voxels along the side of the last block's grid."""
        return -(-self.size // 2 ** len(self.widths))

    @property
    def grid(self) -> Grid:
        """Where the encoder's voxels are, in frame coordinates: n along each side of [-1, 1]^d."""
        return Grid.aligned((self.size,) * self.dim, 2 / self.size, (1 / self.size - 1,) * self.dim)

    @property
    def latent_grid(self) -> Grid:
        """The nodes of the local code, half a cell beyond the cube: coefficients lie on the features' voxels."""
        cells = self.size // self.stride
        return Grid.aligned((cells + 2,) * self.dim, 2 / cells, (-1 - 1 / cells,) * self.dim)


class Encoder(nn.Module):
    """z = E(fixed, moving): stride-2 blocks, a local code from one of them, a global code from the last (paper, 3.2).

    The published local code sees only the blocks before its own. Here the deeper blocks are added to it from the
    top down, so that large displacements can be seen.
    """

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__()
        self.sizes = sizes
        widths = sizes.widths
        extra = 2 + sizes.dim if sizes.cues else 0
        self.blocks = nn.ModuleList(_block(sizes, before + extra, after, 2)
                                    for before, after in zip((0 if sizes.cues else 2, *widths), widths))
        middle = widths[sizes.local_block - 1]
        self.lateral = nn.ModuleList(_conv(sizes.dim, width, middle, 1) for width in widths[sizes.local_block:])
        merged = max(middle, sizes.channels)
        self.merge = _block(sizes, middle, merged, 1)
        self.depth = nn.ModuleList(_block(sizes, merged, merged, 1) for _ in range(sizes.depth))
        self.local = _conv(sizes.dim, merged, sizes.channels, 1)
        self.whole = nn.Sequential(nn.Flatten(), nn.Linear(widths[-1] * sizes.coarsest**sizes.dim, HEAD),
                                   nn.LeakyReLU(SLOPE))
        self.shared = nn.Linear(HEAD, sizes.shared)
        self.linear = nn.Linear(HEAD, sizes.channels * (sizes.dim + 1))
        self.register_buffer("nodes", _nodes(sizes.latent_grid), persistent=False)
        with torch.no_grad():
            for last in (self.local, self.shared, self.linear):
                last.weight.mul_(START)
                last.bias.zero_()

    def forward(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """The codes of B pairs.

        Args:
            pairs: (B, 2, n, ..., n) fixed and moving intensities in [0, 1] on ``sizes.grid``.

        Returns:
            (B, k, j, i, C) B-spline coefficients of the local codes over ``sizes.latent_grid`` and (B, G) global codes.
        """
        images, features = pairs, [pairs[:, :0] if self.sizes.cues else 2 * pairs - 1]
        for block in self.blocks:
            read = features[-1]
            if self.sizes.cues:
                read, images = torch.cat([read, cues(images)], dim=1), _halved(images)
            features.append(block(read))
        first = self.sizes.local_block
        context = torch.zeros_like(features[first])
        for lateral, deeper in zip(self.lateral, features[first + 1:]):
            context = context + stretched(lateral(deeper), context.shape[2:])
        merged = self.merge(features[first] + context)
        for block in self.depth:
            merged = merged + block(merged)
        local = F.pad(self.local(merged), (BORDER,) * 2 * self.sizes.dim, mode="replicate").movedim(1, -1)
        whole = self.whole(features[-1])
        linear = self.linear(whole).view(len(pairs), self.sizes.dim + 1, self.sizes.channels)
        return local + torch.tensordot(linear, self.nodes, dims=([1], [-1])).movedim(1, -1), self.shared(whole)


def cues(pairs: Tensor) -> Tensor:
    """The pair itself and the demons' force between its images, the optical flow of one step (Thirion 1998).

    The force (m - f) g / (|g|^2 + (m - f)^2), where g is the mean gradient of both images, lies along the displacement
    wherever that is at most about a voxel and both images have one contrast.

    Args:
        pairs: (B, 2, n, ..., n) fixed and moving intensities in [0, 1].

    Returns:
        (B, 2 + d, n, ..., n): the intensities in [-1, 1], then the force in voxels, along the axes in array order.
    """
    fixed, moving = pairs[:, :1], pairs[:, 1:]
    if pairs.shape[-1] < 2:
        force = pairs.new_zeros(len(pairs), pairs.dim() - 2, *pairs.shape[2:])
    else:
        gradient = torch.cat(torch.gradient((fixed + moving) / 2, dim=tuple(range(2, pairs.dim()))), dim=1)
        difference = moving - fixed
        force = difference * gradient / (gradient.pow(2).sum(1, keepdim=True) + difference.pow(2) + FLAT)
    return torch.cat([2 * pairs - 1, FORCE * force], dim=1)


def _halved(pairs: Tensor) -> Tensor:
    """Images on the grid of the next block: averages over two voxels along each axis."""
    pool = F.adaptive_avg_pool3d if pairs.dim() == 5 else F.adaptive_avg_pool2d
    return pool(pairs, tuple(-(-n // 2) for n in pairs.shape[2:]))


def _nodes(grid: Grid) -> Tensor:
    """(k, j, i, d + 1): 1 and the places of a spline's coefficients, which make a linear spline if linear in them."""
    axes = [low + (torch.arange(n + EXTRA) - 1) * grid.spacing[0] for low, n in zip(grid.origin, grid.size)]
    points = torch.stack(torch.meshgrid(*reversed(axes), indexing="ij")[::-1], dim=-1)
    return torch.cat([torch.ones_like(points[..., :1]), points], dim=-1)


def _conv(dim: int, before: int, after: int, kernel: int, stride: int = 1, bias: bool = True) -> nn.Module:
    kind = nn.Conv3d if dim == 3 else nn.Conv2d
    return kind(before, after, kernel, stride, kernel // 2, bias=bias)


def _block(sizes: EncoderSizes, before: int, after: int, stride: int) -> nn.Module:
    if sizes.norm == "group":
        norm: nn.Module = nn.GroupNorm(math.gcd(GROUPS, after), after)
    else:
        norm = (nn.BatchNorm3d if sizes.dim == 3 else nn.BatchNorm2d)(after)
    return nn.Sequential(_conv(sizes.dim, before, after, 3, stride, bias=False), norm, nn.LeakyReLU(SLOPE))
