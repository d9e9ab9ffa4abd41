"""The clients: how each is fetched by its own package client, run against an address, and what it says, as {test: outcome}."""
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as xml
from contextlib import contextmanager
from pathlib import Path

from harness.process import Process, free_port

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHE = ROOT / "target" / "suites"
VENV = CACHE / "venv"
PROGRAMS = HERE / "programs"
# Not those that measure memory or read files with a broker in memory, nor those of other databases.
CELERY_FILES = ["beat", "canvas", "connection_recovery", "group_chains", "inspect", "loader", "redis_backend", "security",
                "serialization", "tasks", "worker"]
VHOST = "suite"  # the programs' own; the suites of others use "/"


class Missing(Exception):
    """What the client needs is not on this machine and cannot be fetched."""


def sh(argv, timeout=900, check=True, **options):
    done = subprocess.run([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", timeout=timeout, **options)
    if check and done.returncode:
        raise Missing("%s: %s" % (argv[0], done.stdout[-500:]))
    return done


def settle(text):
    """Text without what differs from one run to the next."""
    text = re.sub(r"0x[0-9a-f]{6,}", "0x…", text)
    text = re.sub(r"amq\.gen-[\w-]+", "amq.gen-*", text)
    text = re.sub(r"amq_[0-9a-f]{32}", "amq_*", text)
    text = re.sub(r"amq\.ctag-[\w-]+", "amq.ctag-*", text)
    text = re.sub(r"(127\.0\.0\.1|localhost|::1):\d+", "ADDRESS", text)
    return re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID", text)


# ------------------------------------------------------------------------------------------------------- fetching
def venv():
    python = VENV / "bin" / "python"
    if not (VENV / "ready").exists():
        sh([sys.executable, "-m", "venv", VENV])
        sh([VENV / "bin" / "pip", "install", "-q", "setuptools", "wheel", "pytest", "pytest-rerunfailures", "pytest-timeout",
            "pytest-subtests", "pytest-order", "amqp", "kombu", "celery", "pika", "aio-pika", "redis", "pymemcache",
            "freezegun", "pydantic", "sqlalchemy", "cryptography", "msgpack", "pyyaml", "django"])
        (VENV / "ready").touch()
    return python


def sdist(name):
    """The unpacked source distribution of what is installed in the venv."""
    python = venv()
    version = sh([python, "-c", "import importlib.metadata as m; print(m.version('%s'))" % name]).stdout.strip()
    place = CACHE / ("%s-%s" % (name, version))
    if not place.exists():
        sh([VENV / "bin" / "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "--no-build-isolation",
            "-d", CACHE, "%s==%s" % (name, version)])
        sh(["tar", "xzf", place.with_name(place.name + ".tar.gz"), "-C", CACHE])
    return place


def debian(*packages, has):
    if not (shutil.which(has) or os.path.exists(has)):
        if os.geteuid() or not shutil.which("apt-get"):
            raise Missing("install " + " ".join(packages))
        sh(["apt-get", "install", "-y", "--no-install-recommends", *packages],
           env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})


# ------------------------------------------------------------------------------------------------------- running
def pytest(cwd, host, port, *arguments, env=None, timeout=1500):
    report = CACHE / ("junit-%d.xml" % os.getpid())
    report.unlink(missing_ok=True)
    out = sh([venv(), "-m", "pytest", "-q", *([] if "cacheprovider" in arguments else ["-p", "no:cacheprovider"]), "--timeout=120", "--junitxml", report, *arguments],
             cwd=cwd, check=False, timeout=timeout, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(env or {})})
    if not report.exists():
        return {"pytest itself": settle(out.stdout[-400:])}
    results = {}
    for case in xml.parse(report).getroot().iter("testcase"):
        name = "%s::%s" % (case.get("classname", "").split(".")[-1], case.get("name"))
        kinds = {child.tag: child for child in case}
        if "failure" in kinds or "error" in kinds:
            child = kinds.get("failure", kinds.get("error"))
            outcome = "failed: " + settle((child.get("message") or "").split("\n")[0])[:160]
        elif "skipped" in kinds:
            outcome = "skipped"
        else:
            outcome = "passed"
        results[name] = outcome
    return results


