# Answers `clock` with this machine's monotonic clock and hands every other line on.
import os, select, sys, time


class Ears:
    def __init__(self):
        self.rest = b""

    def lines(self, wait):
        """The lines that have come, waiting at most so many seconds for the first; None at the end of input."""
        if not select.select([0], [], [], wait)[0]:
            return []
        got = os.read(0, 4096)
        if not got:
            return None
        *whole, self.rest = (self.rest + got).split(b"\n")
        others = []
        for line in whole:
            if line == b"clock":
                print("clock", time.monotonic_ns(), flush=True)
            else:
                others.append(line.decode())
        return others
