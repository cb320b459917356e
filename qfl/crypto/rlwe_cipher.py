"""Plaintexts of SEAL to bodies and back, ciphertext by ciphertext.

SEAL holds Python's lock during a call; each call here takes less than a millisecond, so other
threads get their turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from qfl.crypto.rlwe_ring import SealRing
from qfl.crypto.rlwe_wire import Form, Writer
from qfl.crypto.seal_objects import SEED_BYTES, SealFile


def encrypted(plains: Iterable[Any], encryptor: Any, ring: SealRing, form: Form) -> bytes:
    """A body of one ciphertext for each plaintext.

    Args:
        plains: As many as ``form`` has rows; each is used before the next is asked for.
        encryptor: SEAL's, with the public key, or with the secret one where ``form`` is seeded.
        ring: Ring of the plaintexts.
        form: What to write.
    """
    import tenseal.sealapi as seal

    writer, ciphertext = Writer(form), seal.Ciphertext()
    with SealFile() as file:
        for plain in plains:
            if form.seeded:
                body = file.save(encryptor.encrypt_symmetric(plain))
                writer.add((ring.seeded.values(body),), body[-SEED_BYTES:])
            else:
                encryptor.encrypt(plain, ciphertext)
                values = ring.ciphertext.values(file.save(ciphertext))
                writer.add((values[: ring.degree], values[ring.degree :]))
    return writer.body()


def decrypted(body: bytes, decryptor: Any, ring: SealRing, form: Form) -> Iterator[Any]:
    """The plaintext of each ciphertext of a sum, in an object that is used again.

    Raises:
        PayloadError: The body is malformed.
    """
    import tenseal.sealapi as seal

    form.check(body)
    plain, ciphertext = seal.Plaintext(), seal.Ciphertext()
    with SealFile() as file:
        for start, stop in form.blocks():
            for both in np.stack(form.read(body, start, stop), axis=1):
                ring.ciphertext.load(ciphertext, ring.context, file, both)
                decryptor.decrypt(ciphertext, plain)
                yield plain
