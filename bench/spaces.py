"""Agents in network namespaces of their own, on one bridge that the script reaches too: hosts that can be cut off, without a word."""
import json
import os
import socket
import struct
import subprocess

from host import Child
import wire

BRIDGE, NET = "mu-bridge", "10.213.7"
HTTP, DNS, GOSSIP = 8500, 8600, 8301


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def address(number):
    return f"{NET}.{number}"


def hardware(number):
    return f"02:00:00:00:00:{number:02x}"


def build():
    """The bridge, in this script's own network: seen by nobody else."""
    ip("link", "add", BRIDGE, "type", "bridge")
    ip("addr", "add", f"{NET}.254/24", "dev", BRIDGE)
    ip("link", "set", BRIDGE, "up")


class Agent:
    """One agent in a namespace of its own; the script itself reaches all of them."""

    def __init__(self, binary, place, number, key, servers, more=None):
        self.number, self.server, self.ip, self.space = number, number in servers, address(number), f"mu-{os.getpid()}-{number}"
        self.name = f"{'server' if self.server else 'client'}-{number}"
        ip("netns", "add", self.space)
        ip("link", "add", f"mu{number}", "type", "veth", "peer", "name", "eth0", "netns", self.space)
        ip("link", "set", f"mu{number}", "master", BRIDGE, "up")
        for words in (["addr", "add", f"{self.ip}/24", "dev", "eth0"], ["link", "set", "eth0", "address", hardware(number), "up"],
                      ["link", "set", "lo", "up"]):
            ip("-n", self.space, *words)
        self.binary, self.directory = binary, f"{place}/{self.name}"
        os.makedirs(f"{self.directory}/data")
        config = {"node_name": self.name, "data_dir": f"{self.directory}/data", "bind_addr": self.ip, "client_addr": self.ip,
                  "encrypt": key, "retry_join": [address(n) for n in servers], "server": self.server, **(more or {})}
        if self.server:
            config["bootstrap_expect"] = len(servers)
        with open(f"{self.directory}/agent.json", "w") as file:
            json.dump(config, file)

    def knows(self, numbers):
        """It need not ask for their hardware: what the kernel finds out itself has one small table for all namespaces together."""
        lines = "".join(f"neigh replace {address(n)} lladdr {hardware(n)} dev eth0 nud permanent\n" for n in numbers if n != self.number)
        subprocess.run(["ip", "-n", self.space, "-batch", "-"], input=lines, text=True, check=True)

    def start(self):
        self.child = Child(["ip", "netns", "exec", self.space, self.binary, "agent", "-config-file", f"{self.directory}/agent.json"],
                           f"{self.directory}/log", cpu=None)
        return self

    def close(self):
        subprocess.run(["ip", "netns", "delete", self.space], check=False)

    def connect(self, seconds=10):
        connection = wire.Connection.__new__(wire.Connection)
        connection.socket = socket.create_connection((self.ip, HTTP), seconds)
        connection.socket.settimeout(seconds)
        connection.clear()
        return connection

    def ask(self, method, path, body=b"", seconds=10):
        connection = self.connect(seconds)
        try:
            connection.ask(method, path, body)
            return connection.status, connection.body, connection.head.decode().lower()
        finally:
            connection.close()

    def json(self, path):
        return json.loads(self.ask("GET", path)[1])

    def services(self, name, how="stale"):
        return sorted(row["ServiceID"] for row in self.json(f"/v1/catalog/service/{name}?{how}"))

    def register(self, name):
        return self.ask("PUT", "/v1/agent/service/register", json.dumps({"Name": name, "ID": f"{name}-{self.name}", "Port": 80}).encode())[0]

    def dns(self, name, seconds=1):
        labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
        query = struct.pack(">6H", 7, 0x100, 1, 0, 0, 0) + labels + struct.pack(">BHH", 0, 1, 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.settimeout(seconds)
            udp.sendto(query, (self.ip, DNS))
            answer = udp.recv(2048)
        return answer[3] & 15, struct.unpack(">H", answer[6:8])[0]

    def leader(self):
        return json.loads(self.ask("GET", "/v1/status/leader")[1]).split(":")[0]

    def term(self):
        return int(self.json("/v1/agent/self")["Stats"]["raft"]["term"])

    def alive(self):
        """Names of the members that it holds alive."""
        return sorted(member["Name"] for member in self.json("/v1/agent/members") if member["Status"] == 1)

    def unplug(self, out=True):
        """The host is cut off without a word, or is there again: its port is no part of the bridge, its own link stays up."""
        ip("link", "set", f"mu{self.number}", *(["nomaster"] if out else ["master", BRIDGE]))

    def filter(self, *rule):
        """A rule of iptables for what comes to this host; none: all of them go."""
        words = ["-A", "INPUT", *rule] if rule else ["-F"]
        subprocess.run(["ip", "netns", "exec", self.space, "iptables", "-w", *words], check=True)

    def udp_sent(self):
        """Bytes of gossip packets that left this host, headers and all, since `count_udp`."""
        out = subprocess.run(["ip", "netns", "exec", self.space, "iptables", "-w", "-L", "OUTPUT", "-nvx"], check=True,
                             capture_output=True, text=True).stdout
        return int(out.splitlines()[2].split()[1])

    def count_udp(self):
        subprocess.run(["ip", "netns", "exec", self.space, "iptables", "-w", "-A", "OUTPUT", "-p", "udp", "--sport", str(GOSSIP)], check=True)
