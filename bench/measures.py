"""What is measured: each measure starts what it needs, and gives rows of the table."""
import base64
import json
import os
import random
import re
import shutil
import socket
import statistics
import subprocess
import threading
import time

import servers
import wire
from host import LOAD_CPU, Child, Window, until
from servers import DNS, DOMAIN, ETCD, HTTP, KNOT, NGINX, Agent

SERVICES = 1000
CHANGES_A_SECOND = 10


class Run:
    """How this run measures."""

    def __init__(self, binary, directory, quick):
        self.binary, self.directory, self.quick = binary, directory, quick
        # Short turns, many: a host's good and bad moments last for seconds, and shall meet muster and its peer alike.
        self.seconds, self.rounds = 1, 3 if quick else 21
        # A program that is started again lies elsewhere in memory, which alone moves its cost by several percent, and a peer's.
        self.starts, self.rounds_a_start = (1, 3) if quick else (7, 3)
        self.others = []

    def place(self, name):
        path = f"{self.directory}/{name}"
        shutil.rmtree(path, ignore_errors=True)
        os.makedirs(path)
        return path

    def row(self, what, value, unit, limit, most=True, note=""):
        holds = "" if limit is None else "yes" if (value <= limit if most else value >= limit) else "NO"
        shown = "" if limit is None else f"{'<=' if most else '>='} {limit:g}"
        row = {"what": what, "value": f"{value:.3g}" if value < 100 else f"{value:.0f}", "unit": unit, "limit": shown,
               "holds": holds, "beside": note}
        print("  ".join(filter(None, (what, row["value"], unit, shown, holds, note))), flush=True)
        return row


def register(node, address, service, identity, status="passing", tag="v1", output="HTTP GET: 200 OK"):
    body = {"Node": node, "Address": address,
            "Service": {"ID": identity, "Service": service, "Port": 8080, "Tags": [tag], "Meta": {"version": "1"}},
            "Check": {"CheckID": f"service:{identity}", "ServiceID": identity, "Name": "alive", "Status": status,
                      "Output": output}}
    return wire.request("PUT", "/v1/catalog/register", json.dumps(body).encode())


def address(number):
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def three_each(service, k, **how):
    number = 3 * service + k
    return register(f"node-{number:05d}", address(number), f"svc-{service:04d}", f"svc-{service:04d}-{k}", **how)


class Changes:
    """Ten changes a second, to the first service and to others in turn, while something is measured."""

    def __enter__(self):
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        return self

    def run(self):
        connection, count = wire.Connection(HTTP), 0
        while not self.over.wait(1 / CHANGES_A_SECOND):
            service = 0 if count % 2 == 0 else random.randrange(SERVICES)
            connection.send(three_each(service, count % 3, tag=f"v{count}"))
            connection.receive()
            count += 1
        connection.close()

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def beside(run, ours, peer, rounds, changes=True):
    """(ours, peer, ratio) of rounds that take turns; each function gives the CPU microseconds of an operation."""
    got = []
    for _ in range(rounds):
        if changes:
            with Changes():
                mine = ours()
        else:
            mine = ours()
        theirs = peer()
        got.append((mine, theirs, mine / theirs))
    return got


def medians(got):
    return [statistics.median(column) for column in zip(*got)]


def cost(run, server, load):
    """CPU microseconds of the server for each operation of a load that tells how many it did."""
    with Window(server) as window:
        done = load()
    run.others.append(window.others)
    return 1e6 * window.cpu / max(1, done)


def dnsperf(port, names, seconds, host="127.0.0.1"):
    out = subprocess.run(["taskset", "-c", str(LOAD_CPU), "dnsperf", "-s", host, "-p", str(port), "-d", names, "-l", str(seconds),
                          "-q", "100", "-c", "4", "-e"], capture_output=True, text=True, check=True).stdout
    done = int(re.search(r"Queries completed:\s+(\d+)", out).group(1))
    codes = re.search(r"Response codes:\s+(.*)", out).group(1)
    if not codes.startswith("NOERROR") or "," in codes:
        raise RuntimeError(f"not all was answered: {codes}")
    return done


