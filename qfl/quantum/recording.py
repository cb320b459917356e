"""One thread at a time in PennyLane's machinery.

PennyLane records circuits in a list that belongs to the class: two threads that record, or make
circuits for gradients, at the same time could take each other's gates.
"""

from __future__ import annotations

import threading

RECORDING = threading.RLock()
