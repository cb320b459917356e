"""A ring of SEAL: what can be known without any key, made once for each set of parameters.

Encryption rests on ring learning with errors (Lyubashevsky, Peikert, Regev 2010) in
Z_q[X] / (X^N + 1), with a secret of uniform coefficients -1, 0 and 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from qfl.crypto.seal_objects import Template
from qfl.errors import ConfigError

# 128 bits of security against classical attacks, ternary secret (homomorphicencryption.org
# standard, 2018): most bits of all primes together, by degree.
TOTAL_BITS = {1024: 27, 2048: 54, 4096: 109}
LARGEST_PRIME_BITS = 60
FAILURE_BITS = 64

# SEAL draws errors from a centred binomial distribution: 21 coin tosses less 21 others.
ERROR_VARIANCE = 10.5
LARGEST_ERROR = 21
SECRET_VARIANCE = 2 / 3


@dataclass(frozen=True)
class Ring:
    """What SEAL is told.

    Attributes:
        scheme: ``CKKS`` or ``BFV``.
        degree: N, a power of two.
        prime_bits: Of the data prime, then of the special prime where there is one.
        plain_modulus: Of BFV; 0 for CKKS.
    """

    scheme: str
    degree: int
    prime_bits: tuple[int, ...]
    plain_modulus: int = 0


class SealRing:
    """SEAL's context of a ring, its primes, and templates of its objects.

    Example:
        >>> seal_ring(Ring("CKKS", 2048, (38,))).primes
        (274877820929,)
    """

    def __init__(self, ring: Ring) -> None:
        import tenseal.sealapi as seal

        given = seal.EncryptionParameters(getattr(seal.SCHEME_TYPE, ring.scheme))
        given.set_poly_modulus_degree(ring.degree)
        given.set_coeff_modulus(seal.CoeffModulus.Create(ring.degree, list(ring.prime_bits)))
        if ring.plain_modulus:
            given.set_plain_modulus(ring.plain_modulus)
        self.context: Any = seal.SEALContext(given, True, seal.SEC_LEVEL_TYPE.TC128)
        if not self.context.parameters_set():
            raise ConfigError(f"SEAL refuses {ring}: {self.context.parameters_error_message()}")
        self.degree = ring.degree
        self.primes: tuple[int, ...] = tuple(prime.value() for prime in given.coeff_modulus())
        self.prime = self.primes[0]
        self._make_templates()

    def _make_templates(self) -> None:
        """Around keys that are thrown away."""
        import tenseal.sealapi as seal

        generator = seal.KeyGenerator(self.context)
        secret, public = generator.secret_key(), seal.PublicKey()
        generator.create_public_key(public)
        encryptor, ciphertext = seal.Encryptor(self.context, public, secret), seal.Ciphertext()
        encryptor.encrypt_zero(ciphertext)
        self.secret = Template.of(secret, self.degree * len(self.primes))
        self.public = Template.of(public, 2 * self.degree * len(self.primes))
        self.ciphertext = Template.of(ciphertext, 2 * self.degree)
        self.seeded = Template.of(encryptor.encrypt_zero_symmetric(), self.degree, seeded=True)
        self.plain = Template.of(seal.Plaintext(self.degree), self.degree)


@lru_cache(maxsize=16)
def seal_ring(ring: Ring) -> SealRing:
    """The one for these parameters in this process."""
    return SealRing(ring)
