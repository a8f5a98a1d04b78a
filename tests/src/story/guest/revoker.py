# Revokes a share by the command a user would type, and says when the command began and when it returned.
import json, subprocess, sys, time

ears = Ears()
while "go" not in (ears.lines(1.0) or []):
    pass
began = time.monotonic_ns()
done = subprocess.run(["mooring-agent", "--json", "share", "revoke", sys.argv[1]], stdout=subprocess.PIPE, check=True)
returned = time.monotonic_ns()
print(json.dumps({"began": began, "returned": returned, "answer": json.loads(done.stdout)}), flush=True)
