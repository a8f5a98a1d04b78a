# Writes without end, in five ways at once, and says after each write what it has done:
#   synced N    a file, fsynced              written N   a file, closed, not fsynced
#   block N     appended to one long file    row N       a transaction of SQLite
#   commit ID   a commit of git
# A line is printed only when the call that it stands for has returned.
import os, sqlite3, subprocess, sys, threading, time

root = sys.argv[1]
# Between two writes that wait for nothing: without it they would keep the one processor from all others.
PAUSE = 0.02
os.chdir(root)
os.makedirs("load", exist_ok=True)
mouth = threading.Lock()


def say(*words):
    with mouth:
        print(*words, flush=True)


def files(kind, sync):
    number = 0
    while True:
        with open(f"load/{kind}-{number}", "wb") as file:
            file.write(content(kind, number))
            file.flush()
            if sync:
                os.fsync(file.fileno())
        say(kind, number)
        number += 1
        time.sleep(PAUSE)


def blocks():
    with open("load/stream", "wb", buffering=0) as file:
        number = 0
        while True:
            file.write(content("block", number))
            say("block", number)
            number += 1
            time.sleep(PAUSE)


def rows():
    database = sqlite3.connect("load/rows.db", isolation_level=None)
    database.execute("CREATE TABLE IF NOT EXISTS rows(id INTEGER PRIMARY KEY, body BLOB)")
    number = 0
    while True:
        database.execute("INSERT INTO rows VALUES(?, ?)", (number, content("row", number)))
        say("row", number)
        number += 1


def commits():
    def git(*words):
        done = subprocess.run(["git", "-C", "mooring", *words], check=True, stdout=subprocess.PIPE)
        return done.stdout.decode().strip()

    number = 0
    while True:
        with open("mooring/log.txt", "ab") as file:
            file.write(content("commit", number).hex().encode() + b"\n")
        git("add", "log.txt")
        git("commit", "-q", "-m", f"entry {number}")
        say("commit", git("rev-parse", "HEAD"))
        number += 1


def watched(work, *words):
    try:
        work(*words)
    except BaseException as error:
        print(f"{work.__name__}: {error!r}", file=sys.stderr, flush=True)
        os._exit(1)


for work in [(files, "synced", True), (files, "written", False), (blocks,), (rows,), (commits,)]:
    threading.Thread(target=watched, args=work).start()
