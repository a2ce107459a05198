"""Shared parts of the load-balancer benches: sandbox, processes, anchors, CPU accounting, ratios, goals."""
import argparse
import ctypes
import json
import os
import re
import resource
import shlex
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TICK = os.sysconf("SC_CLK_TCK")
BACKENDS = ("127.0.0.1:9001", "127.0.0.1:9002")
ANCHORS = ("haproxy", "nginx")
SIZE = {"/s": 128, "/l": 16384}
libc = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def die(msg, code=2):
    print(f"{os.path.basename(sys.argv[0])}: {msg}", file=sys.stderr)
    sys.exit(code)


def need(*tools):
    if os.geteuid():
        die("needs root (network namespaces)")
    missing = [t for t in tools if not shutil.which(t)]
    if missing:
        die("not installed: " + ", ".join(missing) + " (see README.md)")


# ---- sandbox -------------------------------------------------------------------------------------

def on_signals(fn):
    for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(s, fn)


def stop_on_signals():
    def stop(*_):
        on_signals(signal.SIG_IGN)  # the clean-up is not to be cut short
        sys.exit(130)
    on_signals(stop)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # a proxy that daemonises stays ours
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 200000), hard))


def rerun(argv, nice):
    """Run argv in a session of its own, pass signals on, return its exit code."""
    def pre():
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        os.setsid()  # own scheduler autogroup
        if nice:
            try:
                with open("/proc/self/autogroup", "w") as f:
                    f.write("-10")
            except OSError:
                pass
    child = subprocess.Popen(argv, preexec_fn=pre)
    on_signals(lambda *_: child.poll() is None and child.send_signal(signal.SIGTERM))
    while True:
        try:
            return child.wait()
        except InterruptedError:
            pass


def sandbox(nice=False):
    """Run the rest of this program in a fresh network namespace; returns only inside it."""
    if os.environ.get("LBBENCH_NS"):
        stop_on_signals()
        for path, value in (("ipv4/ip_local_port_range", "10000 65000"), ("core/somaxconn", "8192"),
                            ("ipv4/tcp_max_syn_backlog", "8192"), ("ipv4/tcp_tw_reuse", "1")):
            try:
                with open("/proc/sys/net/" + path, "w") as f:
                    f.write(value)
            except OSError:
                pass
        return
    need("ip")
    ns = f"lbbench-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", ns], check=True)
    try:
        subprocess.run(["ip", "-n", ns, "link", "set", "lo", "up"], check=True)
        os.environ["LBBENCH_NS"] = ns
        code = rerun(["ip", "netns", "exec", ns, sys.executable, "-B", os.path.abspath(sys.argv[0])] + sys.argv[1:], nice)
    finally:
        on_signals(signal.SIG_IGN)
        subprocess.run(["ip", "netns", "del", ns])
    sys.exit(code if code >= 0 else 128 - code)


class Work:
    """Temporary directory plus the processes started from it; both end with the with block."""

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="lbbench-")
        os.chmod(self.dir, 0o711)  # nginx workers drop privileges
        self.procs = []
        return self

    def __exit__(self, *_):
        on_signals(signal.SIG_IGN)
        for p in reversed(self.procs):
            self.stop(p)
        me = os.getpid()
        for pid in tree(me)[1:]:  # what daemonised
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        shutil.rmtree(self.dir, ignore_errors=True)

    def path(self, name, text=None):
        p = os.path.join(self.dir, name)
        if text is not None:
            with open(p, "w") as f:
                f.write(text)
        return p

    def spawn(self, argv, cpus=None, log="log"):
        def pre():
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            if cpus:
                os.sched_setaffinity(0, cpus)
        with open(self.path(log), "ab") as f:
            p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=f, stderr=f, preexec_fn=pre)
        self.procs.append(p)
        return p

    def stop(self, p):
        pids = tree(p.pid)[1:] if p.poll() is None else []
        if p.poll() is None:
            p.terminate()
            try:
                p.wait(5)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        for pid in pids:
            if os.getpid() in ancestors(pid):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        if p in self.procs:
            self.procs.remove(p)

    def cc(self, name):
        out = self.path(name)
        subprocess.run(["cc", "-O2", "-o", out, os.path.join(HERE, name + ".c")], check=True)
        return out

    def cert(self):
        cert, key = self.path("cert.pem"), self.path("key.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-days", "30", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                        "-keyout", key, "-out", cert], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return cert, key


