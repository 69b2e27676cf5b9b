"""The agent and its peers, each started in a directory of its own with one CPU."""
import base64
import json
import os

import wire
from host import Child, until

HTTP, DNS, RAFT, KNOT, NGINX, ETCD = 18500, 18600, 18300, 15353, 18080, 12379
DOMAIN = "consul"


class Agent:
    """muster, one server."""

    def __init__(self, binary, directory, fresh=True):
        self.directory = directory
        os.makedirs(f"{directory}/data", exist_ok=True)
        config = {"node_name": "bench", "data_dir": f"{directory}/data", "bind_addr": "127.0.0.1", "client_addr": "127.0.0.1",
                  "server": True, "bootstrap_expect": 1, "disable_update_check": True,
                  "ports": {"http": HTTP, "dns": DNS, "server": RAFT, "grpc": -1},
                  "limits": {"http_max_conns_per_client": 20000}}
        path = f"{directory}/agent.json"
        with open(path, "w") as file:
            json.dump(config, file, indent=1)
        self.child = Child([binary, "agent", "-config-file", path], f"{directory}/log")
        if fresh:
            self.ready()

    def ready(self):
        """Waits until the server writes and shows itself."""
        shown = f"bench.node.{DOMAIN}"
        return until("a leader", lambda: wire.dns(DNS, shown)[1] == 1 and b":" in wire.ask(HTTP, "GET", "/v1/status/leader")[1],
                     60, alive=self.child)

    def stop(self):
        self.child.stop()


def knot(directory, zone):
    """Knot with a static zone: [(name, [address])]."""
    os.makedirs(directory, exist_ok=True)
    with open(f"{directory}/zone", "w") as file:
        file.write(f"$ORIGIN {DOMAIN}.\n$TTL 0\n@ SOA ns.{DOMAIN}. hostmaster.{DOMAIN}. 1 3600 600 86400 0\n@ NS ns\nns A 127.0.0.1\n")
        for name, addresses in zone:
            file.writelines(f"{name}. A {address}\n" for address in addresses)
    with open(f"{directory}/knot.conf", "w") as file:
        file.write(f"""server:
    listen: 127.0.0.1@{KNOT}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
    rundir: {directory}
database:
    storage: {directory}
log:
  - target: stderr
    any: error
zone:
  - domain: {DOMAIN}
    file: {directory}/zone
    zonefile-sync: -1
    journal-content: none
""")
    child = Child(["knotd", "-c", f"{directory}/knot.conf"], f"{directory}/log")
    until("Knot", lambda: wire.dns(KNOT, zone[0][0])[1] == len(zone[0][1]), alive=child)
    return child


def nginx(directory, body):
    """nginx with one static file."""
    os.makedirs(directory, exist_ok=True)
    with open(f"{directory}/body.json", "wb") as file:
        file.write(body)
    os.chmod(directory, 0o755)
    temporary = " ".join(f"{kind}_temp_path {directory}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    with open(f"{directory}/nginx.conf", "w") as file:
        file.write(f"""daemon off; master_process off; pid {directory}/pid; error_log {directory}/error.log;
events {{ worker_connections 1024; }}
http {{ access_log off; keepalive_requests 100000000; sendfile on; tcp_nopush on; open_file_cache max=100;
  types {{ application/json json; }} {temporary}
  server {{ listen 127.0.0.1:{NGINX}; root {directory}; }} }}
""")
    child = Child(["nginx", "-c", f"{directory}/nginx.conf", "-p", directory], f"{directory}/log")
    until("nginx", lambda: wire.ask(NGINX, "GET", "/body.json")[0] == 200, alive=child)
    return child


def etcd(directory):
    """One etcd."""
    os.makedirs(directory, exist_ok=True)
    url, peer = f"http://127.0.0.1:{ETCD}", f"http://127.0.0.1:{ETCD + 1}"
    child = Child(["etcd", "--name", "a", "--data-dir", f"{directory}/data", "--listen-client-urls", url,
                   "--advertise-client-urls", url, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                   "--initial-cluster", f"a={peer}", "--log-level", "error", "--logger", "zap"],
                  f"{directory}/log", env={"GOMAXPROCS": "1"})
    key = base64.b64encode(b"key").decode()
    put = json.dumps({"key": key, "value": key}).encode()
    until("etcd", lambda: wire.ask(ETCD, "POST", "/v3/kv/put", put)[0] == 200, alive=child)
    return child
