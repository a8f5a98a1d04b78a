# What a file with this number must contain: told by its number alone, so that any byte can be checked after a crash.
import hashlib

BLOCK = 64 << 10


def content(kind, number):
    seed = hashlib.sha256(f"{kind} {number}".encode()).digest()
    size = BLOCK if kind == "block" else 1000 + number * 7919 % (120 << 10)
    return (seed * (size // len(seed) + 1))[:size]