# ---- /proc ---------------------------------------------------------------------------------------

def stat(pid):
    with open(f"/proc/{pid}/stat") as f:
        return f.read().rsplit(")", 1)[1].split()


def parents():
    out = {}
    for p in os.listdir("/proc"):
        if p.isdigit():
            try:
                out[int(p)] = int(stat(p)[1])
            except (OSError, IndexError):
                pass
    return out


def tree(root):
    kids = {}
    for pid, pp in parents().items():
        kids.setdefault(pp, []).append(pid)
    out = [root]
    for pid in out:
        out += kids.get(pid, [])
    return out


def ancestors(pid):
    up, out = parents(), []
    while pid in up and up[pid]:
        pid = up[pid]
        out.append(pid)
    return out


def cpu(pids):
    """(user, system) seconds of pids: all threads, and children that have ended."""
    u = s = 0
    for p in pids:
        try:
            f = stat(p)
        except OSError:
            continue
        u += int(f[11]) + int(f[13])
        s += int(f[12]) + int(f[14])
    return u / TICK, s / TICK


def rss(pids):
    kb = 0
    for p in pids:
        try:
            with open(f"/proc/{p}/status") as f:
                kb += sum(int(l.split()[1]) for l in f if l.startswith("VmRSS:"))
        except OSError:
            pass
    return kb


# ---- proxies -------------------------------------------------------------------------------------

HEADERS_NGINX = """proxy_pass http://b; proxy_http_version 1.1; proxy_set_header Connection %(conn)s; proxy_set_header Host $http_host;
   proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;
   proxy_set_header X-Forwarded-Port $server_port; proxy_set_header X-Amzn-Trace-Id Root=1-$request_id;
   proxy_buffers 8 32k; proxy_buffer_size 32k;"""

NGINX = """worker_processes %(threads)d; daemon off; pid %(dir)s/nginx.pid; error_log %(dir)s/nginx.err crit;
worker_rlimit_nofile %(fds)d;
events { worker_connections %(maxconn)d; multi_accept on; use epoll; }
http {
 access_log off; keepalive_requests 100000000; keepalive_timeout 300s; tcp_nodelay on; sendfile on; server_tokens off;
 client_max_body_size 0;
 client_body_temp_path %(dir)s/ngx_b; proxy_temp_path %(dir)s/ngx_p; fastcgi_temp_path %(dir)s/ngx_f;
 uwsgi_temp_path %(dir)s/ngx_u; scgi_temp_path %(dir)s/ngx_s;
 %(map)s
 upstream b { server %(b1)s max_fails=0; server %(b2)s max_fails=0; keepalive 1024; keepalive_requests 100000000; keepalive_timeout 300s; }
 ssl_certificate %(cert)s; ssl_certificate_key %(key)s; ssl_protocols TLSv1.3 TLSv1.2;
 ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256; ssl_session_cache off; ssl_session_tickets %(ngx_tickets)s;
 server {
  listen %(http)s backlog=4096; listen %(https)s ssl http2 backlog=4096; server_name localhost 127.0.0.1;
  location /s { %(headers)s }
  location /l { %(headers)s }
  location / { return 404; }
 }
}
"""

HAPROXY = """global
  nbthread %(threads)d
  maxconn %(maxconn)d
  ssl-default-bind-options ssl-min-ver TLSv1.2 %(ha_tickets)s
  ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256
  tune.ssl.cachesize 0
  tune.bufsize 32768
defaults
  mode http
  maxconn %(maxconn)d
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  option http-keep-alive
  http-reuse always
  retries 1
frontend f
  bind %(http)s backlog 4096
  bind %(https)s ssl crt %(pem)s alpn h2,http/1.1 backlog 4096
  acl h hdr(host) -m beg 127.0.0.1 localhost
  use_backend s if h { path_beg /s }
  use_backend l if h { path_beg /l }
  default_backend none
backend none
  http-request return status 404
"""

