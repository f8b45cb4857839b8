"""What a run is made on: processor, memory, GPU and system.

Also the commit of this program, where it runs from a checkout.
"""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path


def now() -> str:
    """The present moment in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def hardware() -> dict[str, str | int | float | None]:
    """Processor, cores that this process may use, memory in GiB, GPU, and system.

    The GPU is None where there is no torch, or no card.
    """
    return {
        "cpu": _processor(),
        "cores": _cores(),
        "memory_gib": _memory(),
        "gpu": _gpu(),
        "system": f"{platform.system()} {platform.release()}",
    }


def commit() -> str | None:
    """The commit that the package's checkout stands at; None where it is installed without one.

    Read from the files of git, without starting it; changes that were not committed are not seen.
    """
    for folder in Path(__file__).resolve().parents:
        if (folder / ".git").exists():
            return _head(folder / ".git")
    return None


def _head(git: Path) -> str | None:
    try:
        if git.is_file():  # a worktree: the file names its own folder of the repository
            git = Path(git.read_text(encoding="utf-8").removeprefix("gitdir:").strip())
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref:"):
            return head
        reference = head.removeprefix("ref:").strip()
        # Branches of a worktree lie in the folder of the repository, not in its own.
        common = git / "commondir"
        folders = [git]
        if common.is_file():
            folders.append((git / common.read_text(encoding="utf-8").strip()).resolve())
        for folder in folders:
            if (folder / reference).is_file():
                return (folder / reference).read_text(encoding="utf-8").strip()
            # git packs references that rest into one file.
            packed = folder / "packed-refs"
            lines = packed.read_text(encoding="utf-8").splitlines() if packed.is_file() else []
            known = [line.split()[0] for line in lines if line.endswith(f" {reference}")]
            if known:
                return known[0]
    except OSError:
        return None
    return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _cores() -> int:
    # A container or `taskset` may allow fewer cores than the machine has.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> float | None:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
    return round(size / 2**30, 1)


def _gpu() -> str | None:
    try:
        import torch
    except ImportError:
        return None
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None