def wrk(port, path, seconds, connections=64, script=None, host="127.0.0.1"):
    """(requests, seconds they took); an answer other than 200 ends the measurement."""
    command = ["taskset", "-c", str(LOAD_CPU), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", f"http://{host}:{port}{path}"]
    if script:
        command[-1:-1] = ["-s", script]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        raise RuntimeError(out)
    done, took = re.search(r"(\d+) requests in ([\d.]+)s", out).groups()
    return int(done), float(took)


def mixed_case(text):
    return "".join(letter.upper() if random.random() < 0.5 else letter for letter in text)


def beside_nginx(run, agent, place, path):
    """(ours, nginx with a file of the same bytes, ratio) of some rounds, and how many bytes these are."""
    body = wire.ask(HTTP, "GET", path)[1]
    peer = servers.nginx(place, body)
    for port, file in ((HTTP, path), (NGINX, "/body.json")):
        wrk(port, file, 1)
    got = beside(run, lambda: cost(run, agent.child, lambda: wrk(HTTP, path, run.seconds)[0]),
                 lambda: cost(run, peer, lambda: wrk(NGINX, "/body.json", run.seconds)[0]), run.rounds_a_start)
    peer.stop()
    return got, len(body)


def look_ups_of_a_start(run, place):
    """DNS beside Knot, health answers and the list of services beside nginx, each server started anew, and how many bytes the answers have."""
    agent = Agent(run.binary, f"{place}/agent")
    wire.pump(HTTP, (three_each(service, k) for service in range(SERVICES) for k in range(3)))
    zone = [(f"svc-{s:04d}.service.{DOMAIN}.", [address(3 * s + k) for k in range(3)]) for s in range(SERVICES)]
    peer = servers.knot(f"{place}/knot", [(name.removesuffix("."), addresses) for name, addresses in zone])
    with open(f"{place}/names", "w") as file:
        file.writelines(f"{mixed_case(name)} A\n" for name, _ in random.sample(zone, len(zone)))
    for port in (DNS, KNOT):
        dnsperf(port, f"{place}/names", 1)
    dns = beside(run, lambda: cost(run, agent.child, lambda: dnsperf(DNS, f"{place}/names", run.seconds)),
                 lambda: cost(run, peer, lambda: dnsperf(KNOT, f"{place}/names", run.seconds)), run.rounds_a_start)
    peer.stop()
    health, size = beside_nginx(run, agent, f"{place}/nginx", "/v1/health/service/svc-0000?passing")
    services, list_size = beside_nginx(run, agent, f"{place}/nginx-list", "/v1/catalog/services")
    agent.stop()
    return (dns, health, services), (size, list_size)


def look_ups(run):
    """DNS beside Knot, health answers beside nginx, and the list of services."""
    starts = []
    for start in range(run.starts):
        starts.append(look_ups_of_a_start(run, run.place("look-ups")))
        ratios = [medians(got)[2] for got in starts[-1][0]]
        print(f"start {start + 1} of {run.starts}: DNS {ratios[0]:.3f} x Knot, health {ratios[1]:.2f} x nginx", flush=True)
    dns, health, services = (sum(of_one, []) for of_one in zip(*(got for got, _ in starts)))
    size, list_size = starts[-1][1]
    mine, theirs, ratio = medians(dns)
    rows = [run.row("DNS A, 3 instances, EDNS, 1000 names, 10 changes/s", ratio, "x Knot", 1.2,
                    note=f"{mine:.1f} us, Knot {theirs:.1f} us")]
    mine, theirs, ratio = medians(health)
    by_start = sorted(medians(got[1])[2] for got, _ in starts)
    rows.append(run.row(f"health/service?passing, 3 instances ({size} B), 64 connections, 10 changes/s", ratio, "x nginx", 1.2,
                        note=f"{mine:.1f} us, nginx {theirs:.1f} us; starts {by_start[0]:.2f} to {by_start[-1]:.2f}"))
    mine, theirs, _ = medians(services)
    rows.append(run.row(f"catalog/services, {SERVICES} services, 10 changes/s", mine, "us CPU", 25,
                        note=f"{list_size} B; nginx, a file of that size: {theirs:.1f} us"))
    return rows


KV_LUA = """local value, n = string.rep('v', 256), 0
request = function() n = n + 1 return wrk.format('PUT', '/v1/kv/%s/' .. n, {}, value) end
"""
ETCD_LUA = """local letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'
local n, value = %d, '%s'
local function six(number) number = number %% 64 return letters:sub(number + 1, number + 1) end
request = function()
  n = n + 1
  local key = 'a2V5' .. six(math.floor(n / 262144)) .. six(math.floor(n / 4096)) .. six(math.floor(n / 64)) .. six(n)
  return wrk.format('POST', '/v3/kv/put', {['Content-Type'] = 'application/json'}, '{"key":"' .. key .. '","value":"' .. value .. '"}')
end
"""


def writes(run):
    """Durable puts of 256 bytes under ever new keys, 64 clients, beside etcd on the same disk."""
    place = run.place("writes")
    agent, peer = Agent(run.binary, f"{place}/agent"), servers.etcd(f"{place}/etcd")
    value = base64.b64encode(b"v" * 256).decode()
    speeds, turns = {}, iter(range(1 << 20))

    def load(port, text):
        turn = next(turns)
        with open(f"{place}/put.lua", "w") as file:
            file.write(text(turn))
        done, took = wrk(port, "/", run.seconds, script=f"{place}/put.lua")
        speeds.setdefault(port, []).append(done / took)
        return done

    ours = lambda: cost(run, agent.child, lambda: load(HTTP, lambda turn: KV_LUA % turn))
    theirs = lambda: cost(run, peer, lambda: load(ETCD, lambda turn: ETCD_LUA % (turn << 20, value)))
    ours(), theirs()
    speeds.clear()
    mine, their_cpu, _ = medians(beside(run, ours, theirs, run.rounds, changes=False))
    ratio = statistics.median(a / b for a, b in zip(speeds[HTTP], speeds[ETCD]))
    agent.stop()
    peer.stop()
    note = f"{statistics.median(speeds[HTTP]):.0f}/s, etcd {statistics.median(speeds[ETCD]):.0f}/s; CPU {mine:.0f} us, etcd {their_cpu:.0f} us"
    return [run.row("durable KV puts a second, 256 B, 64 clients", ratio, "x etcd", 3, most=False, note=note)]


def readers(run):
    """Blocked readers: what one costs on a new connection and on one that was used before, and who wakes."""
    services, each = 50, 20 if run.quick else 100
    what, rows = f"{services * each} blocked readers, RSS each with its connection", []
    for used, which in ((False, "a new one"), (True, "one that had an answer before")):
        kilobytes, woken, strangers = blocked(run, services, each, used)
        rows += [run.row(f"{what}, {which}", kilobytes, "KB", 10),
                 run.row("of them woken by a change of their service", woken, f"of {each}", each, most=False),
                 run.row("others woken by it", strangers, "", 0)]
    return rows


def blocked(run, services, each, used):
    """(KB of a reader, how many of those concerned were woken, how many others)."""
    place = run.place("readers")
    agent = Agent(run.binary, f"{place}/agent")
    wire.pump(HTTP, (three_each(service, k) for service in range(services) for k in range(3)))
    time.sleep(1.5)
    paths = [f"/v1/health/service/svc-{service:04d}?passing" for service in range(services)]
    indexes, first = [], wire.Connection(HTTP)
    for path in paths:
        first.ask("GET", path)
        indexes.append(first.index)
    first.close()
    before = agent.child.rss_mb()
    waiting = {service: [] for service in range(services)}
    for number in range(each):
        for service, connections in waiting.items():
            connection = wire.Connection(HTTP, f"127.0.{number}.{service + 1}")
            if used:
                connection.ask("GET", paths[service])
            connection.send(wire.request("GET", f"{paths[service]}&index={indexes[service]}&wait=300s"))
            connections.append(connection)
    time.sleep(2)
    count = services * each
    kilobytes = (agent.child.rss_mb() - before) * 1024 / count
    wire.pump(HTTP, [three_each(7, 1, tag="changed")])
    woken = len(wire.collect(waiting[7], 5))
    strangers = len(wire.collect([c for service, all_of in waiting.items() if service != 7 for c in all_of], 2))
    for connections in waiting.values():
        for connection in connections:
            connection.close()
    agent.stop()
    return kilobytes, woken, strangers


def fan_out(run):
    """A thousand readers of one service of a hundred instances get a new answer."""
    place, count = run.place("fan-out"), 200 if run.quick else 1000
    agent = Agent(run.binary, f"{place}/agent")
    one = lambda k, tag: register(f"node-{k:05d}", address(k), "web", f"web-{k}", tag=tag)
    wire.pump(HTTP, (one(k, "v0") for k in range(100)))
    path = "/v1/health/service/web?passing"
    connections = [wire.Connection(HTTP) for _ in range(count)]
    for connection in connections:
        connection.ask("GET", path)
    last, cpu = [], []
    writer = wire.Connection(HTTP)
    for turn in range(run.rounds):
        for connection in connections:
            connection.send(wire.request("GET", f"{path}&index={connection.index}&wait=300s"))
        time.sleep(1)
        with Window(agent.child) as window:
            began = time.monotonic()
            writer.send(one(turn % 100, f"v{turn + 1}"))
            moments = wire.collect(connections, 10)
            time.sleep(0.05)
        writer.receive()
        if len(moments) < count:
            raise RuntimeError(f"{count - len(moments)} readers were not woken")
        last.append(1000 * (moments[-1] - began))
        cpu.append(1e6 * window.cpu / count)
        run.others.append(window.others)
    size = len(connections[0].body)
    agent.stop()
    note = f"{size} B; best {min(last):.0f} ms, worst {max(last):.0f} ms"
    return [run.row(f"fan-out to {count} readers: the last has it", statistics.median(last), "ms", 120, note=note),
            run.row("fan-out: one answer", statistics.median(cpu), "us CPU", 80)]


def memory(run):
    """A fresh server, one with 10 000 instances, the program itself, and how soon it answers."""
    place, rows = run.place("memory"), []
    rows.append(run.row("size of the program", os.path.getsize(run.binary) / (1 << 20), "MB", 20))
    starts, idle = [], []
    for number in range(3 if run.quick else 5):
        agent = Agent(run.binary, f"{place}/fresh-{number}", fresh=False)
        starts.append(first_answer("bench.node." + DOMAIN, 1, agent.child))
        agent.ready()
        time.sleep(3)
        idle.append(agent.child.rss_mb())
        agent.stop()
    rows.append(run.row("fresh server: start to first DNS answer", statistics.median(starts), "s", 0.3))
    rows.append(run.row("fresh server: idle memory", statistics.median(idle), "MB", 15))
    instances, flaps = (2000, 4000) if run.quick else (10_000, 20_000)
    each = instances // SERVICES
    agent = Agent(run.binary, f"{place}/full")

    def one(number, **how):
        service, k = number % SERVICES, number // SERVICES
        return register(f"node-{number // each:05d}", address(number // each), f"svc-{service:04d}", f"svc-{service:04d}-{k}", **how)

    wire.pump(HTTP, (one(number) for number in range(instances)))
    time.sleep(3)
    written = agent.child.rss_mb()
    wire.pump(HTTP, (wire.request("GET", f"/v1/health/service/svc-{s:04d}?passing") for s in range(SERVICES)), 4)
    if not all(wire.dns(DNS, f"svc-{s:04d}.service.{DOMAIN}")[1] for s in range(SERVICES)):
        raise RuntimeError("a service has no answer")
    asked = agent.child.rss_mb()
    status = ("critical", "passing")
    wire.pump(HTTP, (one(turn % instances, status=status[turn // instances % 2], output=f"flap {turn}") for turn in range(flaps)))
    time.sleep(3)
    rows.append(run.row(f"{instances} instances, all asked for, {flaps} flaps: memory", agent.child.rss_mb(), "MB", 60,
                        note=f"registered {written:.1f} MB, asked {asked:.1f} MB"))
    agent.stop()
    starts = []
    for _ in range(3):
        agent = Agent(run.binary, f"{place}/full", fresh=False)
        starts.append(first_answer(f"svc-{SERVICES - 1:04d}.service.{DOMAIN}", 1, agent.child))
        agent.ready()
        agent.stop()
    rows.append(run.row(f"{instances} instances on disk: start to first DNS answer", statistics.median(starts), "s", 1.0))
    return rows


def first_answer(name, answers, child):
    """Seconds until DNS has answers for a name."""
    return until("the first answer", lambda: wire.dns(DNS, name, seconds=0.05)[1] >= answers, alive=child)


ALL = {"look-ups": look_ups, "writes": writes, "readers": readers, "fan-out": fan_out, "memory": memory}
