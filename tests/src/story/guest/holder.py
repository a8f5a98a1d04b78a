# Holds a file open and reads it again and again; says when the last read that got bytes began and ended, and how
# reading was refused. After `told` it tries everything once more.
import errno, json, sys, time

path = sys.argv[1]
ears = Ears()
fd = os.open(path, os.O_RDONLY)
size = os.fstat(fd).st_size
reads, last, refused = 0, (0, 0), None
offset = 0


def refusal(attempt):
    """The name of the error, or nothing when it went through."""
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))
    return None


print("holding", size, flush=True)
told = False
while not told:
    # The pause between two reads: a program that reads a file is not a program that burns its processor.
    heard = ears.lines(0.001)
    told = heard is None or "told" in heard
    if refused:
        continue
    began = time.monotonic_ns()
    try:
        got = os.pread(fd, 4096, offset)
    except OSError as error:
        refused = {"error": errno.errorcode.get(error.errno, str(error.errno)), "at": time.monotonic_ns()}
        continue
    if got:
        reads, last = reads + 1, (began, time.monotonic_ns())
    offset = (offset + 4096) % size

after = [refusal(lambda: os.pread(fd, 4096, start)) for start in range(0, size, 1 << 20)]
after.append(refusal(lambda: open(path, "rb").read(1)))
print(json.dumps({"reads": reads, "began": last[0], "ended": last[1], "refused": refused, "after": after}), flush=True)
