"""A private RabbitMQ node on loopback: own data, own name, own ports, own epmd; ended with the test run."""

import glob
import os
import shutil
import socket
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path

from .process import Process, free_port, wait_for
from .wire import Client, Refused

PLAIN_CONFIG = """\
listeners.tcp.local = 127.0.0.1:{port}
disk_free_limit.absolute = 10MB
vm_memory_high_watermark.absolute = 2GB
num_acceptors.tcp = 4
log.file.level = info
log.console = false
collect_statistics_interval = 1000
"""


def home():
    """Where the broker is installed, past Debian's wrapper (it insists on the rabbitmq user's own directories)."""
    found = sorted(glob.glob("/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin"))
    if not found:
        raise RuntimeError("rabbitmq-server is not installed: tests/run installs it")
    return Path(found[-1])


class RabbitNode:
    def __init__(self, directory, config="", plugins=()):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.dist_port = free_port()
        self.epmd_port = free_port()
        self.name = f"umbel_{self.port}@127.0.0.1"
        self.cookie = f"COOKIE{self.port}"
        self.process = None
        self.epmd = None
        self._asker, self._asking = None, threading.Lock()
        d = self.directory
        (d / "home").mkdir(exist_ok=True)
        cookie = d / "home" / ".erlang.cookie"
        if not cookie.exists():
            cookie.write_text(self.cookie)
            cookie.chmod(0o400)
        self.cookie = cookie.read_text()  # of whoever was killed here before, if anybody was
        (d / "enabled_plugins").write_text(f"[{','.join(plugins)}].\n")
        (d / "rabbitmq.conf").write_text(PLAIN_CONFIG.format(port=self.port) + config)
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(d / "home"),
            "LANG": "C.UTF-8",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_RELAXED_COMMAND_CHECK": "true",
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_USE_LONGNAME": "true",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.dist_port),
            "RABBITMQ_MNESIA_BASE": str(d / "mnesia"),
            "RABBITMQ_LOG_BASE": str(d / "log"),
            "RABBITMQ_CONFIG_FILE": str(d / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(d / "none-rabbitmq-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(d / "enabled_plugins"),
            "RABBITMQ_FEATURE_FLAGS_FILE": str(d / "feature_flags"),
            "RABBITMQ_PID_FILE": str(d / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none",
            # `exec erl`, so that the pid we hold is the broker's own and signals reach it
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    @property
    def address(self):
        return ("127.0.0.1", self.port)

    def url(self, user="guest", password="guest", vhost=""):
        return f"amqp://{user}:{password}@127.0.0.1:{self.port}/{vhost}"

    # life and death

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.remove()
            raise

    def __exit__(self, *_):
        self.remove()

    def argv(self, program):
        """How one of RabbitMQ's own programs is run."""
        return [home() / program]

    def start(self, wait=True):
        if self.epmd is None or not self.epmd.alive():
            self.epmd = Process(["epmd", "-port", self.epmd_port, "-address", "127.0.0.1"], self.directory / "epmd.out", env=self.env)
            wait_for(lambda: _accepts(self.epmd_port), what="epmd")
        self.process = Process(self.argv("rabbitmq-server"), self.directory / "server.out", env=self.env, cwd=self.directory)
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, timeout=170):
        wait_for(self._ready, timeout, 0.1, what=lambda: f"broker on {self.port}\n{self.process.tail()}")

    def _ready(self):
        assert self.process.alive(), f"the broker ended:\n{self.process.tail()}"
        try:
            with Client.open(self.address, timeout=10):
                return True
        except (OSError, Refused, EOFError):
            return False

    def stop(self):
        """Everything, epmd too."""
        if self.process:
            self.process.kill()
        for other in (self._asker, self.epmd):
            if other:
                other.kill()
        self.process = self.epmd = self._asker = None

    def shut_down(self, timeout=30):
        """As an operator would: SIGTERM, data kept."""
        self.process.stop(timeout)

    def keep_declarations(self):
        """Until its log is in the tables' own files, RabbitMQ now and then forgets, after a kill, a queue whose declaration it answered a second
        before (tests/faults/forgets_queues)."""
        self.eval("catch mnesia:dump_log()")

    def kill(self):
        """As a power cut would: SIGKILL, data kept."""
        self.process.resume()
        self.process.kill()

    def pause(self):
        self.process.pause()

    def resume(self):
        self.process.resume()

    # asking it

    def eval(self, erlang):
        """What the node answers to an Erlang expression. One hidden Erlang beside it stays for all questions: rabbitmqctl takes two seconds each."""
        with self._asking:
            if self._asker is None or not self._asker.alive():
                script = (
                    f"F = fun F() -> case io:get_line('') of eof -> halt(); L -> A = try {{ok, T, _}} = erl_scan:string(L), "
                    f"{{ok, E}} = erl_parse:parse_exprs(T), case rpc:call('{self.name}', erl_eval, exprs, [E, []], 20000) of {{value, V, _}} -> {{value, V}}; X -> {{bad, X}} end catch _:W -> {{bad, W}} end, "
                    'io:format("~0tp~n", [A]), F() end end, F().'
                )
                argv = ["erl", "-noshell", "-hidden", "-boot", "start_clean", "-start_epmd", "false",
                        "-name", f"ask{os.getpid()}_{self.port}@127.0.0.1", "-setcookie", self.cookie,
                        "-kernel", "inet_dist_use_interface", "{127,0,0,1}", "-eval", script]
                self._asker = Process(argv, self.directory / "ask.out", env=self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            question = " ".join(erlang.split()).rstrip(".") + ".\n"
            self._asker.popen.stdin.write(question.encode())
            self._asker.popen.stdin.flush()
            answer = self._asker.popen.stdout.readline().decode().strip()
        if not answer.startswith("{value,"):
            raise RuntimeError(f"{erlang} answered {answer}")
        return answer[len("{value,"):-1].strip()

    def add_vhost(self, vhost, user="guest"):
        self.eval(
            f'rabbit_vhost:add(<<"{vhost}">>, <<"tests">>), rabbit_auth_backend_internal:set_permissions('
            f'<<"{user}">>, <<"{vhost}">>, <<".*">>, <<".*">>, <<".*">>, <<"tests">>), ok'
        )

    def delete_vhost(self, vhost):
        """With all that is in it, also where it is not there."""
        self.eval(f'catch rabbit_vhost:delete(<<"{vhost}">>, <<"tests">>)')

    @contextmanager
    def vhost(self, name):
        """A vhost that is gone when nobody needs it any more."""
        self.add_vhost(name)
        try:
            yield name
        finally:
            self.delete_vhost(name)

    def add_user(self, user, password, vhost="/"):
        self.eval(
            f'catch rabbit_auth_backend_internal:add_user(<<"{user}">>, <<"{password}">>, <<"tests">>), '
            f'rabbit_auth_backend_internal:set_permissions(<<"{user}">>, <<"{vhost}">>, <<".*">>, <<".*">>, <<".*">>, <<"tests">>), ok'
        )

    def close_connections(self, reason="closed by the tests"):
        """As `rabbitmqctl close_all_connections`: 320 to everybody."""
        self.eval(f'rabbit_networking:close_connections(rabbit_networking:connections(), "{reason}")')

    def connections(self):
        return int(self.eval("length(rabbit_networking:connections())"))

    def memory_alarm(self, on):
        self.eval("vm_memory_monitor:set_vm_memory_high_watermark(%s)" % ("0.00000001" if on else "{absolute, 2000000000}"))

    def client(self, **options):
        return Client.open(self.address, **options)

    def depth(self, queue, vhost="/"):
        """Messages ready in a queue, or None where there is none."""
        with self.client(vhost=vhost) as c:
            return c.depth(queue)

    def remove(self):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


def _accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
        return True
    except OSError:
        return False