HAPROXY_BACKEND = """backend %(name)s
  option forwardfor
  http-request set-header X-Forwarded-Proto %%[ssl_fc,iif(https,http)]
  http-request set-header X-Forwarded-Port %%[dst_port]
  http-request set-header X-Amzn-Trace-Id Root=1-%%[date,hex]-%%[rand(2147483647),hex]
  server s1 %(b1)s pool-max-conn 1024
  server s2 %(b2)s pool-max-conn 1024
"""


class Proxy:
    def __init__(self, work, name, cmd, index, threads, cpus, upgrade=False, tickets=False):
        self.work, self.name, self.cpus, self.threads = work, name, cpus, threads
        self.anchor = cmd is None
        self.first = False  # gets the CPU of daemonised processes
        self.ports = {"http": 8001 + index, "https": 8441 + index}
        cert, key = work.path("cert.pem"), work.path("key.pem")
        fds = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 60000)
        v = {"fds": fds, "maxconn": (fds - 500) // 2, "http": f"127.0.0.1:{8001 + index}", "https": f"127.0.0.1:{8441 + index}", "b1": BACKENDS[0], "b2": BACKENDS[1],
             "cert": cert, "key": key, "threads": threads, "dir": work.dir,
             "ngx_tickets": "on" if tickets else "off", "ha_tickets": "" if tickets else "no-tls-tickets"}
        if name == "nginx" and self.anchor:
            v["map"] = "map $http_upgrade $conn { default upgrade; '' ''; }" if upgrade else ""
            v["headers"] = HEADERS_NGINX % {"conn": "$conn" if upgrade else '""'}
            if upgrade:
                v["headers"] += " proxy_set_header Upgrade $http_upgrade;"
            self.argv = ["nginx", "-c", work.path("nginx.conf", NGINX % v)]
        elif name == "haproxy" and self.anchor:
            with open(cert) as c, open(key) as k:
                v["pem"] = work.path("all.pem", c.read() + k.read())
            cfg = HAPROXY % v + "".join(HAPROXY_BACKEND % dict(v, name=n) for n in "sl")
            self.argv = ["haproxy", "-db", "-f", work.path("haproxy.cfg", cfg)]
        else:
            conf = work.path(f"{name}.json", json.dumps({"http": v["http"], "https": v["https"], "backends": BACKENDS,
                                                         "cert": cert, "key": key}, indent=1) + "\n")
            sub = {"{http}": v["http"], "{https}": v["https"], "{backend1}": BACKENDS[0], "{backend2}": BACKENDS[1],
                   "{cert}": cert, "{key}": key, "{conf}": conf, "{threads}": str(threads)}
            self.argv = []
            for word in shlex.split(cmd):
                for k, x in sub.items():
                    word = word.replace(k, x)
                self.argv.append(word)
            if self.argv and re.match(r"\w+=", self.argv[0]):
                self.argv.insert(0, "env")
        self.proc = None

    def start(self, scheme="http", wait=15):
        try:
            self.proc = self.work.spawn(self.argv, self.cpus, self.name + ".log")
        except OSError as e:
            die(f"{self.name}: {e}")
        end = time.time() + wait
        while time.time() < end:
            if self.proc.poll() not in (None, 0):
                break
            try:
                if get(self.ports[scheme], "/s", scheme)[0] == 200:
                    return self
            except (OSError, ValueError):
                pass
            time.sleep(0.05)
        why = f"ended with status {self.proc.poll()}" if self.proc.poll() is not None else f"no 200 for {scheme} /s in {wait} s"
        die(f"{self.name}: {why}\n  {shlex.join(self.argv)}\n{self.log()}")

    def stop(self):
        if self.proc:
            self.work.stop(self.proc)
            self.proc = None

    def log(self):
        try:
            with open(self.work.path(self.name + ".log"), errors="replace") as f:
                return f.read()[-2000:]
        except OSError:
            return ""

    def pids(self):
        out = tree(self.proc.pid)
        if self.first:
            known, up = {p.pid for p in self.work.procs}, parents()
            for pid, pp in up.items():
                if pp == os.getpid() and pid not in known:
                    out += tree(pid)
        return out