def program(argv, timeout=300, env=None):
    """A program of ours: `step: what was seen`, a line each."""
    try:
        out = sh(argv, check=False, timeout=timeout, env={**os.environ, **(env or {})})
        text, code = out.stdout, out.returncode
    except subprocess.TimeoutExpired as e:
        text, code = (e.stdout or b"").decode(errors="replace"), "never"
    results, last = {}, None
    for line in text.splitlines():
        step, colon, seen = line.partition(": ")
        if colon and re.fullmatch(r"[\w ./-]{1,60}", step):
            while step in results:
                step += "'"
            results[step] = settle(seen)
            last = step
        elif last:
            results[last] += " / " + settle(line)
    results["ended"] = str(code)
    return results


def py_amqp(host, port):
    return pytest(sdist("amqp"), host, port, "t/integration", "-k", "not tls",
                  env={"RABBITMQ_HOST": host, "RABBITMQ_5672_TCP": str(port)})


def kombu(host, port):
    return pytest(sdist("kombu"), host, port, "t/integration/test_py_amqp.py",
                  env={"RABBITMQ_HOST": host, "RABBITMQ_5672_TCP": str(port)})


def celery(host, port, backend="rpc://", environment=()):
    """Celery's integration tests that speak to a broker, a session worker (prefork, its own fixture) for each file of them.

    Its own limit of five minutes, tried six times, is a minute and a half, and once more alone with its five where that failed: what
    waits for ever must not take half an hour, and what a busy machine made late must not be called a failure.
    """
    place = sdist("celery")
    conftest = place / "t" / "integration" / "conftest.py"
    conftest.write_text(conftest.read_text().replace("timeout=300", 'timeout=int(os.environ["A_TEST_MAY_TAKE"])'))
    url = "pyamqp://guest:guest@%s:%d//" % (host, port)

    cache = CACHE / ("pytest-%d" % os.getpid())
    environment = {"TEST_BROKER": url, "TEST_BACKEND": backend, "PYTHONPATH": str(place),
                   "PATH": "%s:%s" % (VENV / "bin", os.environ["PATH"]), **dict(environment)}
    results = {}
    for file in CELERY_FILES:
        arguments = ("t/integration/test_%s.py" % file, "-p", "celery.contrib.pytest", "-p", "no:rerunfailures",
                     "-p", "cacheprovider", "-o", "cache_dir=%s" % cache)
        seen = pytest(place, host, port, *arguments, timeout=3600, env={**environment, "A_TEST_MAY_TAKE": "90"})
        if any(outcome.startswith("failed") for outcome in seen.values()):
            seen.update(pytest(place, host, port, *arguments, "--lf", timeout=3600, env={**environment, "A_TEST_MAY_TAKE": "300"}))
        results.update(seen)
    shutil.rmtree(cache, ignore_errors=True)
    return results


@contextmanager
def a_redis():
    """A Redis of its own: its port."""
    debian("redis-server", has="redis-server")
    port = free_port()
    redis = Process(["redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"], CACHE / "redis.out")
    try:
        yield port
    finally:
        redis.kill()


def celery_redis(host, port):
    """The same with results in a Redis of its own, which brings the tests that ask for it: most of the canvas."""
    with a_redis() as redis:
        return celery(host, port, "redis://127.0.0.1:%d/0" % redis, {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(redis)})


def celery_control(host, port):
    """Remote control, events, canvas, the command line, `celery multi`, and how workers end."""
    with a_redis() as redis:
        return program([venv(), PROGRAMS / "program_celery.py", host, port, VHOST, "redis://127.0.0.1:%d/0" % redis], timeout=600)


def librabbitmq(host, port):
    """Its binding, and Celery 4.4 by it. The newest wheels are Python 2.7's to 3.6's; in 3 its buffers break the worker."""
    found = sorted(glob.glob(os.path.expanduser("~/.pyenv/versions/2.7.*/bin/python"))) or [shutil.which("python2.7")]
    if not found[-1]:
        raise Missing("install a Python 2.7")
    place = CACHE / "librabbitmq"
    if not (place / "ready").exists():
        sh([VENV / "bin" / "pip", "install", "-q", "virtualenv==20.21.1"])
        sh([venv(), "-m", "virtualenv", "-q", "-p", found[-1], place])
        sh([place / "bin" / "pip", "install", "-q", "librabbitmq==2.0.0", "celery==4.4.7"])
        (place / "ready").touch()
    return program([place / "bin" / "python", PROGRAMS / "program_librabbitmq.py", host, port, VHOST])


