"""Which of many numbers repeat: sorted in memory, a fraction of the time that a hash table of them takes.

Keys of any type come as hashes of 64 bits. Equal keys have equal hashes, so where no hash repeats no key does; where
some do, only rows with these need a second look, which tells keys apart that merely share a hash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

MOST_ROWS = 16_000_000  # 256 MB, with the copy that is sorted; of more the engine counts, which can spill
MOST_REPEATED = 10_000  # more of them are found by the engine as well


def repeated(column: pa.ChunkedArray) -> list[int] | None:
    """The numbers that are there more than once, in their order; None for more than MOST_REPEATED."""
    import numpy as np  # noqa: PLC0415  heavy

    if not len(column):
        return []
    numbers = np.empty(len(column), dtype=column.type.to_pandas_dtype())
    at = 0
    for chunk in column.chunks:
        numbers[at : at + len(chunk)] = chunk.to_numpy()
        at += len(chunk)
    numbers.sort()
    again = np.unique(numbers[1:][numbers[1:] == numbers[:-1]])
    return [int(number) for number in again] if len(again) <= MOST_REPEATED else None
