"""How much memory this machine gives, so that what cannot fit is refused before the system ends the process."""

import os
from pathlib import Path

LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where Linux says how much a container may use (a number, or "max")."""


def total() -> int | None:
    """Bytes that the machine has, or that its container may use; None where the system does not say."""
    try:
        found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    except (AttributeError, OSError, ValueError):
        return None
    for path in map(Path, LIMITS):
        try:
            found.append(int(path.read_text()))
        except (OSError, ValueError):
            continue
    return min(found)


def too_large(key: str, needed: int, advice: str) -> str | None:
    """One line if `needed` bytes are more than there are, else None."""
    there = total()
    if there is None or needed <= there:
        return None
    return (
        f"{key} needs about {needed / 2**30:,.0f} GB of memory, and this machine has {there / 2**30:,.0f} GB; {advice}"
    )