def pika(host, port):
    return program([venv(), PROGRAMS / "program_pika.py", host, port, VHOST])


def aio_pika(host, port):
    return program([venv(), PROGRAMS / "program_aio_pika.py", host, port, VHOST])


def pika_loops(host, port):
    return program([venv(), PROGRAMS / "program_pika_loops.py", host, port, VHOST])


def kombu_program(host, port):
    return program([venv(), PROGRAMS / "program_kombu.py", host, port, VHOST])


def amqp_tools(host, port):
    debian("amqp-tools", has="amqp-publish")
    return program(["sh", PROGRAMS / "program_tools.sh", host, port, VHOST])


def bunny(host, port):
    debian("ruby-bunny", has="ruby")
    return program(["ruby", PROGRAMS / "program_bunny.rb", host, port, VHOST])


def php_amqplib(host, port):
    debian("php-cli", "php-amqplib", "php-mbstring", has="/usr/share/php/PhpAmqpLib/autoload.php")
    return program(["php", PROGRAMS / "program_php_amqplib.php", host, port, VHOST])


def amqp091_go(host, port):
    source = "/usr/share/gocode/src/github.com/rabbitmq/amqp091-go"
    debian("golang-go", "golang-github-rabbitmq-amqp091-go-dev", has=source)
    # Copied, because its examples dial localhost:5672 and would speak to any broker that is there.
    place = CACHE / "go" / "src" / "github.com" / "rabbitmq" / "amqp091-go"
    if not place.exists():
        shutil.copytree(source, place, symlinks=False)
        for file in place.glob("*_test.go"):
            text = file.read_text()
            if "localhost:5672" in text:
                file.unlink()
    gopath = "%s:/usr/share/gocode" % (CACHE / "go")
    out = sh(["go", "test", "-json", "-tags", "integration", "-timeout", "600s", "."], cwd=place, check=False, env={
        **os.environ, "GO111MODULE": "off", "GOPATH": gopath, "GOCACHE": str(CACHE / "gocache"), "GOFLAGS": "",
        "AMQP_URL": "amqp://guest:guest@%s:%d/" % (host, port)})
    results, said = {}, {}
    for line in out.stdout.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        test = event.get("Test")
        if test and event["Action"] == "output":
            said.setdefault(test, []).append(event["Output"].strip())
        elif test and event["Action"] in ("pass", "fail", "skip"):
            results[test] = {"pass": "passed", "skip": "skipped", "fail": "failed"}[event["Action"]]
            if event["Action"] == "fail":
                results[test] += ": " + settle(" / ".join(s for s in said.get(test, []) if "_test.go" in s))[:160]
    return results or {"go itself": out.stdout[-400:]}


