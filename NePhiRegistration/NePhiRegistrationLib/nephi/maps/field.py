"""One neural deformation field: a gated sinusoidal network from a point and its latent code to a displacement."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Architecture:
    """The sizes of a NePhi model; the paper has 128 frequencies, width 128, 32 local and 32 global channels.

    Attributes:
        dim: 2 or 3.
        frequencies: rows of B, the Fourier frequencies.
        hidden: width of every layer.
        channels: of the local code.
        shared: of the global code; may be 0.
        omega: the SIREN's frequency factor; the initial bounds follow it.
        frequency_scale: standard deviation of B, periods per frame unit.
        readout: standard deviation of the linear term's initial weights, times sqrt(channels).
    """

    dim: int
    frequencies: int
    hidden: int
    channels: int
    shared: int
    omega: float = 30.0
    frequency_scale: float = 1.0
    readout: float = 0.3

    def check(self, arrays: Mapping[str, Tensor], dim: int) -> None:
        """Refuse these sizes if arrays in a file have others, before memory is taken for them.

        Args:
            arrays: of the code and the fields, by name.
            dim: of what the fields are for.

        Raises:
            ValueError: they do not agree.
            KeyError: an array is missing.
        """
        expected = {"forward_field.frequencies": (dim, self.frequencies), "code.shared": (self.shared,),
                    "forward_field.gate": (self.hidden, self.hidden)}
        for name, shape in expected.items():
            if self.dim != dim or tuple(arrays[name].shape) != shape:
                raise ValueError(f"{name} of shape {tuple(arrays[name].shape)} where {shape} is meant")

    def new_fields(self, generator: torch.Generator) -> tuple[Field, Field]:
        """f1 and f2 with initial weights."""
        forward, inverse = (Field(self, generator) for _ in range(2))
        with torch.no_grad():  # small opposite displacements are each other's inverse
            inverse.readout.copy_(-forward.readout)
        return forward, inverse


class Field(nn.Module):
    """u(x) = f(x, z): the paper's modulated SIREN (section 3.2), with its Jacobian in closed form.

    A synthesis network reads Fourier features of x; each of its two sinusoidal layers is multiplied by a gate; the
    gates come from a modulation network that reads [z, Fourier(x)], with a skip from that input to its second
    layer. All layers that read [z, Fourier(x)] share one matrix product, and the displacement also has a linear
    term in z (``readout``), through which the code is learned from the first step.

    The Fourier features are cos and sin of 2 pi B x, B ~ N(0, frequency_scale^2). omega is 1 in the first synthesis
    layer and ``omega`` elsewhere. The last linear layer starts at zero.

    Args:
        sizes: of the field, and the scales of its initial weights.
        generator: of the initial weights.
    """

    def __init__(self, sizes: Architecture, generator: torch.Generator) -> None:
        super().__init__()
        self.hidden, self.omega = hidden, omega = sizes.hidden, sizes.omega

        def uniform(rows: int, columns: int, bound: float) -> Tensor:
            return (2 * torch.rand(rows, columns, generator=generator) - 1) * bound

        def normal(rows: int, columns: int) -> Tensor:
            return torch.randn(rows, columns, generator=generator)

        features = 2 * sizes.frequencies
        codes = sizes.shared + sizes.channels
        inputs = codes + features
        synthesis = torch.cat([torch.zeros(codes, hidden), uniform(features, hidden, 1 / features)])
        modulation = [uniform(inputs, hidden, siren_bound(n, omega)) for n in (inputs, inputs + hidden)]
        self.register_buffer("frequencies", sizes.frequency_scale * normal(sizes.dim, sizes.frequencies))
        self.inputs = nn.Parameter(torch.cat([synthesis, *modulation], dim=1))
        self.inputs_bias = nn.Parameter(torch.zeros(3 * hidden))
        self.gate = nn.Parameter(uniform(hidden, hidden, siren_bound(inputs + hidden, omega)))
        self.synthesis = nn.Parameter(uniform(hidden, hidden, siren_bound(hidden, omega)))
        self.synthesis_bias = nn.Parameter(torch.zeros(hidden))
        self.output = nn.Parameter(torch.zeros(hidden, sizes.dim))
        self.output_bias = nn.Parameter(torch.zeros(sizes.dim))
        scale = sizes.readout / math.sqrt(max(1, sizes.channels))
        self.readout = nn.Parameter(scale * normal(sizes.channels, sizes.dim))

    def forward(self, points: Tensor, local: Tensor, shared: Tensor) -> Tensor:
        """Displacements (n, d), frame units.

        Args:
            points: (n, d) frame coordinates.
            local: (n, C) local codes there.
            shared: (G,) global code.
        """
        phase = 2 * math.pi * (points @ self.frequencies)
        inputs = torch.cat([local, phase.sin(), phase.cos()], dim=-1)
        synthesis, gate1, gate2 = self._first_layer(inputs, shared)
        gate1 = torch.sin(self.omega * gate1)
        gate2 = torch.sin(self.omega * torch.addmm(gate2, gate1, self.gate))
        hidden = synthesis.sin() * gate1
        hidden = torch.sin(self.omega * torch.addmm(self.synthesis_bias, hidden, self.synthesis)) * gate2
        return torch.addmm(self.output_bias, hidden, self.output) + local @ self.readout

    def with_jacobian(self, points: Tensor, local: Tensor, local_slopes: Tensor, shared: Tensor
                      ) -> tuple[Tensor, Tensor]:
        """Displacements (n, d) and their derivatives (n, d, d), [n, a, i] = du_i / dx_a.

        The tangents of the d axes are carried along by hand (forward mode).

        Args:
            local_slopes: (n, d, C), [n, a, c] = dz_c / dx_a.
        """
        phase = 2 * math.pi * (points @ self.frequencies)
        sin, cos = phase.sin(), phase.cos()
        rate = 2 * math.pi * self.frequencies
        inputs = torch.cat([local, sin, cos], dim=-1)
        slopes = torch.cat([local_slopes, cos[:, None] * rate, -sin[:, None] * rate], dim=-1)
        synthesis, gate1, gate2 = self._first_layer(inputs, shared)
        synthesis_s, gate1_s, gate2_s = (slopes @ self.inputs[len(shared):]).split(self.hidden, dim=-1)

        gate1, gate1_s = _sine(gate1, gate1_s, self.omega)
        gate2, gate2_s = _sine(gate2 + gate1 @ self.gate, gate2_s + gate1_s @ self.gate, self.omega)
        hidden, hidden_s = _times(*_sine(synthesis, synthesis_s, 1.0), gate1, gate1_s)
        hidden, hidden_s = _sine(hidden @ self.synthesis + self.synthesis_bias, hidden_s @ self.synthesis, self.omega)
        hidden, hidden_s = _times(hidden, hidden_s, gate2, gate2_s)
        displacement = hidden @ self.output + self.output_bias + local @ self.readout
        return displacement, hidden_s @ self.output + local_slopes @ self.readout

    def _first_layer(self, inputs: Tensor, shared: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the first synthesis layer and both gates take from [z, Fourier(x)]: three (n, hidden)."""
        bias = self.inputs_bias + shared @ self.inputs[:len(shared)]
        return torch.addmm(bias, inputs, self.inputs[len(shared):]).split(self.hidden, dim=-1)


def siren_bound(inputs: int, omega: float) -> float:
    """The uniform bound that keeps a sinusoidal layer's variance (Sitzmann et al. 2020, theorem 1.8)."""
    return math.sqrt(6 / inputs) / omega


def _sine(value: Tensor, slopes: Tensor, omega: float) -> tuple[Tensor, Tensor]:
    """sin(omega v) and its tangents, from v (n, h) and its tangents (n, d, h)."""
    phase = omega * value
    return phase.sin(), (omega * phase.cos())[:, None] * slopes


def _times(a: Tensor, a_slopes: Tensor, b: Tensor, b_slopes: Tensor) -> tuple[Tensor, Tensor]:
    """The product of two values and its tangents."""
    return a * b, a_slopes * b[:, None] + a[:, None] * b_slopes
