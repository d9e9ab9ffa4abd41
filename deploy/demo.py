"""The demo's story: what the producer asked for, what the worker got. Both sides are asked; Umbel's own counters are not."""

import argparse
import json
import re
import shutil
import signal
import subprocess
import sys
import time

from harness.celery import Producer, ProducerError, Worker
from harness.process import ROOT, wait_for
from harness.rabbit import RabbitNode
from harness.umbel import BINARY, Umbel

PLACE = ROOT / "target" / "demo"
PAST = "expires=__import__('datetime').datetime.now(__import__('datetime').timezone.utc) - __import__('datetime').timedelta(minutes=1)"
BOLD, DIM, GREEN, RED, PLAIN = ("\033[1m", "\033[2m", "\033[32m", "\033[31m", "\033[0m") if sys.stdout.isatty() else ("",) * 5

# what is called: (task, arguments, options, what config.toml makes of it)
CALLS = [
    ("feeds_pull", "('https://feeds.invalid',)", "", "feeds have their own queue"),
    ("video_encode", "('holiday.mov',)", "", "task_routes: video.* → media"),
    ("checkout_pay", "(42,)", "priority=9", "no rule: as it was sent"),
    ("reports_daily", "('monday',)", "priority=9", "reports never outrank checkouts"),
    ("images_resize", "('pixel ' * 5000,)", "", "big bodies travel compressed"),
    ("add", "(1, 1)", PAST, "expired tasks are revoked here"),
]


NAMES = {"feeds_pull": "feeds.pull", "video_encode": "video.encode", "checkout_pay": "checkout.pay", "reports_daily": "reports.daily",
         "images_resize": "images.resize", "add": "proj.tasks.add"}


def copy_of_config(umbel, upstream):
    """config.toml with this demo's addresses; everything else is the repo's."""
    text = (ROOT / "config.toml").read_text()
    for key, value in (("amqp", f'"127.0.0.1:{umbel.port}"'), ("admin", f'"127.0.0.1:{umbel.admin_port}"'), ("urls", f'["{upstream}"]')):
        text, found = re.subn(rf'(?m)^{key}(\s*)= (?:"[^"]*"|\[.*?\])', rf"{key}\1= {value}", text, count=1)
        assert found == 1, f"config.toml has no {key}"
    return text


class Edits:
    """The repo's config.toml, which people will edit, whatever they are told: what changes there is taken over, as far as it is good."""

    def __init__(self, umbel, upstream):
        self.umbel, self.upstream, self.text = umbel, upstream, (ROOT / "config.toml").read_text()

    def take_over(self):
        if (text := (ROOT / "config.toml").read_text()) == self.text:
            return
        self.text = text
        checked = subprocess.run([BINARY, "check", ROOT / "config.toml"], capture_output=True, text=True, timeout=60)
        if checked.returncode:
            print(f"{RED}config.toml was edited, and is not taken over:{PLAIN}\n{checked.stderr}", flush=True)
            return
        self.umbel.config.write_text(copy_of_config(self.umbel, self.upstream))
        time.sleep(1)
        print(f"{BOLD}config.toml was edited, and is taken over{PLAIN}", flush=True)


class Show:
    def __init__(self, producer, worker):
        self.producer, self.worker = producer, worker
        self.arrivals = worker.journal.with_name(worker.journal.name + ".arrived")
        self.wrong = []

    def heading(self):
        print(f"{BOLD}{'task':15} {'queue asked → reached':24} {'priority':9} {'bytes':17} {'the caller sees':26} why{PLAIN}", flush=True)

    def arrived(self, task_id):
        """What the worker's own socket brought, or None."""
        if self.arrivals.exists():
            for line in self.arrivals.read_text().splitlines():
                seen = json.loads(line)
                if seen["id"] == task_id:
                    return seen
        return None

    def call(self, task, arguments, options, why):
        self.producer.published()
        task_id = self.producer.run(f"globals().__setitem__('call', {task}.apply_async({arguments}, {options})) or call.id")
        asked = [p for p in self.producer.published() if p["id"] == task_id][0]
        try:
            answer = str(self.producer.run("call.get(timeout=60)"))
            state = "SUCCESS"
            got = wait_for(lambda: self.arrived(task_id))
        except ProducerError as error:
            answer, state, got = error.kind, self.producer.run("call.state"), self.arrived(task_id)
        shown = f"{state} {answer}"[:26] if state != "SUCCESS" else answer[:26]
        if got:
            line = (f"{asked['routing_key']} → {got['routing_key']}", f"{asked['priority'] or 0} → {got['priority'] or 0}",
                    f"{asked['bytes']} → {got['bytes']}" + (" z" if got["compression"] else ""))
        else:
            line = (f"{asked['routing_key']} → nowhere", f"{asked['priority'] or 0}", f"{asked['bytes']}")
        print(f"{NAMES.get(task, task):15} {line[0]:24} {line[1]:9} {line[2]:17} {shown:26} {DIM}{why}{PLAIN}", flush=True)
        return {"asked": asked, "got": got, "state": state, "answer": answer, "ran": self.worker.ran(task_id)}

    def expect(self, what, holds):
        print(f"  {GREEN}✓{PLAIN} {what}" if holds else f"  {RED}✗ {what}{PLAIN}", flush=True)
        if not holds:
            self.wrong.append(what)

    def round(self):
        return {task: self.call(task, arguments, options, why) for task, arguments, options, why in CALLS}

    def judge(self, seen):
        feeds, video, pay, report, image, late = (seen[task] for task, *_ in CALLS)
        self.expect("feeds.pull was published to celery and reached feeds", feeds["got"] and (feeds["asked"]["routing_key"], feeds["got"]["routing_key"]) == ("celery", "feeds"))
        self.expect("video.encode was published to celery and reached media", video["got"] and video["got"]["routing_key"] == "media")
        self.expect("checkout.pay kept its priority 9", pay["got"] and pay["got"]["priority"] == 9)
        self.expect("reports.daily was sent with 9 and arrived with 3", report["got"] and (report["asked"]["priority"], report["got"]["priority"]) == (9, 3))
        self.expect("images.resize arrived smaller and the worker read it", image["got"] and image["got"]["bytes"] < image["asked"]["bytes"] / 5 and image["answer"] == "30000")
        self.expect("the expired task never reached the worker, and its caller saw REVOKED", late["state"] == "REVOKED" and not late["got"] and not late["ran"])
        self.expect("every other task was executed once", all(len(s["ran"]) == 1 for s in (feeds, video, pay, report, image)))


