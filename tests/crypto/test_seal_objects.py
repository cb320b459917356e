"""Files for SEAL, in memory or temporary, and templates that hold what SEAL itself would write."""

from __future__ import annotations

import os
import stat
from typing import Any

import numpy as np
import pytest

from qfl.crypto import seal_objects
from qfl.crypto.rlwe_ring import Ring, seal_ring
from qfl.crypto.seal_objects import SealFile
from qfl.errors import PayloadError


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Any:
    """As on systems without files in memory."""
    monkeypatch.setattr(seal_objects, "_in_memory", lambda: False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_without_files_in_memory_temporary_ones_serve(on_disk: Any, small: Any) -> None:
    seen = []
    original = SealFile.write

    def watched(file: SealFile, *parts: Any, start: int = 0) -> None:
        assert file.path.startswith(str(on_disk))
        assert stat.S_IMODE(os.stat(file.path).st_mode) == 0o600
        seen.append(file.path)
        original(file, *parts, start=start)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SealFile, "write", watched)
        body = small.sum_of([np.arange(100), np.arange(100)])
        assert small.open(body, 100).tolist() == (2 * np.arange(100)).tolist()
    assert seen
    assert os.listdir(on_disk) == []


def test_a_temporary_file_is_overwritten_before_it_goes(on_disk: Any) -> None:
    file = SealFile()
    kept = os.open(file.path, os.O_RDONLY)
    file.write(b"a secret key")
    file.close()
    assert os.read(kept, 100) == bytes(12)
    os.close(kept)


def test_templates_are_what_seal_reads_and_writes() -> None:
    import tenseal.sealapi as seal

    ring = seal_ring(Ring("CKKS", 2048, (40, 14)))
    values = np.random.default_rng(0).integers(0, ring.prime, 4096, dtype=np.uint64)
    ciphertext = seal.Ciphertext()
    with SealFile() as file:
        ring.ciphertext.load(ciphertext, ring.context, file, values)
        assert [ciphertext[i] for i in range(4096)] == values.tolist()
        assert (ring.ciphertext.values(file.save(ciphertext)) == values).all()


def test_seal_is_never_given_fewer_coefficients_than_it_will_read() -> None:
    import tenseal.sealapi as seal

    ring = seal_ring(Ring("CKKS", 2048, (40, 14)))
    with SealFile() as file, pytest.raises(PayloadError, match="SEAL reads 4096"):
        ring.ciphertext.load(seal.Ciphertext(), ring.context, file, np.zeros(5, np.uint64))


def test_a_seed_is_expanded_as_seal_does() -> None:
    import tenseal.sealapi as seal

    ring = seal_ring(Ring("CKKS", 2048, (36,)))
    generator = seal.KeyGenerator(ring.context)
    encryptor = seal.Encryptor(ring.context, generator.secret_key())
    theirs, ours = seal.Ciphertext(), seal.Ciphertext()
    with SealFile() as file:
        body = file.save(encryptor.encrypt_zero_symmetric())
        theirs.load(ring.context, file.path)
        ring.seeded.load(ours, ring.context, file, ring.seeded.values(body), body[-64:])
    assert [ours[i] for i in range(4096)] == [theirs[i] for i in range(4096)]
