"""`starttls scan` of 10,000 loopback targets, to the hand-written client in the same number of threads.

Usage: scan.py FLOOR_PROGRAM PORT CA_FILE DIRECTORY. Both run twice, by turns; the lower time of each counts.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

TARGETS = 10_000
JOBS = 16


def run(command: list[str]) -> tuple[float, float]:
    """Seconds, and the peak of resident memory in MiB."""
    begun = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert child.stderr is not None
    said = child.stderr.read()
    _, status, used = os.wait4(child.pid, 0)
    spent = time.perf_counter() - begun
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{command[0]}: exit {child.returncode}: {said.decode(errors='replace')[-500:]}")
    return spent, used.ru_maxrss / 1024


def main() -> None:
    floor_program, port, ca_file, directory = sys.argv[1:]
    listed = Path(directory) / "targets"
    listed.write_text(f"smtp://localhost:{port}\n" * TARGETS)
    scan = [str(Path(sys.executable).parent / "starttls"), "scan", "--json", "--level", "verify"]
    scan += ["--ca-file", ca_file, "--jobs", str(JOBS), "--per-network", str(JOBS), str(listed)]
    floor = [floor_program, port, ca_file, str(JOBS), str(TARGETS)]
    floors, ours = [], []
    for _ in range(2):
        floors.append(run(floor))
        ours.append(run(scan))
    base, _ = min(floors)
    spent, _ = min(ours)
    memory = max(m for _, m in ours)
    print(f"{TARGETS} targets, {JOBS} at once: {base / spent:.2f} of the rate ({TARGETS / spent:.0f} a second),")
    print(f"    peak memory {memory:.0f} MiB (the floor's {max(m for _, m in floors):.0f})")


if __name__ == "__main__":
    main()
