"""A model that does what its first feature says."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np


class Misbehaving:
    """Raises, dies or hangs; else its second feature is the probability, and every call is written down."""

    classes_ = np.array(["high", "usual"])

    def __init__(self, log: str) -> None:
        self.log = log

    def predict_proba(self, rows: Any) -> Any:
        with Path(self.log).open("a") as file:
            file.write(f"{len(rows)}\n")
        for what in rows[:, 0]:
            if what == 901:
                raise ValueError("secret-value-4711")
            if what == 902:
                os._exit(9)
            if what == 903:
                time.sleep(60)
            if what == 904:
                time.sleep(0.2)
            if what == 905:
                return np.empty((0, 2))
            if what == 907:  # what may not be had at all
                bytearray(8 << 30)
            if what == 908:  # what is kept, past what the process may have
                self.kept = np.ones(250 << 17)
            if what == 906:
                return np.full((len(rows), 2), object())
        share = rows[:, 1] / 100
        return np.column_stack([share, 1 - share])

    def predict(self, rows: Any) -> Any:
        return np.where(rows[:, 1] > 90, "high", "usual")
