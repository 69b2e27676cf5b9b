"""What an agent on every host costs: at rest, beside a large catalog, for each change in it, for each look-up."""
import os
import random
import statistics
import subprocess
import time

import measures
import wire
from host import SERVER_CPU, until
from measures import SERVICES, address, register
from wire import request

HTTP, DNS = 8500, 8600
SIZES = (100, 1000, 10_000)
FLAPS = 20_000
CHANGES = 300
# Longer than a server gathers changes (50 ms): each is sent alone, which is the dearest way.
APART = 0.052
# Two processes with the same work differ by so much from round to round.
NOISE = 1.05


def idle(run, cluster, seconds):
    """Clients that nobody asks: packets, beats and feed alone."""
    before, began = [client.child.cpu() for client in cluster.clients], time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    used = [100 * (client.child.cpu() - cpu) / took for client, cpu in zip(cluster.clients, before)]
    memory = [client.child.rss_mb() for client in cluster.clients]
    beside = f"{len(cluster.agents)} agents, {seconds} s"
    return [
        run.row("idle client: memory", max(memory), "MB", 12,
                note=f"the largest of {len(memory)}, median {statistics.median(memory):.1f} MB; {beside}; "
                     f"servers {', '.join(f'{server.child.rss_mb():.1f}' for server in cluster.servers)} MB"),
        run.row("idle client: CPU", max(used), "% of a core", 0.2, note=f"the most, median {statistics.median(used):.3f} %"),
    ]


def one(number, **how):
    """The registration of an instance: ten on a node, services in turn."""
    service = number % SERVICES
    return register(f"node-{number // 10:05d}", address(number), f"svc-{service:04d}", f"svc-{service:04d}-{number // SERVICES}", **how)


def catalog(run, cluster):
    """A catalog of 100, 1,000, 10,000 instances: what a change costs at each agent, and what the rows take in memory."""
    rows, there, each = [], 0, {}
    for size in SIZES:
        wire.pump(HTTP, (one(number) for number in range(there, size)), host=cluster.leader().ip)
        there = size
        settle(cluster, size)
        each[size] = rows_changed(cluster, size)
        client, leader, followers, _ = each[size]
        run.row(f"a change of {size} instances, at a client", client, "us CPU", None,
                note=f"leader {leader:.0f} us, other servers {followers:.0f} us each, their part of {len(cluster.clients)} feeds in it")
    rows.append(run.row("a change of 10000 instances, at a client", each[SIZES[-1]][0] / each[SIZES[0]][0], "x one of 100", 2))
    rows.append(run.row("a change of 10000 instances, at the leader", each[SIZES[-1]][1] / each[SIZES[0]][1], "x one of 100", 2))
    rows += memory(run, cluster)
    rows.append(feeds(run, cluster, each[SIZES[-1]][3]))
    return rows


def settle(cluster, size):
    """All have what is registered, and have been left alone for a while."""
    last = f"svc-{(size - 1) % SERVICES:04d}.service.consul"
    until("all have it", lambda: all(agent.dns(last) for agent in cluster.agents), 60)
    time.sleep(5)


def rows_changed(cluster, size):
    """CPU microseconds that a change costs, beyond what passes without any: at a client, at the leader, at another server, at all
    servers together."""
    leader = cluster.leader()
    others = [server for server in cluster.servers if server is not leader]
    clients = [client for client in cluster.clients if client.child.alive()]
    connection = leader.connect()

    def over(act):
        before, began = {agent: agent.child.cpu() for agent in [*cluster.servers, *clients]}, time.monotonic()
        for turn in range(CHANGES):
            if act:
                number = turn * 7919 % size
                connection.send(one(number, status="critical", output=f"turn {turn} of {began}"))
                if connection.receive().status != 200:
                    raise RuntimeError(f"{connection.status}: {connection.body[:200]!r}")
            time.sleep(max(0, began + (turn + 1) * APART - time.monotonic()))
        return {agent: agent.child.cpu() - cpu for agent, cpu in before.items()}

    calm, changing = over(False), over(True)
    connection.close()
    cost = {agent: 1e6 * (changing[agent] - calm[agent]) / CHANGES for agent in calm}
    servers = statistics.mean(cost[server] for server in others)
    return statistics.median(cost[client] for client in clients), cost[leader], servers, cost[leader] + sum(cost[s] for s in others)