def lapin(host, port):
    """The crate's own tests, from the registry's copy, and a program of ours."""
    program_place, target = CACHE / "program_lapin", CACHE / "lapin-target"
    shutil.copytree(PROGRAMS / "lapin", program_place, dirs_exist_ok=True)
    version = re.search(r'lapin = "=([^"]+)"', (program_place / "Cargo.toml").read_text())[1]
    place = CACHE / ("lapin-" + version)
    environment = {**os.environ, "CARGO_TARGET_DIR": str(target), "RUST_LOG": "error"}
    sh(["cargo", "build", "-q"], cwd=program_place, timeout=1800, env=environment)
    if not place.exists():
        home = os.environ.get("CARGO_HOME", os.path.expanduser("~/.cargo"))
        shutil.copytree(glob.glob("%s/registry/src/*/lapin-%s" % (home, version))[0], place)
        with open(place / "Cargo.toml", "a") as f:
            f.write("\n[workspace]\n")
        # It expects nobody on the port 5673 of this machine, whoever that may be.
        (place / "tests" / "conn_refused.rs").write_text("")
    results = {"program: " + step: seen for step, seen in program([target / "debug" / "program_lapin", host, port, VHOST]).items()}
    own = ["cargo", "test", "--tests", "--no-fail-fast", "--features", "smol"]
    sh([*own, "--no-run"], cwd=place, timeout=1800, env=environment)
    out = sh([*own, "--", "--test-threads=1"], cwd=place, check=False, timeout=600,
             env={**environment, "AMQP_ADDR": "amqp://guest:guest@%s:%d/%%2f" % (host, port)})
    binary = "lapin"
    for line in out.stdout.splitlines():
        running = re.search(r"Running (?:unittests )?(\S+)", line)
        if running:
            binary = Path(running[1]).stem
        found = re.match(r"test (\S+)(?: - should panic)? \.\.\. (\w+)", line)
        if found:
            results["%s::%s" % (binary, found[1])] = {"ok": "passed", "FAILED": "failed", "ignored": "skipped"}.get(found[2], found[2])
    for test, said in re.findall(r"^thread '([^']+)'.* panicked at [^\n]+:\n([^\n]+)", out.stdout, re.MULTILINE):
        for name in results:
            if name.endswith("::" + test) and results[name] == "failed":
                results[name] = "failed: " + settle(said)[:160]
    return results


def node_amqplib(host, port):
    """amqplib's own tests as its package ships them (2.0.0 is the newest that does)."""
    if not shutil.which("npm"):
        raise Missing("install nodejs and npm")
    place = CACHE / "amqplib"
    if not (place / "package" / "node_modules").exists():
        place.mkdir(parents=True, exist_ok=True)
        sh(["npm", "pack", "-s", "amqplib@2.0.0"], cwd=place)
        sh(["tar", "xzf", "amqplib-2.0.0.tgz"], cwd=place)
        sh(["npm", "pkg", "delete", "devDependencies"], cwd=place / "package")
        sh(["npm", "install", "--no-save", "--ignore-scripts", "claire@0.4.1"], cwd=place / "package")
        # Many of its tests dial amqp://localhost: the default port comes from the environment instead.
        connect = place / "package" / "lib" / "connect.js"
        connect.write_text(connect.read_text().replace("5672", "Number(process.env.AMQP_PORT)"))
    out = sh(["node", "--test", "--test-timeout=60000", "--test-reporter=tap", "--test-concurrency=1",
              *["test/%s.test.js" % t for t in ("callback_api", "channel_api", "connect", "recovery")]],
             cwd=place / "package", check=False,
             env={**os.environ, "URL": "amqp://guest:guest@%s:%d/" % (host, port), "AMQP_PORT": str(port)})
    results, path, name = {}, [], None
    for line in out.stdout.splitlines():
        depth = (len(line) - len(line.lstrip())) // 4
        title = re.match(r"\s*# Subtest: (.*)", line)
        if title:
            path[depth:] = [Path(title[1]).name if "/" in title[1] else title[1]]
        done = re.match(r"\s*(not ok|ok) \d+ - (.*?)( # .*)?$", line)
        if done:
            name = " > ".join(path[:depth] + [Path(done[2]).name if "/" in done[2] else done[2]])
            while name in results:
                name += "'"
            results[name] = "skipped" if (done[3] or "").strip("# ").startswith("SKIP") else {"ok": "passed"}.get(done[1], "failed")
        said = re.match(r"\s*error: (?!\|)(.*)", line)
        if said and results.get(name) == "failed":
            results[name] += ": " + settle(said[1].strip("'"))
    return results or {"node itself": out.stdout[-600:]}


CLIENTS = {
    "py-amqp": py_amqp, "kombu": kombu, "kombu-program": kombu_program, "pika": pika, "pika-loops": pika_loops, "aio-pika": aio_pika, "amqp-tools": amqp_tools, "librabbitmq": librabbitmq, "bunny": bunny,
    "php-amqplib": php_amqplib, "amqplib": node_amqplib, "amqp091-go": amqp091_go, "lapin": lapin,
    "celery-control": celery_control, "celery": celery, "celery-redis": celery_redis,
}
