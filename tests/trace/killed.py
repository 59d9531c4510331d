"""A program that records a run until it is killed: killed.py FILE LOG. The log names the steps handed over."""

import os
import sys
import time
from pathlib import Path

from recorded import fill

from unstuck.trace import Trace
from unstuck.trace import trace as limits
from unstuck.trace.recording import Recording

MAX_STEPS = 60  # so that thinning happens often

if __name__ == "__main__":
    limits.MAX_SAMPLED_STEPS = MAX_STEPS
    log = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    recording, trace = Recording(Path(sys.argv[1])), Trace()
    recording.follow(trace)
    for step in range(1_000_000):
        while recording.written < step:  # sampled steps are further apart than writing one takes
            time.sleep(0.0002)
        fill(trace, step)
        recording.hand_over(trace, {"run": {"title": "killed.py", "steps": step + 1}})
        os.write(log, f"{step}\n".encode())
