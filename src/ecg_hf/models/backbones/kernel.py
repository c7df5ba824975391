"""The state space of an S4 layer, with two equivalent ways to run it over tokens."""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import initialization as init

from ecg_hf.models.backbones.base import Drawn
from ecg_hf.models.backbones.chunks import mix_chunks
from ecg_hf.models.backbones.dynamics import bilinear, hippo_legs, impulse_response
from ecg_hf.models.backbones.spectral import convolve

# Tokens per chunk: 32 and 50 were the fastest of 32, 50 and 64 at 300, 1250 and 2500 tokens on one CPU core.
CHUNK = 32


def _powers(state: Tensor) -> Tensor:
    """Stacks A^0 .. A^CHUNK to (D, state, CHUNK + 1, state), so that its product with C is one matrix product."""
    powers = state[:, None]
    while powers.shape[1] < CHUNK:
        powers = torch.cat((powers, powers[:, -1:] @ powers), 1)
    identity = torch.eye(state.shape[-1], dtype=state.dtype, device=state.device).expand(len(state), 1, -1, -1)
    return torch.cat((identity, powers[:, :CHUNK]), 1).transpose(1, 2)


def _chunk_operators(state: Tensor, drive: Tensor, num_tokens: int) -> tuple[Tensor, ...]:
    return impulse_response(state, drive, num_tokens), _powers(state)


def _full_operators(state: Tensor, drive: Tensor, num_tokens: int) -> tuple[Tensor, ...]:
    return (impulse_response(state, drive, num_tokens),)


class _Kept:
    """A cache entry: operators, and the tensors that they were computed from, with their values at that time."""

    def __init__(self, key: tuple[int, torch.dtype], sources: tuple[Tensor, ...], operators: tuple[Tensor, ...]):
        self.key = key
        self.operators = operators
        self.values = [tensor.clone() for tensor in sources]
        self._mark(sources)

    def _mark(self, sources: tuple[Tensor, ...]) -> None:
        self.sources = sources
        self.versions = _versions(sources)

    def holds(self, key: tuple[int, torch.dtype], sources: tuple[Tensor, ...]) -> bool:
        """Checks whether the operators belong to `key` and to sources with the same values as before."""
        pairs = list(zip(self.values, sources, strict=True))
        if key != self.key or any(
            (old.device, old.dtype, old.shape) != (new.device, new.dtype, new.shape) for old, new in pairs
        ):
            return False
        if sources[0].is_cpu:
            return all(torch.equal(old, new) for old, new in pairs)
        same = all(old is new for old, new in zip(self.sources, sources, strict=True))
        if same and self.versions and self.versions == _versions(sources):
            return True
        # Data-parallel training may write every buffer before every step, mostly with the same values: the host then
        # waits once, for this comparison.
        if torch.stack([(old != new).any() for old, new in pairs]).any():
            return False
        self._mark(sources)
        return True


def _versions(tensors: tuple[Tensor, ...]) -> list[int]:
    return [] if any(tensor.is_inference() for tensor in tensors) else [tensor._version for tensor in tensors]


def channels_first(tokens: Tensor) -> Tensor:
    """Transposes tokens (B, N, D) to the signals of a state space, (D, B, N)."""
    # Transposing two axes, with B and N flattened to one, is twice as fast as permuting three.
    return tokens.flatten(0, 1).t().contiguous().view(tokens.shape[2], *tokens.shape[:2])


