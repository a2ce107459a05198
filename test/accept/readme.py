#!/usr/bin/env python3
"""The README's ten minutes, command by command, as a reader types them, and what comes compared with what it shows.

  test/accept/readme.py

A line fits where it differs in numbers, ids and fingerprints alone. Only the cloud's directory, port and pool are the test's
own (environment PORT, POOL). Needs root, aws, curl, ssh and a bin/skerry. It ends with 'N passed, M failed', and exit status 1 if any failed.
"""
import os, re, shlex, subprocess, sys, tempfile

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
port, pool = os.environ.get("PORT", "4595"), os.environ.get("POOL", "127.93.0.0/16")
work = tempfile.mkdtemp(prefix="skerry-readme.")
data, skerry = work + "/data", os.path.abspath("bin/skerry")

steps, step = [], None  # [command, lines that it shows]
lines = iter(open("README.md").read().split("\n"))
for line in lines:
    if line.startswith("    $ "):
        step = [line[6:], []]
        steps.append(step)
        here = re.search(r"<<'(\w+)'", line)
        while step[0].endswith("\\") or here and not step[0].endswith("\n" + here[1]):
            step[0] += "\n" + next(lines)[4:]
    elif line.startswith("    ") and step:
        step[1].append(line[4:])
    else:
        step = None
steps = [s for s in steps if s[0] != "make build"]


def own(command):
    command = command.replace("--data-dir /var/lib/skerry", "--data-dir " + data)
    command = re.sub(r"bin/skerry env", "bin/skerry env --data-dir " + data, command)
    command = re.sub(r"(skerry up --data-dir \S+) --egress", rf"\1 --listen 127.0.0.1:{port} --public-pool {pool} --egress", command)
    return command.replace("bin/skerry", skerry)


def plain(line):
    line = re.sub(r"SHA256:\S+|\bi?-?[0-9a-f]{17}\b", "X", line)
    line = re.sub(r"on Linux \S+", "on Linux", line)
    return re.sub(r"\d+(\.\d+)*", "0", line).strip()


mark = "=== done "
script = 'sudo() { "$@"; }\ncurl() { command curl -sS "$@"; }\n' + "".join(f"{own(c)}\necho; echo {shlex.quote(mark)}$?\n" for c, _ in steps)
env = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")} | {"AWS_PAGER": "", "HOME": work}
try:
    with open(work + "/steps", "w") as f:  # a file: what is on bash's command line would be found by the README's pkill
        f.write(script)
    got = subprocess.run(["bash", "steps"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=work, env=env, timeout=500).stdout
finally:
    subprocess.run([skerry, "down", "--data-dir", data, "--purge"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    subprocess.run(["rm", "-rf", work])

failed = 0
outputs = got.split(mark)
if len(outputs) != len(steps) + 1:
    print("FAIL  it ended early:", outputs[-1])
    sys.exit(1)
for (command, wanted), out in zip(steps, outputs):
    shown = [l for l in re.sub(r"^\d+\n", "", out).split("\n") if l.strip()]
    if [plain(l) for l in shown] == [plain(l) for l in wanted]:
        print("ok   ", command.split("\n")[0])
    else:
        failed += 1
        print("FAIL ", command, "\n  wanted", *wanted, "\n  got", *shown, sep="\n  ")
print(f"{len(steps) - failed} passed, {failed} failed")
sys.exit(failed != 0)
