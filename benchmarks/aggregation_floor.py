"""What the machine allows: memory, transforms and a keystream, and what each method needs of them.

Counted is the least that the method moves, transforms and draws, not what an implementation does:

- memory: a client reads 4 bytes a parameter and writes what it sends; the server reads every
  contribution once and writes the sum; whoever opens reads the sum and writes 4 bytes a parameter.
- transforms of ring elements, SEAL's own; for ``hybrid`` complex ones of half the degree.
- keystream (AES-128, the fastest at hand) for what is uniform: public elements that a seed stands
  for, masks. Small noise is left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from aggregation_round import Case, Figures
from aggregation_sum import Ours

from qfl.crypto import Ckks, Packed
from qfl.crypto.masking_rules import MaskingRules
from qfl.crypto.ring import DEGREE

DEGREES = (2048, 4096, 8192)


@dataclass(frozen=True)
class Needs:
    """For one ring element of a method.

    Attributes:
        protect: Transforms by a client.
        open: Transforms by whoever opens.
        drawn: Bytes of keystream for one coefficient, by a client.
        server: The same by the server, for each client.
        redrawn: The same by whoever opens.
    """

    protect: int = 0
    open: int = 0
    drawn: float = 0
    server: float = 0
    redrawn: float = 0


# ckks, public key: encoding, message, 2 of u (two primes), 4 of noise (two halves, two primes), 4
#   to divide by the special prime. Secret key: encoding, message, noise; what is uniform is drawn
#   transformed, by the server again from its seed. Opening: back from values, decoding.
# packed, public key: u, and both halves back, in two primes. Secret key: one back. Opening: there
#   and back.
# hybrid: the public element there, its product back; so again to unmask.
NEEDS = {
    ("ckks", "key_holder"): Needs(12, 2),
    ("ckks", "shared"): Needs(3, 2, drawn=8, server=8),
    ("packed", "key_holder"): Needs(6, 2),
    ("packed", "shared"): Needs(1, 2, drawn=8, server=8),
    ("hybrid", "key_holder"): Needs(2, 2, drawn=4, redrawn=4),
    ("hybrid", "committee"): Needs(2, 2, drawn=4, redrawn=4),
    ("hybrid", "shared"): Needs(2, 2, drawn=4, redrawn=4),
}


@dataclass(frozen=True)
class Elements:
    """The ring elements of a case: how many, of which degree."""

    count: int
    degree: int


@dataclass(frozen=True)
class Speeds:
    """Of one core.

    Attributes:
        copy: Bytes a second, read and written, of a copy that is larger than the caches.
        keystream: Bytes a second of AES-128 in counter mode.
        transform_us: SEAL's number-theoretic transform, by degree.
        fourier_us: A complex transform of half the degree, which does the same for real numbers.
    """

    copy: float
    keystream: float
    transform_us: dict[int, float]
    fourier_us: dict[int, float]

    @property
    def notes(self) -> list[str]:
        """In words."""
        both = "; ".join(
            f"{degree}: {self.transform_us[degree]:.1f} and {self.fourier_us[degree]:.1f} us"
            for degree in DEGREES
        )
        return [
            f"one core copies {self.copy / 1e9:.1f} GB/s (read and written), makes "
            f"{self.keystream / 1e9:.1f} GB/s of AES-128 keystream",
            f"SEAL's number-theoretic transform and a complex Fourier transform of half its "
            f"degree: {both}",
        ]


def speeds() -> Speeds:
    """Measure this machine."""
    return Speeds(
        copy=_copy(),
        keystream=_keystream(),
        transform_us={degree: _transform(degree) * 1e6 for degree in DEGREES},
        fourier_us={degree: _fourier(degree) * 1e6 for degree in DEGREES},
    )


def least_ms(ours: Ours, case: Case, figures: Figures, speed: Speeds) -> dict[str, float]:
    """Floors of a round in ms, by role.

    Args:
        ours: Scheme and trust.
        case: What is summed.
        figures: How many bytes travel.
        speed: Of this machine.
    """
    needs, ring = NEEDS.get((ours.scheme, ours.trust), Needs()), elements(ours, case)
    if ours.several:
        # Every client draws its own mask and one for each neighbour; own ones are drawn again.
        masks = 1 + MaskingRules(ours.sums(case), 3).neighbourhood(case.clients).degree
        needs = Needs(drawn=4 * masks, redrawn=4 * case.clients)
    each = (speed.fourier_us if ours.scheme == "hybrid" else speed.transform_us)[ring.degree] / 1e3
    stream = ring.count * ring.degree / speed.keystream * 1e3
    plain, up, down = 4 * case.length, figures.up_bytes, figures.down_bytes
    return {
        "protect": needs.protect * ring.count * each
        + needs.drawn * stream
        + (plain + up) / speed.copy * 1e3,
        "server": case.clients * needs.server * stream
        + (case.clients * up + down) / speed.copy * 1e3,
        "open": needs.open * ring.count * each
        + needs.redrawn * stream
        + (down + plain) / speed.copy * 1e3,
    }


def elements(ours: Ours, case: Case) -> Elements:
    """Ring elements that hold an update."""
    made = None if ours.several else ours.made(case)
    if isinstance(made, Ckks):
        return Elements(-(-case.length // made.parameters.slots), made.parameters.degree)
    if isinstance(made, Packed):
        return Elements(made.parameters.ciphertexts(case.length), made.parameters.degree)
    return Elements(-(-case.length // DEGREE), DEGREE)


def _seconds(work: Callable[[], Any], times: int, repeats: int = 5) -> float:
    """Median seconds of processor time of one call."""
    taken = []
    work()
    for _ in range(repeats):
        started = time.process_time()
        for _ in range(times):
            work()
        taken.append((time.process_time() - started) / times)
    return median(taken)


def _copy() -> float:
    import numpy as np

    source = np.ones(2**25)
    target = np.empty_like(source)
    return 2 * source.nbytes / _seconds(lambda: np.copyto(target, source), 2)


def _keystream() -> float:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    size = 2**22
    zeros, drawn = bytes(size), bytearray(size)
    stream = Cipher(algorithms.AES(bytes(16)), modes.CTR(bytes(16))).encryptor()
    return size / _seconds(lambda: stream.update_into(zeros, drawn), 10)


def _transform(degree: int) -> float:
    """SEAL transforms both halves of a ciphertext there and back: four transforms."""
    import tenseal.sealapi as seal

    parameters = seal.EncryptionParameters(seal.SCHEME_TYPE.BFV)
    parameters.set_poly_modulus_degree(degree)
    parameters.set_coeff_modulus(seal.CoeffModulus.Create(degree, [50]))
    parameters.set_plain_modulus(65537)
    context = seal.SEALContext(parameters, True, seal.SEC_LEVEL_TYPE.NONE)
    public = seal.PublicKey()
    seal.KeyGenerator(context).create_public_key(public)
    ciphertext, evaluator = seal.Ciphertext(), seal.Evaluator(context)
    seal.Encryptor(context, public).encrypt(seal.Plaintext("1"), ciphertext)

    def both() -> None:
        evaluator.transform_to_ntt_inplace(ciphertext)
        evaluator.transform_from_ntt_inplace(ciphertext)

    return _seconds(both, 100) / 4


def _fourier(degree: int) -> float:
    import numpy as np
    import scipy.fft

    rows = np.ones((64, degree // 2), np.complex128)
    return _seconds(lambda: scipy.fft.fft(rows, axis=1), 5) / len(rows)
