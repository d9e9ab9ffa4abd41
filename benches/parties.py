"""Who takes part: null broker, a private RabbitMQ, HAProxy, Umbel under several configurations, a relay with a distance."""

import glob
import json
import os
import shutil
import socket
from pathlib import Path

import policies
from system import OTHER_CORE, PROXY_CORE, Child, accepts, free_port, wait_for

HERE = Path(__file__).parent
BIN = HERE / "target" / "release"
UMBEL = Path(os.environ.get("UMBEL_BINARY", HERE.parent / "target" / "release" / "umbel"))


class NullBroker:
    def __init__(self, directory, *options):
        self.port, control = free_port(), free_port()
        self.control = f"127.0.0.1:{control}"
        self.child = Child([BIN / "nullbroker", "--port", self.port, "--control", control, *options], OTHER_CORE, directory / "nullbroker.log")
        wait_for(lambda: accepts(self.port) and accepts(control), 10, "the null broker")

    def counts(self):
        host, port = self.control.split(":")
        with socket.create_connection((host, int(port))) as s:
            s.sendall(b"\n")
            return json.loads(s.makefile().readline())

    def processes(self):
        return [self.child]

    def stop(self):
        self.child.stop()


class Rabbit:
    """A node of its own: data, name, ports and epmd, all below one directory."""

    def __init__(self, directory):
        d = directory / "rabbit"
        shutil.rmtree(d, ignore_errors=True)
        (d / "home").mkdir(parents=True)
        self.port, dist, epmd = free_port(), free_port(), free_port()
        cookie = d / "home" / ".erlang.cookie"
        cookie.write_text(f"COOKIE{self.port}")
        cookie.chmod(0o400)
        (d / "enabled_plugins").write_text("[].\n")
        (d / "rabbitmq.conf").write_text(
            f"listeners.tcp.local = 127.0.0.1:{self.port}\ndisk_free_limit.absolute = 10MB\n"
            "vm_memory_high_watermark.absolute = 6GB\nnum_acceptors.tcp = 4\nlog.file.level = error\nlog.console = false\n"
        )
        env = {
            "PATH": os.environ["PATH"], "HOME": str(d / "home"), "LANG": "C.UTF-8", "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(epmd), "ERL_EPMD_RELAXED_COMMAND_CHECK": "true", "RABBITMQ_NODENAME": f"bench_{self.port}@127.0.0.1",
            "RABBITMQ_USE_LONGNAME": "true", "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1", "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(dist), "RABBITMQ_MNESIA_BASE": str(d / "mnesia"), "RABBITMQ_LOG_BASE": str(d / "log"),
            "RABBITMQ_CONFIG_FILE": str(d / "rabbitmq.conf"), "RABBITMQ_CONF_ENV_FILE": str(d / "none.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(d / "enabled_plugins"), "RABBITMQ_FEATURE_FLAGS_FILE": str(d / "feature_flags"),
            "RABBITMQ_PID_FILE": str(d / "pid"), "RUNNING_UNDER_SYSTEMD": "true",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none",
        }
        home = sorted(glob.glob("/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin"))
        if not home:
            raise SystemExit("rabbitmq-server is not installed (apt-get install rabbitmq-server)")
        self.epmd = Child(["epmd", "-port", epmd, "-address", "127.0.0.1"], OTHER_CORE, d / "epmd.log", env=env)
        wait_for(lambda: accepts(epmd), 10, "epmd")
        self.child = Child([Path(home[-1]) / "rabbitmq-server"], OTHER_CORE, d / "server.log", env=env, cwd=d)
        wait_for(lambda: accepts(self.port), 90, "RabbitMQ")

    def processes(self):
        return [self.child]

    def stop(self):
        self.child.stop()
        self.epmd.stop()


class Relay:
    """A broker so far away."""

    def __init__(self, directory, port, rtt_ms):
        self.port = free_port()
        self.child = Child([BIN / "relay", "--port", self.port, "--to", f"127.0.0.1:{port}", "--rtt-ms", rtt_ms], OTHER_CORE, directory / "relay.log")
        wait_for(lambda: accepts(self.port), 10, "the relay")

    def stop(self):
        self.child.stop()


class Contender:
    """Something to connect to in front of a broker."""

    def __init__(self, name, port, child=None):
        self.name, self.port, self.child = name, port, child

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def stop(self):
        if self.child:
            self.child.stop()


def haproxy(directory, broker_port):
    port = free_port()
    config = directory / f"haproxy-{port}.cfg"
    config.write_text(
        "global\n  nbthread 1\n  maxconn 9500\n"
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n  maxconn 9500\n"
        f"listen amqp\n  bind 127.0.0.1:{port}\n  server broker 127.0.0.1:{broker_port}\n"
    )
    child = Child(["haproxy", "-db", "-f", config], PROXY_CORE, directory / "haproxy.log")
    wait_for(lambda: accepts(port), 10, "HAProxy")
    return Contender("haproxy", port, child)


CONFIGS = {
    "umbel": ("", ""),
    "umbel-policy": ("", policies.rules(20) + policies.routes(200)),
    "umbel-10k": ("", policies.rules(20) + policies.routes(10_000)),
    "umbel-durable": ('tier = "durable"\n', '[spool]\npath = "{spool}"\nmax_bytes = "8GiB"\n'),
    "umbel-compress": ("", policies.COMPRESS),
}


def umbel(name, directory, broker_port):
    port, admin = free_port(), free_port()
    upstream, rest = CONFIGS[name]
    spool = directory / f"spool-{port}"
    spool.mkdir()
    config = directory / f"{name}-{port}.toml"
    config.write_text(
        f'[listen]\namqp = "127.0.0.1:{port}"\nadmin = "127.0.0.1:{admin}"\n\n'
        f'[upstreams.default]\nurls = ["amqp://127.0.0.1:{broker_port}"]\n{upstream}\n[log]\nlevel = "warn"\n\n' + rest.replace("{spool}", str(spool))
    )
    log = directory / f"{name}.log"
    child = Child([UMBEL, "run", "--config", config], PROXY_CORE, log)
    wait_for(lambda: accepts(port) or not child.alive(), 10, name)
    if not child.alive():
        raise SystemExit(f"{name} ended:\n{child.tail()}")
    return Contender(name, port, child)


def contenders(names, directory, broker_port):
    made = []
    for name in names:
        if name == "direct":
            made.append(Contender("direct", broker_port))
        elif name == "haproxy":
            made.append(haproxy(directory, broker_port))
        else:
            made.append(umbel(name, directory, broker_port))
    return made