class StateSpace(Drawn):
    """A linear map over the tokens of each channel, through a state with HiPPO-LegS dynamics.

    All arithmetic is real: the state is (Re z, Im z) of the kept modes. In these coordinates the dynamics contract, so
    float32 is safe. The map is linear in C; everything else is computed in float64, and only once while the dynamics
    are frozen. C belongs to the recurrence, so the map applies to any number of tokens.

    Args:
        width: Number of channels D.
        state_size: Size of the real state of a channel; even.
        bidirectional: Whether a second C looks at later tokens: lag -(n + 1) then has the weight k1[n].
        low_rank: Whether the state matrix has its low-rank part (S4) or only the normal part (S4D).
        trainable: Whether the dynamics are parameters; otherwise they are buffers.
        steps: Smallest and largest step, between which steps are drawn log-uniformly; one token is one unit of time.

    Source:
        Gu et al. 2022 (arXiv:2111.00396); the chunks follow Dao and Gu 2024 (arXiv:2405.21060), section 6.
    """

    undecayed: ClassVar[bool] = True

    log_dt: Tensor
    log_decay: Tensor
    frequency: Tensor
    B: Tensor
    P: Tensor | None

    def __init__(
        self,
        width: int,
        state_size: int,
        *,
        bidirectional: bool,
        low_rank: bool = True,
        trainable: bool = False,
        steps: tuple[float, float] = (0.001, 0.1),
    ):
        super().__init__()
        modes = state_size // 2
        self.steps = steps
        self.trainable = trainable
        self.C = nn.Parameter(torch.empty(1 + bidirectional, width, modes, 2))
        self.D = nn.Parameter(torch.empty(width))
        self._set_dynamics("log_dt", torch.empty(width))
        self._set_dynamics("log_decay", torch.empty(width, modes))
        self._set_dynamics("frequency", torch.empty(width, modes))
        self._set_dynamics("B", torch.empty(width, modes, 2))
        self._set_dynamics("P", torch.empty(width, modes, 2) if low_rank else None)
        self._cache: dict[str, _Kept] = {}

    def _set_dynamics(self, name: str, tensor: Tensor | None) -> None:
        if self.trainable and tensor is not None:
            self.register_parameter(name, nn.Parameter(tensor))
        else:
            self.register_buffer(name, tensor)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}}

    @torch.no_grad()
    def reset(self) -> None:
        """Draws the step, C and D and sets the other dynamics to HiPPO-LegS; loaded tensors keep their values."""
        eigenvalues, low_rank, drive = hippo_legs(2 * self.frequency.shape[-1])
        init.uniform_(self.log_dt, math.log(self.steps[0]), math.log(self.steps[1]))
        init.copy_(self.log_decay, torch.from_numpy(np.log(-eigenvalues.real)))
        init.copy_(self.frequency, torch.from_numpy(eigenvalues.imag.copy()))
        init.copy_(self.B, torch.view_as_real(torch.from_numpy(drive)))
        if self.P is not None:
            init.copy_(self.P, torch.view_as_real(torch.from_numpy(low_rank)))
        init.normal_(self.C, std=math.sqrt(0.5))
        init.normal_(self.D)

    def dynamics(self) -> tuple[Tensor, ...]:
        """Lists the tensors that define the state matrix, the input vector and the step."""
        listed = (self.log_dt, self.log_decay, self.frequency, self.B)
        return listed if self.P is None else (*listed, self.P)

    def discretise(self) -> tuple[Tensor, Tensor]:
        """Computes the matrices of x[n] = A x[n-1] + b u[n] in float64, shapes (D, state, state) and (D, state, 1)."""
        log_dt, log_decay, frequency, drive, *low_rank = (tensor.double() for tensor in self.dynamics())
        modes = frequency.shape[-1]
        state = torch.diag_embed(-torch.cat((log_decay, log_decay), -1).exp())
        state = state + torch.diag_embed(frequency, -modes) - torch.diag_embed(frequency, modes)
        for vector in low_rank:
            # Q is conj(P), so over the modes and their conjugates P Q z is 2 p (p . x) in real coordinates.
            stacked = vector.transpose(1, 2).flatten(1)
            state = state - 2 * stacked[:, :, None] * stacked[:, None, :]
        return bilinear(state, drive.transpose(1, 2).flatten(1), log_dt.exp())

    def readout(self) -> Tensor:
        """Returns C in real coordinates, in which the kernel's 2 Re(C z) is a plain product, (1 or 2, D, state)."""
        c = self.C.to(torch.promote_types(self.C.dtype, torch.float32))
        return torch.cat((2 * c[..., 0], -2 * c[..., 1]), -1)

    def kernel(self, num_tokens: int) -> Tensor:
        """Computes the weights of lags 0 .. N-1 (and, if bidirectional, -1 .. -N), without D: (1 or 2, D, N)."""
        readout = self.readout()
        (response,) = self._operators(_full_operators, num_tokens, readout.dtype)
        return torch.einsum("cds,dsn->cdn", readout, response)

    def _operators(
        self, build: Callable[[Tensor, Tensor, int], tuple[Tensor, ...]], num_tokens: int, dtype: torch.dtype
    ) -> tuple[Tensor, ...]:
        if self.trainable or torch.compiler.is_compiling():
            return tuple(part.to(dtype) for part in build(*self.discretise(), num_tokens))
        key = (num_tokens, dtype)
        return self._keep(
            build.__name__,
            key,
            self.dynamics(),
            lambda: tuple(part.to(dtype).contiguous() for part in build(*self.discretise(), num_tokens)),
        )

    def _keep(
        self,
        name: str,
        key: tuple[int, torch.dtype],
        sources: tuple[Tensor, ...],
        build: Callable[[], tuple[Tensor, ...]],
    ) -> tuple[Tensor, ...]:
        kept = self._cache.get(name)
        if kept is None or not kept.holds(key, sources):
            # A tensor created in inference mode could not be used in training later.
            with torch.inference_mode(False), torch.no_grad():
                kept = self._cache[name] = _Kept(key, sources, build())
        return kept.operators

    def forward(self, signal: Tensor) -> Tensor:
        """Runs the map, direct term D included, over signals (D, B, N), in float32 or better even under autocast."""
        with torch.autocast(signal.device.type, enabled=False):
            wide = signal.to(torch.promote_types(signal.dtype, torch.float32))
            mixed = self.chunked(wide) if signal.is_cpu and self._is_small() else self.spectral(wide)
        return mixed.to(signal.dtype)

    def _is_small(self) -> bool:
        """Checks whether chunks are faster on a CPU: their cost grows with the state, that of a transform does not."""
        return self.C.shape[0] * 2 * self.C.shape[2] <= CHUNK

    def spectral(self, signal: Tensor) -> Tensor:
        """Runs the map over signals (D, B, N) by one multiplication in the frequency domain."""
        return convolve(signal, self._two_sided(self.kernel(signal.shape[-1])))

    def chunked(self, signal: Tensor) -> Tensor:
        """Runs the map over signals (D, B, N) by matrix products within chunks, and by the state between chunks."""
        sources = (self.C, self.D, *self.dynamics())
        learns = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in sources)
        if learns or not signal.is_cpu or torch.compiler.is_compiling():
            return mix_chunks(signal, *self._chunk_weights())
        return mix_chunks(signal, *self._keep("weights", (CHUNK, self.C.dtype), sources, self._chunk_weights))

    def _chunk_weights(self) -> tuple[Tensor, ...]:
        """Computes the weights that `mix_chunks` takes."""
        readout = self.readout()
        response, powers = self._operators(_chunk_operators, CHUNK, readout.dtype)
        # Weights from token to token: row i holds the weights of the lags -i .. CHUNK - 1 - i.
        weights = self._two_sided(torch.einsum("cds,dsn->cdn", readout, response)).unfold(-1, CHUNK, 1).flip(1)
        # Weights from state to token: C A^n for n = 0 .. CHUNK, shape (D, 1 or 2, CHUNK + 1, state).
        leaving = (readout.transpose(0, 1) @ powers.flatten(2)).unflatten(2, (CHUNK + 1, -1))
        leave, enter = leaving[:, 0, 1:], response.flip(-1)
        if len(readout) == 2:
            leave, enter = torch.cat((leave, leaving[:, 1, :-1].flip(1)), 2), torch.cat((enter, response), 1)
        transitions = powers[:, :, -1].transpose(1, 2).expand(len(readout), -1, -1, -1)
        return weights, leave.transpose(1, 2), enter.transpose(1, 2), transitions

    def _two_sided(self, kernels: Tensor) -> Tensor:
        """Joins kernels (1 or 2, D, N) into the weights of the lags -(N-1) .. N-1, with D added at lag 0."""
        present = kernels[0, :, :1] + self.D.to(kernels.dtype)[:, None]
        past = kernels[0, :, 1:]
        future = kernels[1, :, :-1].flip(-1) if len(kernels) == 2 else torch.zeros_like(past)
        return torch.cat((future, present, past), -1)