def feeds(run, cluster, with_all):
    """What one more follower costs the servers: the same changes with all clients but one ended."""
    ended = cluster.clients[1:]
    for client in ended:
        client.child.process.terminate()
    for client in ended:
        client.child.process.wait(20)
    time.sleep(20)  # Till their end is known and told.
    with_one = rows_changed(cluster, SIZES[-1])[3]
    for client in ended:
        client.start()
    settle(cluster, SIZES[-1])
    return run.row("the servers' cost of a change and feed", (with_all - with_one) / max(1, len(ended)), "us CPU", None,
                   note=f"three servers together, a change: {with_all:.0f} us with {len(cluster.clients)} feeds, {with_one:.0f} us with one")


def memory(run, cluster):
    """10,000 instances at a client: as they came, all asked for by HTTP and DNS, and changed twice each."""
    asked, others = cluster.clients[0], cluster.clients[1:] or cluster.clients
    follow = statistics.median(client.child.rss_mb() for client in others)
    wire.pump(HTTP, (request("GET", f"/v1/health/service/svc-{s:04d}?passing") for s in range(SERVICES)), 4, host=asked.ip)
    if not all(asked.dns(f"svc-{s:04d}.service.consul", 1) for s in range(SERVICES)):
        raise RuntimeError("a service has no answer")
    answered, status = asked.child.rss_mb(), ("critical", "passing")
    wire.pump(HTTP, (one(turn % SIZES[-1], status=status[turn // SIZES[-1] % 2], output=f"flap {turn}") for turn in range(FLAPS)),
              host=cluster.leader().ip)
    time.sleep(5)
    flapped = [client.child.rss_mb() for client in cluster.clients]
    return [run.row(f"client that follows {SIZES[-1]} instances: memory", max(answered, *flapped), "MB", 40,
                    note=f"followed {follow:.1f} MB, all asked for {answered:.1f} MB, after {FLAPS} flaps {max(flapped):.1f} MB")]


def look_ups(run, cluster):
    """CPU of a look-up through a client agent beside the same on a server, in turns."""
    three = ((s, 3 * s + k) for s in range(SERVICES) for k in range(3))
    wire.pump(HTTP, (register(f"looked-{n}", address(n), f"looked-{s:04d}", f"looked-{n}") for s, n in three), host=cluster.leader().ip)
    until("all have it", lambda: all(agent.dns(f"looked-{SERVICES - 1:04d}.service.consul") == 3 for agent in cluster.agents), 60)
    client, leader = cluster.clients[0], cluster.leader()
    follower = next(server for server in cluster.servers if server is not leader)
    names = f"{os.path.dirname(client.directory)}/names"
    with open(names, "w") as file:
        file.writelines(f"{measures.mixed_case(f'looked-{s:04d}.service.consul.')} A\n" for s in random.sample(range(SERVICES), SERVICES))
    path = "/v1/health/service/looked-0000?passing"
    loads = {
        "DNS A": lambda agent: measures.dnsperf(DNS, names, run.seconds, host=agent.ip),
        "health/service?passing&stale": lambda agent: measures.wrk(HTTP, f"{path}&stale", run.seconds, host=agent.ip)[0],
        "health/service?passing": lambda agent: measures.wrk(HTTP, path, run.seconds, host=agent.ip)[0],
    }
    for agent in (client, leader, follower):
        subprocess.run(["taskset", "-acp", str(SERVER_CPU), str(agent.child.pid)], check=True, stdout=subprocess.DEVNULL)
    rows = []
    for name, load in loads.items():
        got = {agent: [] for agent in (client, leader, follower)}
        for _ in range(run.rounds):
            for agent, costs in got.items():
                cpu = agent.child.cpu()
                done = load(agent)
                costs.append(1e6 * (agent.child.cpu() - cpu) / max(1, done))
        ratio = statistics.median(mine / theirs for mine, theirs in zip(got[client], got[leader]))
        each = ", ".join(f"{who} {statistics.median(got[agent]):.1f}" for who, agent in
                         (("client", client), ("leader", leader), ("another server", follower)))
        rows.append(run.row(f"{name} through a client agent", ratio, "x a server", NOISE, note=f"us CPU: {each}"))
    for agent in (client, leader, follower):
        cpus = f"0-{(os.cpu_count() or 1) - 1}"
        subprocess.run(["taskset", "-acp", cpus, str(agent.child.pid)], check=True, stdout=subprocess.DEVNULL)
    return rows
