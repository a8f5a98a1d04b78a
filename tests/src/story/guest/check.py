# Looks at what a writer left behind. Standard input says what was promised; what is wrong is printed, one line each.
import json, os, sqlite3, subprocess, sys

root = sys.argv[1]
promised = json.load(sys.stdin)
os.chdir(root)
wrong = []
found = {}


def must(holds, words):
    if not holds:
        wrong.append(words)


for kind in ("synced", "written"):
    names = [name for name in os.listdir("load") if name.startswith(kind + "-")]
    numbers = sorted(int(name.split("-")[1]) for name in names)
    for number in range(promised[kind]):
        path = f"load/{kind}-{number}"
        if not os.path.exists(path):
            wrong.append(f"{path} is gone")
        else:
            must(open(path, "rb").read() == content(kind, number), f"{path} is not what was written")
    for number in numbers:
        # Whatever is there beyond the promise may be short, but never wrong.
        got = open(f"load/{kind}-{number}", "rb").read()
        must(content(kind, number).startswith(got), f"load/{kind}-{number} has bytes that nobody wrote")
    must(numbers == list(range(len(numbers))), f"a later {kind} file is there and an earlier one is not: {numbers}")
    found[kind] = len(numbers)

with open("load/stream", "rb") as stream:
    number, length = 0, os.fstat(stream.fileno()).st_size
    must(length >= promised["block"] * BLOCK, f"load/stream has {length} bytes of {promised['block'] * BLOCK}")
    while got := stream.read(BLOCK):
        if not content("block", number).startswith(got):
            wrong.append(f"load/stream has bytes that nobody wrote in block {number}")
            break
        number += 1
    found["block"] = number

database = sqlite3.connect("load/rows.db")
check = database.execute("PRAGMA integrity_check").fetchone()[0]
must(check == "ok", f"load/rows.db: {check}")
rows = database.execute("SELECT id, body FROM rows ORDER BY id").fetchall()
must(len(rows) >= promised["row"], f"load/rows.db has {len(rows)} rows of {promised['row']}")
must(all(row == (number, content("row", number)) for number, row in enumerate(rows)), "load/rows.db has other rows")
found["row"] = len(rows)


def git(*words):
    done = subprocess.run(["git", "-C", "mooring", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout.decode().strip()


code, said = git("fsck", "--full", "--strict")
must(code == 0 and not [line for line in said.splitlines() if not line.startswith("dangling")], f"git fsck: {said}")
if promised["commit"]:
    code, said = git("merge-base", "--is-ancestor", promised["commit"], "HEAD")
    must(code == 0, f"commit {promised['commit']} is not in HEAD: {said}")
found["commit"] = int(git("rev-list", "--count", promised["head"] + "..HEAD")[1])
code, said = git("status", "--porcelain")
must(code == 0, f"git status: {said}")

print(json.dumps({"wrong": wrong, "found": found}))
