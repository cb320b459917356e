"""``hybrid``: a ring-LWE mask on the vector, its short key for whoever opens. Experimental.

A client draws a ring key s and errors e, discrete Gaussian, afresh for every sum, and sends

    b = a s + e + scale * v    modulo 2^32, in chunks of the ring Z[X] / (X^2048 + 1),

after Lyubashevsky, Peikert and Regev, "On ideal lattices and learning with errors over rings"
(2010); the modulus is a power of two (Peikert, Regev and Stephens-Davidowitz 2017). Keys add up as
vectors do: whoever knows the sum of the keys, and nothing else, unmasks the sum of the vectors and
no single one. ``a`` is the same for everybody and nobody's choice: AES-256 in counter mode under a
hash of the place and of the key or committee. The sum is exact (:mod:`hybrid_parameters`). What is
assumed is in :mod:`hardness`, how ring keys travel in :mod:`hybrid_keys`.

At least three clients: the opened sum of keys must hide each of them. Keys are Gaussian, not
ternary, because a sum of three ternary coefficients that is 3 tells all three.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

import numpy as np

from qfl.crypto.contribution import NOBODY, Record, contributor, vouch
from qfl.crypto.discrete_gaussian import draw_gaussian
from qfl.crypto.encoding import IntVector, SumRange, check_capacity
from qfl.crypto.hybrid_keys import (
    KeyOpener,
    identity_of,
    info_of,
    new_keys,
    protecting_public,
    record_bytes,
    seal_key,
)
from qfl.crypto.hybrid_parameters import (
    FEWEST_CONTRIBUTIONS,
    SIGMA,
    HybridParameters,
    choose_hybrid,
)
from qfl.crypto.hybrid_sum import IDENTITY_BYTES, KEYS, KEYS_MAGIC, HybridSum
from qfl.crypto.keystream import keystream
from qfl.crypto.members import MemberKeys, Roster
from qfl.crypto.ring import DEGREE, products
from qfl.crypto.scheme import KeyPair
from qfl.errors import (
    ConfigError,
    MisfitError,
    OpeningRefusedError,
    PayloadError,
    unknown_name,
)

_TRUSTS = ("key_holder", "shared", "committee")


@dataclass(frozen=True)
class Hybrid:
    """Masked sums for one run.

    Attributes:
        sums: Grid, bound and most contributions of a sum.
        parameters: Scale and bounds of the noise.
        trust: ``key_holder``, ``shared`` or ``committee``.

    Example:
        >>> scheme = Hybrid.for_sums(2, SumRange(fraction_bits=20, bound=2.0, additions=3))
        >>> keys = scheme.generate_keys()
        >>> total = scheme.accumulator(2, keys.public)
        >>> for vector in ([1, -2], [3, 5], [10, 10]):
        ...     total.add(scheme.protect(np.array(vector), keys.public))
        >>> opened = scheme.open(total.result(), 2, keys.secret)  # the sum of the ring keys
        >>> scheme.finish(opened, total.masked(), 2).tolist()
        [14, 13]
    """

    sums: SumRange
    parameters: HybridParameters
    trust: str = "key_holder"
    name: str = "hybrid"
    has_keys: bool = True

    @staticmethod
    def for_sums(length: int, sums: SumRange, trust: str = "key_holder") -> Hybrid:
        """Choose parameters for vectors of up to ``length`` values.

        Raises:
            ConfigError: None are sound, or the trust is unknown.
        """
        if trust not in _TRUSTS:
            raise ConfigError(unknown_name("trust of scheme hybrid", trust, _TRUSTS))
        return Hybrid(sums, choose_hybrid(length, sums), trust)

    def generate_keys(self) -> KeyPair:
        """Keys for one run; under trust ``committee`` there are none to generate.

        Raises:
            ConfigError: The trust is ``committee``.
        """
        return new_keys(self.trust)

    def protect(
        self,
        values: IntVector,
        key: bytes,
        *,
        place: str = "",
        signer: MemberKeys | None = None,
    ) -> bytes:
        """Mask grid integers under a fresh ring key.

        Args:
            values: Multiples of the grid's step.
            key: The public key; under ``shared`` the secret one, under ``committee`` its bytes.
            place: Run, round, step and attempt.
            signer: Who vouches; unset, only openers without a roster take the contribution.

        Raises:
            RangeError: A value exceeds the capacity; a sum past the modulus would wrap silently.
            PayloadError: The key is not one to protect with.
        """
        check_capacity(values, self.sums)
        identity = identity_of(protecting_public(key, self.trust))
        secret = keystream(secrets.token_bytes(32), bytes(16))
        ring_key = draw_gaussian(DEGREE, SIGMA, secret).astype(np.int64)
        masked = np.empty(values.size, dtype="<u4")
        scale = np.uint32(self.parameters.scale)
        for start, product in products(_public_stream(identity, place), ring_key, values.size):
            block = masked[start : start + product.size]
            block[:] = values[start : start + product.size]
            block *= scale
            block += product
            signed = block.view("<i4")
            signed += draw_gaussian(product.size, SIGMA, secret)
        info = info_of(identity, signer.name if signer else NOBODY, place)
        sealed = seal_key(ring_key, key, self.trust, info)
        record = vouch(sealed, masked.data, identity, place, signer)
        return b"".join([record.to_bytes(), masked.data])

    def accumulator(self, length: int, public_key: bytes) -> HybridSum:
        """A sum of masked vectors, beside the sealed keys of all.

        Raises:
            PayloadError: The public key is malformed.
        """
        return HybridSum(length, public_key, self.trust, self.sums.additions)

    def contributions(self, body: bytes) -> int:
        """How many keys there are in what an accumulator gave out.

        Raises:
            PayloadError: The bytes are no such thing.
        """
        if len(body) < KEYS.size or body[:4] != KEYS_MAGIC:
            raise PayloadError(
                f"not the keys of a sum: it starts with {body[:4]!r}, expected {KEYS_MAGIC!r}"
            )
        _, count, receivers = KEYS.unpack_from(body)
        size = KEYS.size + count * record_bytes(receivers, self.trust)
        if len(body) != size or (receivers != 1 and self.trust != "committee"):
            raise PayloadError(f"keys of a sum of {len(body)} bytes claim {count} contributions")
        return int(count)

    def open(
        self,
        body: bytes,
        length: int,
        secret_key: bytes,
        *,
        place: str = "",
        roster: Roster | None = None,
    ) -> IntVector:
        """Open the keys one by one and add them.

        Args:
            body: From :meth:`HybridSum.result`.
            length: Not needed: all vectors have keys of one length.
            secret_key: What opens.
            place: As in :meth:`protect`; keys sealed for another place are refused.
            roster: Who may have contributed. Given, each must have signed.

        Returns:
            The sum of the ring keys, 2048 integers: what :meth:`finish` needs.

        Raises:
            OpeningRefusedError: There are too few or too many contributions, two are by one
                contributor, or nobody holds the key alone (trust ``committee``).
            PayloadError: One is malformed, not signed, or belongs elsewhere.
        """
        if self.trust == "committee":
            raise OpeningRefusedError(
                "with trust committee nobody opens alone: members agree and send their shares"
            )
        count = self.contributions(body)
        if not FEWEST_CONTRIBUTIONS <= count <= self.sums.additions:
            raise OpeningRefusedError(
                f"asked to open the keys of {count} updates; these parameters hide each of "
                f"{FEWEST_CONTRIBUTIONS} or more, and are sound for at most {self.sums.additions}"
            )
        opener = KeyOpener(secret_key)
        size = record_bytes(1, self.trust)
        total, seen = np.zeros(DEGREE, dtype=np.int64), set()
        for start in range(KEYS.size, len(body), size):
            record = Record.from_bytes(body[start : start + size], 1)
            name = record.voucher.name
            if (who := contributor(record)) in seen:
                raise OpeningRefusedError(f"the keys hold a contribution of {name} twice")
            seen.add(who)
            if roster is not None:
                record.voucher.check(roster, opener.identity, place)
            total += opener.open(record.sealed[0], info_of(opener.identity, name, place))
        return total

    def finish(
        self, opened: IntVector, masked: bytes, length: int, *, place: str = ""
    ) -> IntVector:
        """Unmask the sum.

        Args:
            opened: The sum of the ring keys.
            masked: From :meth:`HybridSum.masked`.
            length: Values in the vectors.
            place: As in :meth:`protect`.

        Raises:
            PayloadError: The opened key or the masked sum is none.
            MisfitError: One does not fit the other.
        """
        limit = self.parameters.key
        if opened.shape != (DEGREE,) or not np.issubdtype(opened.dtype, np.integer):
            raise PayloadError(
                f"the opened key has shape {opened.shape} and type {opened.dtype}; expected "
                f"({DEGREE},) and integers"
            )
        if int(opened.max()) > limit or int(opened.min()) < -limit:
            # By how much is not said: a contributor's own part could make it tell the others'.
            raise MisfitError(
                f"the opened key is none: a sum of keys lies within -{limit} to {limit}"
            )
        if len(masked) != IDENTITY_BYTES + 4 * length:
            raise PayloadError(
                f"a masked sum of {length} values has {IDENTITY_BYTES + 4 * length} bytes, not "
                f"{len(masked)}"
            )
        identity = masked[:IDENTITY_BYTES]
        total = np.frombuffer(masked, dtype="<u4", offset=IDENTITY_BYTES)
        values = np.empty(length, dtype=np.int64)
        scale = self.parameters.scale
        for start, product in products(_public_stream(identity, place), opened, length):
            np.subtract(total[start : start + product.size], product, out=product)
            carried = product.view(np.int32).astype(np.float64)
            carried *= 1 / scale
            rounded = np.rint(carried)
            values[start : start + product.size] = rounded
            carried -= rounded
            self._check_noise(max(float(carried.max()), -float(carried.min())) * scale)
        return values

    def _check_noise(self, largest: float) -> None:
        if largest > self.parameters.noise + 0.5:
            # How much is left is not said: it is a linear equation in the summed key.
            raise MisfitError(
                "the opened key does not fit the masked sum: more noise is left than can be; was a "
                "contribution added on one side only, or masked for another place?"
            )


def _public_stream(identity: bytes, place: str) -> bytes:
    return hashlib.sha256(b"qfl hybrid ring element" + identity + place.encode()).digest()
