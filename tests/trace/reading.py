"""A program that reads a growing run again and again: reading.py FILE LAST MARK, until it has the step LAST."""

import sys
import time
from pathlib import Path

from unstuck.trace.store import read

if __name__ == "__main__":
    reads, steps = 0, -1
    while steps < int(sys.argv[2]):
        trace = read(Path(sys.argv[1])).trace
        known = trace.steps[-1] if trace.steps else -1
        assert known >= steps
        assert trace.steps == list(range(known + 1)) == list(trace.objective)
        assert {call.step for call in trace.loss_calls} == set(trace.steps)
        reads, steps = reads + 1, known
        Path(sys.argv[3]).touch()
        time.sleep(0.001)
    sys.stdout.write(str(reads))
