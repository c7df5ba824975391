"""The state space of an S4 layer, and two equal ways to run it over tokens."""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import initialization as init

from ecg_hf.backbones.base import Drawn
from ecg_hf.backbones.dynamics import bilinear, hippo_legs, impulse_response

# Tokens of a chunk: 32 and 50 were the fastest of 32, 50 and 64 at 300, 1250 and 2500 tokens on one CPU core.
CHUNK = 32


def _powers(state: Tensor) -> Tensor:
    """Stacks A^0 .. A^CHUNK to (D, state, CHUNK + 1, state), so that a readout times it is one matrix product."""
    powers = state[:, None]
    while powers.shape[1] < CHUNK:
        powers = torch.cat((powers, powers[:, -1:] @ powers), 1)
    identity = torch.eye(state.shape[-1], dtype=state.dtype, device=state.device).expand(len(state), 1, -1, -1)
    return torch.cat((identity, powers[:, :CHUNK]), 1).transpose(1, 2)


def _chunk_operators(state: Tensor, drive: Tensor, num_tokens: int) -> tuple[Tensor, ...]:
    return impulse_response(state, drive, num_tokens), _powers(state)


def _full_operators(state: Tensor, drive: Tensor, num_tokens: int) -> tuple[Tensor, ...]:
    return (impulse_response(state, drive, num_tokens),)


class _Frozen:
    """Operators, and the dynamics they were built from: says, mostly without reading these, whether they still hold."""

    def __init__(self, key: tuple[int, torch.dtype], dynamics: tuple[Tensor, ...], operators: tuple[Tensor, ...]):
        self.key = key
        self.operators = operators
        self.values = [tensor.clone() for tensor in dynamics]
        self._mark(dynamics)

    def _mark(self, dynamics: tuple[Tensor, ...]) -> None:
        self.dynamics = dynamics
        self.versions = _versions(dynamics)

    def holds(self, key: tuple[int, torch.dtype], dynamics: tuple[Tensor, ...]) -> bool:
        """Says whether the operators are those of `key` and of dynamics that have the same values as before."""
        if key != self.key:
            return False
        same = all(old is new for old, new in zip(self.dynamics, dynamics, strict=True))
        if same and self.versions and self.versions == _versions(dynamics):
            return True
        pairs = list(zip(self.values, dynamics, strict=True))
        if any(old.device != new.device or old.dtype != new.dtype or old.shape != new.shape for old, new in pairs):
            return False
        # Data-parallel training may write every buffer before every step, mostly with what it held already: the host
        # then waits once.
        if torch.stack([(old != new).any() for old, new in pairs]).any():
            return False
        self._mark(dynamics)
        return True


def _versions(tensors: tuple[Tensor, ...]) -> list[int]:
    return [] if any(tensor.is_inference() for tensor in tensors) else [tensor._version for tensor in tensors]


