"""Server side: how a round is run and what is done with the opened mean."""

from __future__ import annotations

from qfl.server_optimizer import (
    FedAdam,
    FedAvg,
    FedAvgM,
    FedYogi,
    ServerOptimizer,
)
from qfl.strategies.aggregation import Aggregation
from qfl.strategies.convergence import ConvergenceMonitor
from qfl.strategies.events import (
    BudgetSpent,
    ClientReplied,
    ClientsSelected,
    Countersigned,
    Event,
    Joined,
    NotJoined,
    RoundFinished,
    SetupFinished,
    StandingChanged,
    SumOpened,
)
from qfl.strategies.privacy import Privacy
from qfl.strategies.secure import SecureStrategy
from qfl.strategies.selection import (
    SelectAll,
    SelectBySize,
    SelectCount,
    SelectFraction,
    Selection,
)
from qfl.strategies.selective import Selective
from qfl.strategies.session import Session
from qfl.strategies.signed_grid import SignedGrid
from qfl.strategies.state import ServerState
from qfl.strategies.sums import Sums

__all__ = [
    "Aggregation",
    "BudgetSpent",
    "ClientReplied",
    "ClientsSelected",
    "ConvergenceMonitor",
    "Countersigned",
    "Event",
    "FedAdam",
    "FedAvg",
    "FedAvgM",
    "FedYogi",
    "Joined",
    "NotJoined",
    "Privacy",
    "RoundFinished",
    "SecureStrategy",
    "SelectAll",
    "SelectBySize",
    "SelectCount",
    "SelectFraction",
    "Selection",
    "Selective",
    "ServerOptimizer",
    "ServerState",
    "Session",
    "SetupFinished",
    "SignedGrid",
    "StandingChanged",
    "SumOpened",
    "Sums",
]
