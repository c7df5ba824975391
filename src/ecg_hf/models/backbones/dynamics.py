"""The HiPPO dynamics of a state space, their discretisation and their impulse response."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def hippo_legs(state_size: int) -> tuple[NDArray[np.complex128], NDArray[np.complex128], NDArray[np.complex128]]:
    """Diagonalises the normal part of HiPPO-LegS and returns one mode of each conjugate pair, the fastest first.

    An eigenvector is defined up to a phase, which is chosen so that the input vector is real and positive.

    Args:
        state_size: Size of the real state; even.

    Returns:
        The eigenvalues, the low-rank vector P and the input vector B in their basis, each of size `state_size / 2`.
        The HiPPO matrix is the eigenvalues minus P P*, over the modes and their conjugates.

    Source:
        Gu et al. 2022 (arXiv:2111.00396), theorem 1 and appendix C.
    """
    order = np.arange(state_size)
    scale = np.sqrt(2 * order + 1.0)
    low_rank = np.sqrt(order + 0.5)
    hippo = -np.tril(np.outer(scale, scale), -1) - np.diag(order + 1.0)
    skew = hippo + np.outer(low_rank, low_rank) + 0.5 * np.eye(state_size)
    frequency, vectors = np.linalg.eigh(-1j * skew)
    fastest = np.argsort(-frequency)[: state_size // 2]
    adjoint = vectors[:, fastest].conj().T
    drive = adjoint @ scale
    turn = drive.conj() / np.abs(drive)
    return -0.5 + 1j * frequency[fastest], turn * (adjoint @ low_rank), turn * drive


def bilinear(state: Tensor, drive: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """Discretises x' = A x + b u by the bilinear rule.

    Args:
        state: State matrix A, shape (D, state, state).
        drive: Input vector b, shape (D, state).
        step: Time between two tokens, shape (D,).

    Returns:
        The matrices of x[n] = A x[n-1] + b u[n], shapes (D, state, state) and (D, state, 1).

    Source:
        Gu et al. 2022, equation 3.
    """
    half = step[:, None, None] / 2 * state
    identity = torch.eye(state.shape[-1], dtype=state.dtype, device=state.device)
    both = torch.cat((identity + half, step[:, None, None] * drive[..., None]), -1)
    # Contracting dynamics never give a singular matrix, and `solve` would make the host wait to check that.
    solved, _ = torch.linalg.solve_ex(identity - half, both)
    return solved[..., :-1], solved[..., -1:]


def impulse_response(state: Tensor, drive: Tensor, num_tokens: int) -> Tensor:
    """Computes the response of discrete dynamics to one impulse.

    Args:
        state: State matrix A of `bilinear`, shape (D, state, state).
        drive: Input vector b of `bilinear`, shape (D, state, 1).
        num_tokens: Number of tokens N.

    Returns:
        States A^n b for n < N, shape (D, state, N).
    """
    response = drive
    while response.shape[-1] < num_tokens:
        response = torch.cat((response, state @ response), -1)
        state = state @ state
    return response[..., :num_tokens]