class StateSpace(Drawn):
    """A linear map over tokens, one per channel, through a state that follows HiPPO-LegS.

    All arithmetic is real: the state is (Re z, Im z) of the kept modes, in which the dynamics contract, so that they
    are safe in float32. The map is linear in C: what else it needs is computed in float64, once while the dynamics
    are frozen. C is that of the recurrence, so any number of tokens may be asked for.

    Args:
        width: Channels, D.
        state_size: Size of the real state of a channel; even.
        bidirectional: Whether a second C looks at later tokens: lag -(n + 1) then has the weight k1[n].
        low_rank: Whether the state matrix has its low-rank part (S4) or only the normal one (S4D).
        trainable: Whether the dynamics are parameters (else buffers).
        steps: Smallest and largest step that is drawn, log-uniformly; one token is one unit of time.

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
        self._cache: dict[str, _Frozen] = {}

    def _set_dynamics(self, name: str, tensor: Tensor | None) -> None:
        if self.trainable and tensor is not None:
            self.register_parameter(name, nn.Parameter(tensor))
        else:
            self.register_buffer(name, tensor)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}}

    @torch.no_grad()
    def reset(self) -> None:
        """Draws the step, C and D and sets the dynamics to HiPPO-LegS, except for what was loaded."""
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
        """Lists the tensors that the state matrix, the input vector and the step are made of."""
        listed = (self.log_dt, self.log_decay, self.frequency, self.B)
        return listed if self.P is None else (*listed, self.P)

    def discretise(self) -> tuple[Tensor, Tensor]:
        """Gives the matrices of x[n] = A x[n-1] + b u[n] in float64, shapes (D, state, state) and (D, state, 1)."""
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
        """Gives C in real coordinates, in which the kernel's 2 Re(C z) is a plain product, (1 or 2, D, state)."""
        c = self.C.to(torch.promote_types(self.C.dtype, torch.float32))
        return torch.cat((2 * c[..., 0], -2 * c[..., 1]), -1)

    def kernel(self, num_tokens: int) -> Tensor:
        """Gives the weights of lags 0 .. N-1 (and, if bidirectional, -1 .. -N), without D: (1 or 2, D, N)."""
        readout = self.readout()
        (response,) = self._operators(_full_operators, num_tokens, readout.dtype)
        return torch.einsum("cds,dsn->cdn", readout, response)

    def _operators(
        self, build: Callable[[Tensor, Tensor, int], tuple[Tensor, ...]], num_tokens: int, dtype: torch.dtype
    ) -> tuple[Tensor, ...]:
        if self.trainable or torch.compiler.is_compiling():
            return tuple(part.to(dtype) for part in build(*self.discretise(), num_tokens))
        key, dynamics = (num_tokens, dtype), self.dynamics()
        kept = self._cache.get(build.__name__)
        if kept is None or not kept.holds(key, dynamics):
            # A tensor made in inference mode could not be used in training later.
            with torch.inference_mode(False), torch.no_grad():
                operators = tuple(part.to(dtype).contiguous() for part in build(*self.discretise(), num_tokens))
                kept = self._cache[build.__name__] = _Frozen(key, dynamics, operators)
        return kept.operators

    def forward(self, signal: Tensor) -> Tensor:
        """Runs the map, D included, over (D, B, N), in float32 at least whatever autocast says."""
        with torch.autocast(signal.device.type, enabled=False):
            wide = signal.to(torch.promote_types(signal.dtype, torch.float32))
            mixed = self.chunked(wide) if signal.is_cpu else self.spectral(wide)
        return mixed.to(signal.dtype)

    def spectral(self, signal: Tensor) -> Tensor:
        """Runs the map over (D, B, N) by one multiplication in the frequency domain."""
        num_tokens = signal.shape[-1]
        weights = self._two_sided(self.kernel(num_tokens))
        # Negative lags stand at the end of a circle that is long enough for no token to meet another twice.
        past, future = weights[:, num_tokens - 1 :], weights[:, : num_tokens - 1]
        circle = torch.cat((past, torch.zeros_like(past[:, :1]), future), -1)
        spectrum = torch.fft.rfft(signal, 2 * num_tokens) * torch.fft.rfft(circle)[:, None]
        mixed: Tensor = torch.fft.irfft(spectrum, 2 * num_tokens)
        return mixed[..., :num_tokens]

    def chunked(self, signal: Tensor) -> Tensor:
        """Runs the map over (D, B, N) by matrix products: within chunks of tokens, and between them by the state."""
        width, batch, num_tokens = signal.shape
        num_chunks = -(-num_tokens // CHUNK)
        readout = self.readout()
        response, powers = self._operators(_chunk_operators, CHUNK, readout.dtype)
        padded = nn.functional.pad(signal, (0, num_chunks * CHUNK - num_tokens))
        chunks = padded.reshape(width, batch * num_chunks, CHUNK)
        # From token to token: row i holds the weights of the lags -i .. CHUNK - 1 - i.
        weights = self._two_sided(torch.einsum("cds,dsn->cdn", readout, response))
        mixed = chunks @ weights.unfold(-1, CHUNK, 1).flip(1)
        # From state to token: C A^n for n = 0 .. CHUNK, shape (D, 1 or 2, CHUNK + 1, state).
        leaving = (readout.transpose(0, 1) @ powers.flatten(2)).reshape(width, len(readout), CHUNK + 1, -1)
        for direction in range(len(readout)):
            backward = direction == 1
            enter = response if backward else response.flip(-1)
            leave = leaving[:, 1, :-1].flip(1) if backward else leaving[:, 0, 1:]
            entering = (chunks @ enter.transpose(1, 2)).view(width, batch, num_chunks, -1)
            states = _carry(entering, powers[:, :, -1].transpose(1, 2), backward)
            mixed.baddbmm_(states.flatten(1, 2), leave.transpose(1, 2))
        return mixed.view(width, batch, num_chunks * CHUNK)[..., :num_tokens]

    def _two_sided(self, kernels: Tensor) -> Tensor:
        """Lines up the weights of the lags -(N-1) .. N-1, D at lag 0, from kernels (1 or 2, D, N)."""
        present = kernels[0, :, :1] + self.D.to(kernels.dtype)[:, None]
        past = kernels[0, :, 1:]
        future = kernels[1, :, :-1].flip(-1) if len(kernels) == 2 else torch.zeros_like(past)
        return torch.cat((future, present, past), -1)


def _carry(entering: Tensor, transition: Tensor, backward: bool) -> Tensor:
    """Sums what chunks put into the state, (D, B, chunks, state), to the state before (backward: after) each chunk."""
    chunks = list(entering.unbind(2))
    if backward:
        chunks.reverse()
    states = [torch.zeros_like(chunks[0])]
    for added in chunks[:-1]:
        states.append(torch.baddbmm(added, states[-1], transition))
    if backward:
        states.reverse()
    return torch.stack(states, 2)