def spec(text):
    """NAME=COMMAND, or the name of a built-in anchor."""
    name, eq, cmd = text.partition("=")
    if not eq and name in ANCHORS:
        return name, None
    if not re.fullmatch(r"[\w.-]+", name) or not cmd.strip():
        raise argparse.ArgumentTypeError(f"want NAME='COMMAND ...' or one of {', '.join(ANCHORS)}")
    if name in ANCHORS:
        raise argparse.ArgumentTypeError(f"{name} is the name of a built-in proxy")
    return name, cmd


def parser(doc, rounds=7):
    ap = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--proxy", action="append", type=spec, default=[], metavar="NAME='COMMAND {http} ...'",
                    help="proxy under test; placeholders {http} {https} {backend1} {backend2} {cert} {key} {conf} {threads}; "
                         "may be repeated; haproxy and nginx alone name the built-in ones")
    ap.add_argument("--vs", default="haproxy,nginx", help="anchors, comma separated (default %(default)s; '' for none)")
    ap.add_argument("--rounds", type=int, default=rounds, help="paired rounds (default %(default)s)")
    ap.add_argument("--threads", type=int, default=1, help="threads or workers of the anchors, {threads} (default 1)")
    ap.add_argument("--pin", action="store_true", help="proxies on the first THREADS CPUs, load and backend on the rest")
    ap.add_argument("--nice", action="store_true", help="raise the priority of the bench over other work on this machine")
    ap.add_argument("--goal", action="append", default=[], type=Goal, metavar="EXPR",
                    help="METRIC[/PROXY]<=NUMBER or >=, for example 'cpu/haproxy<=0.60'; exit 1 when one falls short")
    ap.add_argument("--json", metavar="FILE", help="write the figures of every round")
    return ap


def cpusets(pin, threads):
    if not pin:
        return None, None
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) <= threads:
        die(f"--pin wants more than {threads} CPUs")
    return set(cpus[:threads]), set(cpus[threads:])


def make_proxies(work, args, cpus, upgrade=False, tickets=False):
    specs = list(args.proxy)
    for n in filter(None, args.vs.split(",")):
        if n not in ANCHORS:
            die(f"--vs: unknown {n}; there are {', '.join(ANCHORS)}")
        if n not in [s[0] for s in specs]:
            specs.append((n, None))
    if not specs:
        die("nothing to run: give --proxy or --vs")
    if len({s[0] for s in specs}) < len(specs):
        die("two proxies of the same name")
    need(*[n for n, c in specs if c is None])
    out = [Proxy(work, n, c, i, args.threads, cpus, upgrade, tickets) for i, (n, c) in enumerate(specs)]
    for p in out:
        if not p.anchor:
            p.first = True
            break
    return out


# ---- small HTTP client ---------------------------------------------------------------------------

def connect(port, scheme="http", host="127.0.0.1", timeout=5):
    s = socket.create_connection((host, port), timeout)
    if scheme == "https":
        cx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        cx.check_hostname, cx.verify_mode = False, ssl.CERT_NONE
        s = cx.wrap_socket(s, server_hostname="localhost")
    return s


def get(port, path, scheme="http", sock=None):
    """(status, head, body) of one GET with Content-Length."""
    s = sock or connect(port, scheme)
    try:
        s.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        b = b""
        while b"\r\n\r\n" not in b:
            k = s.recv(65536)
            if not k:
                raise ValueError("closed")
            b += k
        head, body = b.split(b"\r\n\r\n", 1)
        m = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        n = int(m.group(1)) if m else 0
        while len(body) < n:
            k = s.recv(65536)
            if not k:
                raise ValueError("closed")
            body += k
        return int(head[9:12]), head, body
    finally:
        if not sock:
            s.close()


def served():
    return int(get(9001, "/s/count")[2])


def preflight(p, path, scheme):
    """The proxy must deliver the whole body; a missing feature is worth a warning."""
    want = b"x" * SIZE[path[:2]]
    status, _, body = get(p.ports[scheme], path, scheme)
    if status != 200 or body != want:
        die(f"{p.name}: {scheme} {path}: status {status}, {len(body)} bytes instead of 200, {len(want)}")
    echo = [get(p.ports[scheme], "/s/echo", scheme)[2].decode("latin-1") for _ in range(8)]
    for h in ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-port", "x-amzn-trace-id"):
        if f"\n{h}:" not in echo[0].lower():
            print(f"warning: {p.name} adds no {h}; the anchors do, the comparison flatters it")
    if len({e.split("\n")[0] for e in echo}) < 2:
        print(f"warning: {p.name} used one backend only in 8 requests")


