"""What hosts, networks and strangers do to agents that run: no CPU, sleep, frames late, twice and out of order, one-way cuts, forged packets."""
import base64
import ctypes
import heapq
import http.server
import json
import multiprocessing
import os
import random
import re
import selectors
import signal
import socket
import struct
import threading
import time

import spaces
from host import PR_SET_PDEATHSIG, until

FAILED = 4
ETH_P_ALL, PACKET_OUTGOING, SOL_PACKET, PACKET_VNET_HDR, VNET_HDR_BYTES = 3, 4, 263, 15, 10


def every_frame(number):
    """A socket that hears and sends whole frames on the wire of one agent, unfinished checksums and all."""
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    wire.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    wire.bind((f"mu{number}", 0))
    return wire


def counted(agent, name):
    """The sum of a counter, or a gauge, of an agent."""
    status, text, _ = agent.ask("GET", "/v1/agent/metrics?format=prometheus", seconds=30)
    values = re.findall(rf"^\w*{name}(?:{{.*}})? ([\d.]+)$", text.decode(), re.M)
    if status != 200 or not values:
        raise ValueError(f"{agent.name} counts no {name}: {status}")
    return sum(map(float, values))


def view(agent):
    return {member["Name"]: (member["Status"], member.get("Cause", "")) for member in agent.json("/v1/agent/members")}