def edit(umbel, before, after):
    text = umbel.config.read_text()
    assert before in text, f"{before} is not in the configuration"
    umbel.config.write_text(text.replace(before, after))


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--once", action="store_true")
    once = arguments.parse_args().once
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))

    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True)
    started, show = [], None
    try:
        print(f"{BOLD}== Starting{PLAIN}", flush=True)
        node = RabbitNode(PLACE / "rabbitmq")
        started.append(node.stop)
        node.start()
        print(f"   RabbitMQ on 127.0.0.1:{node.port}", flush=True)
        umbel = Umbel(PLACE, node.url(), name="config")
        umbel.config.write_text(copy_of_config(umbel, node.url()))
        started.append(umbel.stop)
        umbel.start()
        print(f"   Umbel    on 127.0.0.1:{umbel.port}, with {umbel.config.relative_to(ROOT)} (config.toml, these addresses)", flush=True)
        worker = Worker(PLACE, umbel.url(), ["celery", "feeds", "fast-feeds", "media"], name="worker", settings={"worker_enable_remote_control": True})
        started.append(worker.stop)
        producer = Producer(PLACE, umbel.url(), name="producer")
        started.append(producer.stop)
        worker.start()
        print(f"   a Celery worker and a producer, both connected to Umbel (logs: {PLACE.relative_to(ROOT)})\n", flush=True)

        show = Show(producer, worker)
        show.heading()
        show.judge(show.round())

        print(f"\n{BOLD}== The file is edited while everything runs: feeds go to fast-feeds{PLAIN}", flush=True)
        edit(umbel, 'route = { queue = "feeds" }', 'route = { queue = "fast-feeds" }')
        end, seen = time.monotonic() + 60, None
        while time.monotonic() < end and not (seen and seen["got"] and seen["got"]["routing_key"] == "fast-feeds"):
            time.sleep(1)
            seen = show.call("feeds_pull", "('https://feeds.invalid',)", "", "read again when it changed")
        show.expect("feeds.pull reached fast-feeds", seen["got"] and seen["got"]["routing_key"] == "fast-feeds")
        edit(umbel, 'route = { queue = "fast-feeds" }', 'route = { queue = "feeds" }')

        if once:
            return 1 if show.wrong else 0
        print(f"\n{BOLD}== It goes on.{PLAIN} Edit config.toml (or {umbel.config}) and watch; Ctrl-C ends everything.")
        print(f"   page     http://127.0.0.1:{umbel.admin_port}/\n   metrics  http://127.0.0.1:{umbel.admin_port}/metrics")
        print(f"   status   http://127.0.0.1:{umbel.admin_port}/status\n   your own producer: broker_url = {umbel.url()}\n", flush=True)
        edits = Edits(umbel, node.url())
        show.heading()
        while True:
            for _ in range(5):
                time.sleep(1)
                edits.take_over()
            show.round()
            print(flush=True)
    except KeyboardInterrupt:
        return 1 if show is not None and show.wrong else 0
    finally:
        # A second Ctrl-C must not leave half of it behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print(f"\n{BOLD}== Ending what was started{PLAIN}", flush=True)
        for stop in reversed(started):
            try:
                stop()
            except Exception as error:  # the rest must end all the same
                print(f"   {error!r}", file=sys.stderr)
        shutil.rmtree(PLACE / "rabbitmq", ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
