"""``hybrid``: a ring-LWE mask on the vector, and only its short key for whoever opens. Experimental.

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
import struct
from dataclasses import dataclass

import numpy as np

from qfl.crypto.agreement import Request, Statement
from qfl.crypto.contribution import NOBODY, Record, vouch
from qfl.crypto.discrete_gaussian import draw_gaussian
from qfl.crypto.encoding import IntVector, SumRange, check_capacity
from qfl.crypto.hybrid_keys import (
    check_public,
    committee_of,
    identity_of,
    info_of,
    new_keys,
    open_key,
    protecting_public,
    public_of,
    record_bytes,
    seal_key,
)
from qfl.crypto.hybrid_parameters import (
    FEWEST_CONTRIBUTIONS,
    SIGMA,
    HybridParameters,
    choose_hybrid,
)
from qfl.crypto.keystream import keystream
from qfl.crypto.members import MemberKeys, Roster
from qfl.crypto.ring import DEGREE, products
from qfl.crypto.scheme import KeyPair
from qfl.errors import ConfigError, OpeningRefusedError, PayloadError, unknown_name

_KEYS = struct.Struct("<4sI")
_KEYS_MAGIC = b"qhr1"
_IDENTITY_BYTES = 32
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
        return HybridSum(self, length, public_key)

    def contributions(self, body: bytes) -> int:
        """How many keys there are in what an accumulator gave out.

        Raises:
            PayloadError: The bytes are no such thing.
        """
        if len(body) < _KEYS.size or body[:4] != _KEYS_MAGIC:
            raise PayloadError(
                f"not the keys of a sum: it starts with {body[:4]!r}, expected {_KEYS_MAGIC!r}"
            )
        count = int(_KEYS.unpack_from(body)[1])
        rest = len(body) - _KEYS.size
        size = record_bytes(b"", self.trust)[1] if self.trust != "committee" else rest // (count or 1)
        if rest != count * size:
            raise PayloadError(f"keys of a sum of {len(body)} bytes claim {count} contributions")
        return count

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
        identity = identity_of(public_of(secret_key))
        _, size = record_bytes(b"", self.trust)
        total, seen = np.zeros(DEGREE, dtype=np.int64), set()
        for start in range(_KEYS.size, len(body), size):
            record = Record.from_bytes(body[start : start + size], 1)
            name = record.voucher.name
            if (who := _contributor(record)) in seen:
                raise OpeningRefusedError(f"the keys hold a contribution of {name} twice")
            seen.add(who)
            if roster is not None:
                record.voucher.check(roster, identity, place)
            total += open_key(record.sealed[0], secret_key, info_of(identity, name, place))
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
            PayloadError: The opened key is none, or does not fit the masked sum.
        """
        limit = self.parameters.key
        if opened.shape != (DEGREE,) or not np.issubdtype(opened.dtype, np.integer):
            raise PayloadError(
                f"the opened key has shape {opened.shape} and type {opened.dtype}; expected "
                f"({DEGREE},) and integers"
            )
        if int(opened.max()) > limit or int(opened.min()) < -limit:
            raise PayloadError(
                f"the opened key holds {opened.min()} to {opened.max()}; a sum of keys lies within "
                f"-{limit} to {limit}"
            )
        if len(masked) != _IDENTITY_BYTES + 4 * length:
            raise PayloadError(
                f"a masked sum of {length} values has {_IDENTITY_BYTES + 4 * length} bytes, not "
                f"{len(masked)}"
            )
        identity = masked[:_IDENTITY_BYTES]
        total = np.frombuffer(masked, dtype="<u4", offset=_IDENTITY_BYTES)
        values, scale = np.empty(length, dtype=np.int64), self.parameters.scale
        for start, product in products(_public_stream(identity, place), opened, length):
            np.subtract(total[start : start + product.size], product, out=product)
            carried = product.view(np.int32).astype(np.float64)
            carried /= scale
            rounded = np.rint(carried)
            values[start : start + product.size] = rounded
            carried -= rounded
            self._check_noise(float(np.abs(carried, out=carried).max()) * scale)
        return values

    def _check_noise(self, largest: float) -> None:
        if largest > self.parameters.noise + 0.5:
            raise PayloadError(
                f"the opened key does not fit the masked sum: noise of {largest:.0f} is left, at "
                f"most {self.parameters.noise} is allowed; was a contribution added on one side "
                "only, or masked for another place?"
            )


