"""Peers: NVFlare's classes for encrypted sums, and Paillier one value at a time.

Imported by the Python of the peers' environment, which has no qfl.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from aggregation_round import Case, Contender, Floats
from numpy.typing import NDArray

PACKAGES = ("nvflare", "tenseal", "phe", "gmpy2", "numpy")


class NVFlare:
    """NVFlare's filters and aggregator, with the keys of its HEBuilder's default.

    As in a job of its recipe for FedAvg: ``HEModelEncryptor`` weighs and encrypts one array at a
    time and ``fobs`` writes each with its context; ``WeightedAggregationHelper`` adds and divides;
    ``HEModelShareableGenerator`` sends the sums without a context, for ``HEModelDecryptor``.
    """

    def __init__(self, case: Case) -> None:
        import tenseal
        from nvflare.apis.fl_context import FLContext
        from nvflare.app_opt.he import decomposers
        from nvflare.app_opt.he.model_decryptor import HEModelDecryptor
        from nvflare.app_opt.he.model_encryptor import HEModelEncryptor
        from nvflare.lighter.impl.he import HEBuilder

        decomposers.register()
        builder = HEBuilder()
        builder.initialize(None, None)
        context = tenseal.context_from(builder.get_serialized_context(is_client=True))
        self.settings = (
            f"degree {builder.poly_modulus_degree}, primes of 60, 40, 40 bits, "
            f"scale 2^{builder.scale_bits}"
        )
        self._case, self._names = case, [f"array{place}" for place in range(case.tensors)]
        self._encryptor, self._decryptor = HEModelEncryptor(), HEModelDecryptor()
        self._encryptor.tenseal_context = self._decryptor.tenseal_context = context
        self._encryptor.encrypt_layers, self._encryptor.n_iter = [True], 1
        self._fl, self._sums = FLContext(), {}

    def protect(self, client: int, update: Floats) -> bytes:
        """Encrypt array after array."""
        from nvflare.fuel.utils import fobs

        places = np.cumsum(self._case.sizes())[:-1]
        arrays = dict(zip(self._names, np.split(update, places), strict=True))
        encrypted, _ = self._encryptor.encryption(arrays, self._fl)
        return bytes(fobs.dumps(encrypted))

    def start(self) -> None:
        """A new aggregation."""
        from nvflare.app_common.aggregators.weighted_aggregation_helper import (
            WeightedAggregationHelper,
        )

        self._added = 0
        self._helper = WeightedAggregationHelper(weigh_by_local_iter=False)

    def add(self, body: bytes) -> None:
        """Add to the weighted sum."""
        from nvflare.fuel.utils import fobs

        self._helper.add(fobs.loads(body), 1.0, f"site-{self._added}", 0)
        self._added += 1

    def result(self) -> bytes:
        """The mean, encrypted, as the server sends it to every client."""
        from nvflare.app_opt.he.homomorphic_encrypt import serialize_nested_dict
        from nvflare.fuel.utils import fobs

        mean = self._helper.get_result()
        self._sums = dict(mean)
        return bytes(fobs.dumps(serialize_nested_dict(mean)))

    def open(self, body: bytes) -> NDArray[Any]:
        """Decrypt array after array."""
        from nvflare.fuel.utils import fobs

        encrypted = dict.fromkeys(self._names, True)
        opened = self._decryptor.decryption(fobs.loads(body), encrypted, self._fl)
        return np.concatenate([np.asarray(opened[name]) for name in self._names])

    @property
    def more(self) -> dict[str, Callable[[], float]]:
        """Opening sums that travel as updates do, each with its context; no job does that."""
        from nvflare.fuel.utils import fobs

        def opening() -> float:
            body = bytes(fobs.dumps(self._sums))
            self._down = len(body)
            started = time.process_time()
            self.open(body)
            return (time.process_time() - started) * 1e3

        return {"open_ms with contexts": opening, "down_bytes with contexts": lambda: self._down}


class Paillier:
    """Paillier (1999) one value at a time, with ``phe``: what FATE's Paillier costs, roughly.

    A modulus of 3072 bits is what 128-bit security takes.
    """

    BITS = 3072
    FRACTION_BITS = 23
    LIMIT_S = 200.0
    warm_up = False  # a round takes a minute

    def __init__(self, case: Case) -> None:
        import phe

        if case.tensors > 1 and case.length <= 200:
            raise ValueError("tensors make no difference to it: see the case of one tensor")
        self.settings = f"modulus of {self.BITS} bits, one value in a ciphertext"
        self._public, self._private = phe.generate_paillier_keypair(n_length=self.BITS)
        self._case, self._width = case, self.BITS // 4
        started = time.process_time()
        self._public.encrypt(1)
        expected = (time.process_time() - started) * case.length * case.clients
        if expected > self.LIMIT_S:
            raise ValueError(f"a round would take about {expected:,.0f} s")

    def protect(self, client: int, update: Floats) -> bytes:
        """Weigh, round, encrypt."""
        scale = 2.0**self.FRACTION_BITS / self._case.clients
        steps = np.rint(update.astype(np.float64) * scale).astype(np.int64).tolist()
        sealed = (self._public.encrypt(step).ciphertext(be_secure=False) for step in steps)
        return b"".join(value.to_bytes(self._width, "little") for value in sealed)

    def start(self) -> None:
        """A new sum."""
        self._total: list[Any] = []

    def add(self, body: bytes) -> None:
        """Multiply ciphertexts."""
        read = self._read(body)
        both = zip(self._total, read, strict=True)
        self._total = [total + value for total, value in both] if self._total else read

    def result(self) -> bytes:
        """The sum's ciphertexts."""
        sums = (value.ciphertext(be_secure=False) for value in self._total)
        return b"".join(value.to_bytes(self._width, "little") for value in sums)

    def open(self, body: bytes) -> NDArray[Any]:
        """Decrypt."""
        steps = [self._private.decrypt(value) for value in self._read(body)]
        return np.array(steps) * 2.0**-self.FRACTION_BITS

    def _read(self, body: bytes) -> list[Any]:
        import phe

        starts = range(0, len(body), self._width)
        parts = (body[at : at + self._width] for at in starts)
        return [phe.EncryptedNumber(self._public, int.from_bytes(part, "little")) for part in parts]


CONTENDERS: dict[str, Callable[[Case], Contender]] = {
    "NVFlare": NVFlare,
    "Paillier (phe)": Paillier,
}