class Backend:
    """What the checks of a host ask: it always answers."""

    def __init__(self):
        class Well(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass
        self.server = http.server.ThreadingHTTPServer((f"{spaces.NET}.254", 0), Well)
        self.url = f"http://{spaces.NET}.254:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Rationed:
    """A process that gets the CPU for a twentieth of each period."""

    def __init__(self, process, every):
        self.process, self.every, self.over = process, every, threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.over.is_set():
            self.process.send_signal(signal.SIGSTOP)
            time.sleep(self.every * 0.95)
            self.process.send_signal(signal.SIGCONT)
            time.sleep(self.every * 0.05)

    def end(self):
        self.over.set()
        self.thread.join()


def starved(cluster, settings):
    """An agent gets 5 % of a CPU: it accuses nobody, and what it runs does not turn critical for checks that came late.
    Stops of more than a second are seen as such: its local health rises."""
    victim, seconds, backend = cluster.client(settings.rng), min(settings.seconds, 120), Backend()
    for number in range(20):
        check = {"HTTP": backend.url, "Interval": "1s", "Timeout": "1s", "Status": "passing"}
        victim.ask("PUT", "/v1/agent/service/register", json.dumps({"Name": f"checked-{number}", "Port": 80, "Check": check}).encode())
    server = cluster.agents[0]
    until("its checks are known", lambda: len(server.json(f"/v1/health/node/{victim.name}")) > 20, 20)
    for every in (1.0, 2.0):
        yield starve(cluster, server, victim, seconds, every)


def starve(cluster, server, victim, seconds, every):
    health, critical = 0.0, set()
    accused = counted(victim, "memberlist_msg_suspect")
    rationed, wrong, end = Rationed(victim.child.process, every), set(), time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            for agent in cluster.agents:
                if agent is not victim:
                    wrong |= {(agent.name, name) for name, status in cluster.states(agent).items() if status == FAILED}
            critical |= {row["ServiceID"] for row in server.json(f"/v1/health/node/{victim.name}") if row["Status"] == "critical"}
            health = max(health, counted(victim, "memberlist_health_score"))
            time.sleep(0.5)
    finally:
        rationed.end()
    accused = counted(victim, "memberlist_msg_suspect") - accused
    return (f"5 % of a CPU for {seconds} s, {every * 950:.0f} ms without it at a time",
            f"local health up to {health:.0f}; it accused {accused:.0f} times; {len(wrong)} taken for dead {sorted(wrong)[:3] or ''}; {len(critical)} of its services critical", "none, none, none; beyond a second it rises",
            (health > 0 or every <= 1) and not accused and not wrong and not critical)


def asleep(cluster, settings):
    """Three clients stop together, as if they were on one host that sleeps, and wake: they come back, and nobody dies of what they think."""
    seconds = settings.seconds
    sleepers = settings.rng.sample([agent for agent in cluster.agents if not agent.server], 3)
    names, awake = {agent.name for agent in sleepers}, [agent for agent in cluster.agents if agent not in sleepers]
    for agent in sleepers:
        agent.child.process.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    dead = sum(cluster.states(cluster.agents[0]).get(name) == FAILED for name in names)
    for agent in cluster.agents:
        agent.count_udp()
    before = [agent.udp_sent() for agent in cluster.agents]
    for agent in sleepers:
        agent.child.process.send_signal(signal.SIGCONT)
    began, wrong, back = time.monotonic(), set(), None
    while time.monotonic() - began < 60:
        for agent in awake:
            wrong |= {(agent.name, name) for name, status in cluster.states(agent).items() if status == FAILED and name not in names}
        if back is None and cluster.is_whole():
            back = time.monotonic() - began
        time.sleep(0.1)
    sent = max((agent.udp_sent() - first) / 60 for agent, first in zip(cluster.agents, before))
    yield (f"three asleep for {seconds} s", f"{dead} of 3 were held dead; all there {'never' if back is None else f'{back:.2f} s'} after; "
           f"{len(wrong)} of the awake taken for dead; at most {sent:.0f} B/s of UDP in the minute after", "come back, none, no storm",
           back is not None and not wrong and sent < 2000)


def cuts(cluster, settings):
    """Nothing goes from one to the other in 5 % of all ordered pairs: nobody is taken for dead, and who does not reach whom is shown."""
    agents, rng = cluster.agents, settings.rng
    pairs = rng.sample([(a, b) for a in agents for b in agents if a is not b], max(1, len(agents) * (len(agents) - 1) // 20))
    for source, target in pairs:
        for protocol, port in (("udp", "--dport"), ("tcp", "--dport"), ("tcp", "--sport")):
            target.filter("-s", source.ip, "-p", protocol, port, str(spaces.GOSSIP), "-j", "DROP")
    wrong = cluster.wrongly_dead(settings.seconds, 0.5)
    seen = {agent: view(agent) for agent in agents}
    shows = lambda one, other: "degraded" in seen[one][other.name][1]
    shown = sum(shows(source, target) or shows(target, source) for source, target in pairs)
    needless = sum("degraded" in cause and not any({agent.name, name} == {a.name, b.name} for a, b in pairs)
                   for agent in agents for name, (_, cause) in seen[agent].items())
    for agent in agents:
        agent.filter()
    yield (f"one-way cuts between {len(pairs)} pairs for {settings.seconds} s", f"{len(wrong)} taken for dead {wrong[:3] or ''}; "
           f"{shown} pairs shown as degraded, {needless} others", "none; all; no others", not wrong and shown == len(pairs) and not needless)


def relay(numbers, seed):
    """Carries frames between agents as a bad network does: after 200 ms ± 100, a fifth at once, a tenth twice."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    rng, wires, selector = random.Random(seed), {number: every_frame(number) for number in numbers}, selectors.DefaultSelector()
    homes = {bytes.fromhex(spaces.hardware(number).replace(":", "")): number for number in numbers}
    for number, wire in wires.items():
        wire.setblocking(False)
        selector.register(wire, selectors.EVENT_READ, number)
    waiting, count = [], 0
    while True:
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, to, frame = heapq.heappop(waiting)
            try:
                wires[to].send(frame)
            except OSError:
                pass  # a full queue loses frames, as networks do
        for key, _ in selector.select(max(0.0, waiting[0][0] - time.monotonic()) if waiting else None):
            for _ in range(64):
                try:
                    frame, (_, _, kind, *_) = key.fileobj.recvfrom(1 << 17)
                except OSError:
                    break
                to = homes.get(frame[VNET_HDR_BYTES:VNET_HDR_BYTES + 6])
                if kind == PACKET_OUTGOING or to is None or to == key.data:
                    continue
                for _ in range(2 if rng.random() < 0.1 else 1):
                    count += 1
                    late = 0.0 if rng.random() < 0.2 else rng.uniform(0.1, 0.3)
                    heapq.heappush(waiting, (time.monotonic() + late, count, to, frame))


def delayed(cluster, settings):
    """All that goes between agents is late, twice, or out of order: nobody dies of it, and what is written is written once."""
    numbers, seconds = [agent.number for agent in [*cluster.agents, cluster.spare]], min(settings.seconds, 120)
    child = multiprocessing.get_context("fork").Process(target=relay, args=(numbers, settings.seed), daemon=True)
    child.start()
    isolate = lambda state: [spaces.ip("link", "set", f"mu{number}", "type", "bridge_slave", "isolated", state) for number in numbers]
    isolate("on")
    writers = [Writer(cluster, number, seconds) for number in range(8)]
    try:
        wrong = cluster.wrongly_dead(seconds, 0.5)
        for writer in writers:
            writer.join()
    finally:
        isolate("off")
        child.kill()
        child.join()
    values, unknown = [value for writer in writers for value in writer.written], sum(writer.unknown for writer in writers)
    until("a leader", lambda: cluster.agents[0].leader(), 30)
    final = int(base64.b64decode(cluster.agents[0].json("/v1/kv/counter?consistent")[0]["Value"]))
    until("all is registered", lambda: set(cluster.agents[0].services("again", "consistent")) >= {name for w in writers for name in w.registered}, 60)
    ids = [row["ServiceID"] for row in cluster.agents[0].json("/v1/catalog/service/again?consistent")]
    once = len(ids) == len(set(ids)) and len(set(values)) == len(values) and len(values) <= final <= len(values) + unknown
    yield (f"frames 200 ms ± 100 late, a fifth out of order, a tenth twice, for {seconds} s", f"{len(wrong)} taken for dead {wrong[:3] or ''}; "
           f"{len(values)} compare-and-sets answered true, {unknown} not answered, the counter is {final}; {len(ids)} services registered twice each "
           f"are there {'once' if once else 'NOT ONCE'}", "none; each once", not wrong and once and values)


class Writer(threading.Thread):
    """Raises a counter by compare-and-set, through one agent after the other, and registers services, each of them twice."""

    def __init__(self, cluster, number, seconds):
        super().__init__()
        self.cluster, self.number, self.end = cluster, number, time.monotonic() + seconds
        self.written, self.unknown, self.registered = [], 0, set()
        self.start()

    def run(self):
        rng, turn = random.Random(self.number), 0
        while time.monotonic() < self.end:
            agent, turn = rng.choice(self.cluster.agents), turn + 1
            try:
                status, body, _ = agent.ask("GET", "/v1/kv/counter")
                value, index = (int(base64.b64decode(json.loads(body)[0]["Value"])), json.loads(body)[0]["ModifyIndex"]) if status == 200 else (0, 0)
                if status not in (200, 404):
                    continue
            except (OSError, EOFError, ValueError):
                continue
            try:
                status, body, _ = agent.ask("PUT", f"/v1/kv/counter?cas={index}", str(value + 1).encode())
                if status == 200 and body.strip() == b"true":
                    self.written.append(value + 1)
                elif status != 200:
                    self.unknown += 1
            except (OSError, EOFError):
                self.unknown += 1
            if turn % 4 == 0:
                name = f"again-{self.number}-{turn}"
                body = json.dumps({"Name": "again", "ID": name, "Port": 80}).encode()
                try:
                    if all(agent.ask("PUT", "/v1/agent/service/register", body)[0] == 200 for _ in range(2)):
                        self.registered.add(name)
                except (OSError, EOFError):
                    pass


def forged(cluster, settings):
    """50,000 packets of strangers: random, cut, changed, too long, and such as were sent before. One of before is dead now, and stays it."""
    count, agents, victim = 50_000, cluster.agents, cluster.client(settings.rng)
    heard, wires = [], [every_frame(agent.number) for agent in agents]
    for wire in wires:
        wire.settimeout(0)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        for wire in wires:
            try:
                while True:
                    frame = wire.recv(1 << 17)[VNET_HDR_BYTES + 14:]
                    if len(frame) > 28 and frame[9] == socket.IPPROTO_UDP and struct.unpack(">H", frame[22:24])[0] == spaces.GOSSIP:
                        heard.append((socket.inet_ntoa(frame[16:20]), frame[28:]))
            except OSError:
                pass
        time.sleep(0.05)
    victim.child.process.kill()
    victim.child.process.wait()
    rest = [agent for agent in agents if agent is not victim]
    until("all know that it died", lambda: all(cluster.states(agent).get(victim.name) == FAILED for agent in rest), 30, every=0.1)
    time.sleep(15)  # what was said about it has been told to the end
    look = lambda: {agent.name: sorted((m["Name"], m["Status"], m["Addr"], json.dumps(m["Tags"], sort_keys=True))
                                       for m in agent.json("/v1/agent/members")) for agent in rest}
    before, dropped, rng = look(), {agent: counted(agent, "gossip_packets_dropped") for agent in rest}, settings.rng
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for number in range(count):
        to, bytes_ = rng.choice(heard)
        if number % 5 == 0:
            bytes_ = rng.randbytes(rng.randrange(1400))
        elif number % 5 == 1:
            bytes_ = bytes_[:rng.randrange(len(bytes_))]
        elif number % 5 == 2:
            at = rng.randrange(len(bytes_))
            bytes_ = bytes_[:at] + bytes([bytes_[at] ^ 1 << rng.randrange(8)]) + bytes_[at + 1:]
        elif number % 5 == 3:
            bytes_ += bytes(1500)
        udp.sendto(bytes_, (to if to != victim.ip and rng.random() < 0.5 else rng.choice(rest).ip, spaces.GOSSIP))
        if number % 100 == 0:
            time.sleep(0.05)  # sockets are not flooded: each packet is to be counted
    time.sleep(3)
    dropped = sum(counted(agent, "gossip_packets_dropped") - dropped[agent] for agent in rest)
    same = look() == before
    yield (f"{count} packets forged, changed or of before", f"{dropped:.0f} counted as dropped; members, states and tags are "
           f"{'the same' if same else 'OTHERS'}; {victim.name} is {'dead' if all(v[victim.name][0] == FAILED for v in map(view, rest)) else 'ALIVE'}",
           "no change, each counted", same and dropped >= count * 0.999)
    victim.start()
    cluster.back(victim)


PARTS = {"starved": starved, "asleep": asleep, "cuts": cuts, "delayed": delayed, "forged": forged}
