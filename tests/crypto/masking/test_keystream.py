"""Masks are AES-256 in counter mode, added modulo 2^32."""

from __future__ import annotations

import hashlib
import hmac

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

from qfl.crypto.keystream import CHUNK, change_masks, keystream

SEED, OTHER = bytes(range(32)), bytes(range(1, 33))


def test_vectors_of_nist_sp_800_38a() -> None:
    """F.5.5, CTR-AES256.Encrypt."""
    key = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"
    counter = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"
    plain = (
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
        "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
    )
    cipher = (
        "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
        "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6"
    )
    stream = keystream(bytes.fromhex(key), bytes.fromhex(counter))
    assert stream.update(bytes.fromhex(plain)).hex() == cipher


def mask_by_blocks(seed: bytes, length: int) -> list[int]:
    """HKDF by RFC 5869 from HMAC, then the cipher on every counter block alone."""
    extracted = hmac.digest(bytes(32), seed, hashlib.sha256)
    key = hmac.digest(extracted, b"qfl mask stream\x01", hashlib.sha256)
    block = Cipher(AES(key), ECB()).encryptor()
    count = -(-length // 4)
    stream = b"".join(block.update(i.to_bytes(16, "big")) for i in range(count))
    return [int.from_bytes(stream[4 * i : 4 * i + 4], "little") for i in range(length)]


@pytest.mark.parametrize("length", [0, 1, 5, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 7])
def test_masks_are_added_and_subtracted(length: int) -> None:
    total = np.random.default_rng(1).integers(0, 2**32, length, dtype=np.uint32)
    expected = [
        (value + a - b) % 2**32
        for value, a, b in zip(
            total.tolist(), mask_by_blocks(SEED, length), mask_by_blocks(OTHER, length), strict=True
        )
    ]
    change_masks(total, [SEED], [OTHER])
    assert total.tolist() == expected


def test_what_is_added_and_subtracted_cancels() -> None:
    total = np.arange(CHUNK + 3, dtype=np.uint32)
    change_masks(total, [SEED, OTHER])
    assert (total != np.arange(CHUNK + 3)).mean() > 0.999
    change_masks(total, [], [OTHER, SEED])
    assert (total == np.arange(CHUNK + 3)).all()
