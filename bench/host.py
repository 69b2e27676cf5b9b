"""The machine: a loopback of our own, pinned children, CPU time and memory of a process, how busy others are."""
import ctypes
import os
import resource
import signal
import subprocess
import time

SERVER_CPU, LOAD_CPU = (0, 1) if (os.cpu_count() or 1) > 1 else (0, 0)
CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
_children = []


def settle():
    """Descriptors for thousands of readers; as root also a network namespace of our own and a little precedence."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if os.geteuid() != 0:
        return
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -15)
    except PermissionError:
        pass
    if _libc.unshare(CLONE_NEWNET) == 0:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


class Child:
    """A process that we started: on one CPU, or on all of them if it is None; ended by its pid, and with us if we die."""

    def __init__(self, args, log, cpu=SERVER_CPU, env=None):
        def before():
            os.setsid()
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if cpu is not None:
                os.sched_setaffinity(0, {cpu})
        with open(log, "ab") as out:
            self.process = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=out, stderr=out, preexec_fn=before,
                                            env={**os.environ, **(env or {})})
        self.pid, self.log = self.process.pid, log
        _children.append(self)

    def alive(self):
        return self.process.poll() is None

    def cpu(self):
        """Seconds of CPU that the process has used, user and system, to the nanosecond."""
        return time.clock_gettime((~self.pid << 3) | 2)

    def rss_mb(self):
        with open(f"/proc/{self.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) / 1024

    def stop(self, wait=10):
        if self.alive():
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(wait)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self in _children:
            _children.remove(self)


def forget(child):
    """One that has ended, and need not be stopped."""
    if child in _children:
        _children.remove(child)


def stop_all():
    for child in list(_children):
        child.stop(1)


def until(what, probe, limit=30.0, every=0.002, alive=None):
    """Seconds until `probe` is true; an error counts as no. Ends early if the process that it waits for has."""
    began = time.monotonic()
    while time.monotonic() - began < limit:
        try:
            if probe():
                return time.monotonic() - began
        except (OSError, ValueError, EOFError):
            pass
        if alive is not None and not alive.alive():
            with open(alive.log, errors="replace") as log:
                raise RuntimeError(f"{what}: the process ended: {log.read()[-600:]}")
        time.sleep(every)
    raise TimeoutError(f"{what}: not within {limit} s")


def machine_busy():
    """CPU seconds that all of the machine has been busy since it started."""
    with open("/proc/stat") as stat:
        fields = [int(field) for field in stat.readline().split()[1:]]
    return (fields[0] + fields[1] + fields[2] + fields[5] + fields[6]) / os.sysconf("SC_CLK_TCK")


class Window:
    """What a server used while something went on, and how much of the machine others had."""

    def __init__(self, server):
        self.server = server

    def __enter__(self):
        self.busy, self.ours, self.began = machine_busy(), self._ours(), time.monotonic()
        self.cpu = self.server.cpu()
        return self

    def __exit__(self, *_):
        self.cpu = self.server.cpu() - self.cpu
        self.wall = time.monotonic() - self.began
        others = machine_busy() - self.busy - (self._ours() - self.ours)
        self.others = max(0.0, others) / (self.wall * (os.cpu_count() or 1))

    def _ours(self):
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(u.ru_utime + u.ru_stime for u in used) + sum(child.cpu() for child in _children if child.alive())