# ---- results -------------------------------------------------------------------------------------

class Goal:
    def __init__(self, text):
        m = re.fullmatch(r"\s*(\w+)(?:/([\w.-]+))?\s*(<=|>=|<|>)\s*([\d.]+)\s*", text)
        if not m:
            raise argparse.ArgumentTypeError(f"cannot read goal {text!r}: want METRIC[/PROXY]<=NUMBER")
        self.text, (self.metric, self.base, self.op), self.want = text.strip(), m.groups()[:3], float(m.group(4))

    def met(self, x):
        return {"<=": x <= self.want, ">=": x >= self.want, "<": x < self.want, ">": x > self.want}[self.op]


class Results:
    """rounds[name][i] is a dict of figures, or None for a rejected round."""

    def __init__(self, names, metrics, tested):
        self.rounds = {n: [] for n in names}
        self.metrics, self.tested = metrics, tested

    def add(self, name, figures, why=None):
        if why:
            print(f"rejected: {name} round {len(self.rounds[name]) + 1}: {why}", flush=True)
            figures = None
        self.rounds[name].append(figures)

    def check_goals(self, goals):
        """Goals that can never be judged are a mistake of the caller."""
        for g in goals:
            if g.metric not in self.metrics:
                die(f"goal {g.text}: unknown metric; there are {', '.join(self.metrics)}")
            if g.base and g.base not in self.rounds:
                die(f"goal {g.text}: {g.base} is not measured")
        if goals and not self.tested:
            die("goals without a proxy under test")

    def values(self, name, metric):
        return [r[metric] for r in self.rounds[name] if r and r.get(metric) is not None]

    def median(self, name, metric):
        v = self.values(name, metric)
        return statistics.median(v) if v else float("nan")

    def pairs(self, a, b, metric):
        return [x[metric] / y[metric] for x, y in zip(self.rounds[a], self.rounds[b])
                if x and y and x.get(metric) is not None and y.get(metric)]

    def table(self, digits):
        w = max(8, *map(len, self.rounds)) + 1
        print(" " * w + "".join(f"{self.metrics[m]:>13s}" for m in digits) + "   rounds")
        for n, rs in self.rounds.items():
            ok = sum(r is not None for r in rs)
            print(f"{n:{w}s}" + "".join(f"{self.median(n, m):13.{d}f}" for m, d in digits.items()) + f"   {ok}/{len(rs)}")

    def ratios(self, metrics, bases):
        names = [n for n in self.tested if any(b != n for b in bases)]
        if not names:
            return
        print("\npaired ratios, median [min..max] n")
        for n in names:
            for b in bases:
                if b == n:
                    continue
                out = []
                for m in metrics:
                    v = self.pairs(n, b, m)
                    out.append(f"{m} {statistics.median(v):.2f} [{min(v):.2f}..{max(v):.2f}] n={len(v)}" if v else f"{m} -")
                print(f"{n + '/' + b:20s} " + "   ".join(out))

    def goals(self, goals):
        """Print a verdict for each goal; exit status."""
        bad = 0
        if goals:
            print()
        for g in goals:
            for n in self.tested:
                lost = sum(r is None for r in self.rounds[n])
                v = self.pairs(n, g.base, g.metric) if g.base else self.values(n, g.metric)
                total = len(self.rounds[n])
                if lost:
                    ok, note = False, f"{lost} of {total} rounds rejected"
                elif len(v) < (total + 1) // 2 or not v:
                    ok, note = False, f"only {len(v)} of {total} rounds count"
                else:
                    x = statistics.median(v)
                    ok, note = g.met(x), f"{x:.3f} [{min(v):.3f}..{max(v):.3f}] n={len(v)}"
                bad += not ok
                print(f"{'PASS' if ok else 'FAIL'} {n}: {g.text}: {note}")
        return 1 if bad else 0

    def save(self, file, args):
        if file:
            with open(file, "w") as f:
                json.dump({"args": args, "rounds": self.rounds}, f, indent=1)
