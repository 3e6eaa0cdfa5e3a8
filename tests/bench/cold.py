"""Cold processes, one of each in turn: cold.py PROGRAM PORT. A ratio below 1 means that ours is faster."""

import statistics
import subprocess
import sys
import time


def run(side: str) -> float:
    before = time.perf_counter()
    subprocess.run([sys.argv[1], side, sys.argv[2]], check=True)
    return time.perf_counter() - before


run("floor")
run("ours")
pairs = [(run("floor"), run("ours")) for _ in range(30)]
low, middle, high = statistics.quantiles([ours / floor for floor, ours in pairs], n=4)
floor, ours = (statistics.median(times) * 1e3 for times in zip(*pairs, strict=True))
print(f"{'time to first session':<34} wall  {middle:5.2f}  [{low:.2f} .. {high:.2f}]  goal at most 0.50")
print(f"{'':<34} floor: {floor:.1f} ms, ours: {ours:.1f} ms")