class HybridSum:
    """One masked sum, and everybody's sealed keys."""

    def __init__(self, scheme: Hybrid, length: int, public_key: bytes) -> None:
        check_public(public_key, scheme.trust)
        self._scheme, self._public = scheme, public_key
        self._identity = identity_of(public_key)
        self._receivers, self._size = record_bytes(public_key, scheme.trust)
        self._total = np.zeros(length, dtype="<u4")
        self._records: dict[bytes, Record] = {}

    def add(self, body: bytes) -> None:
        """Add one contribution.

        Signatures are for those who open to check; so is what is sealed.

        Raises:
            PayloadError: It has another size, its contributor is there already, or there are as
                many as the parameters are sound for.
        """
        if len(body) != self._size + self._total.nbytes:
            raise PayloadError(
                f"a contribution of {self._total.size} values has "
                f"{self._size + self._total.nbytes} bytes, not {len(body)}"
            )
        if len(self._records) >= (most := self._scheme.sums.additions):
            raise PayloadError(
                f"more than {most} contributions: these parameters are not sound for another one"
            )
        record = Record.from_bytes(body[: self._size], self._receivers)
        if (who := _contributor(record)) in self._records:
            raise PayloadError(f"member {record.voucher.name} contributed already")
        self._total += np.frombuffer(body, dtype="<u4", offset=self._size)
        self._records[who] = record

    def result(self) -> bytes:
        """The sealed keys of all contributions."""
        head = _KEYS.pack(_KEYS_MAGIC, len(self._records))
        return b"".join([head, *(record.to_bytes() for record in self._records.values())])

    def masked(self) -> bytes:
        """The identity of the key, and the masked sum."""
        return b"".join([self._identity, self._total.data])

    def statement(self, place: str) -> bytes:
        """Trust ``committee``: what the members are asked to agree on."""
        return self._statement(place).to_bytes()

    def request_for(self, member: str, place: str, signatures: dict[str, bytes]) -> bytes:
        """Trust ``committee``: what one member is asked to add up.

        Args:
            member: Its name.
            place: As in :meth:`statement`.
            signatures: Of members, by name.

        Raises:
            PayloadError: There is no such member.
        """
        committee = committee_of(self._public)
        receiver, records = committee.place_of(member), list(self._records.values())
        return Request.of(records, self._statement(place), signatures, receiver).to_bytes()

    def combine(self, shares: dict[str, bytes]) -> IntVector:
        """Trust ``committee``: the sum of the ring keys, for :meth:`Hybrid.finish`.

        Raises:
            PayloadError: There are fewer shares than the threshold, or malformed ones.
        """
        return committee_of(self._public).combine(shares)

    def _statement(self, place: str) -> Statement:
        vouchers = [record.voucher for record in self._records.values()]
        return Statement.of(vouchers, self._identity, place)


def check_contribution(
    scheme: Hybrid, body: bytes, length: int, public_key: bytes, place: str, roster: Roster
) -> str:
    """Check all that a client vouched for, its masked vector included.

    Openers see no masked vector. Whoever does, the server or an auditor, can make sure with this
    that a contribution is as its client sent it.

    Returns:
        The contributor's name.

    Raises:
        PayloadError: Its size, signature or digest does not fit.
    """
    check_public(public_key, scheme.trust)
    receivers, size = record_bytes(public_key, scheme.trust)
    if len(body) != size + 4 * length:
        raise PayloadError(
            f"a contribution of {length} values has {size + 4 * length} bytes, not {len(body)}"
        )
    voucher = Record.from_bytes(body[:size], receivers).voucher
    voucher.check(roster, identity_of(public_key), place)
    if hashlib.sha256(memoryview(body)[size:]).digest() != voucher.masked:
        raise PayloadError(f"the masked vector of member {voucher.name} is not the one it sent")
    return voucher.name


def _contributor(record: Record) -> bytes:
    """What must differ: the name, or where nobody signed, the content."""
    voucher = record.voucher
    return voucher.digest if voucher.name == NOBODY else bytes.fromhex(voucher.name)


def _public_stream(identity: bytes, place: str) -> bytes:
    return hashlib.sha256(b"qfl hybrid ring element" + identity + place.encode()).digest()
