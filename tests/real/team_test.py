"""One policy as a platform team writes it, all of it in one file, and what each kind of task meets with it. Celery 5.7 in CI, the others with the
long ones (`tests/run -k team`)."""

import pytest

from conftest import AGES
from harness.celery import ProducerError
from harness.pair import Pair
from harness.process import wait_equal

POLICY = """
[upstreams.eu]
urls = ["{eu}"]

[dead_letter]
queue = "dead"

[[rules]]
name = "pickle is over"
match = { content_type = "application/x-python-serialize" }
admission = "dead-letter"

[[rules]]
name = "acme has three at once, and one an hour"
match = { headers = { tenant = "acme" } }
admission = { action = "dead-letter", rate = 0.0003, burst = 3, reason = "acme is over its limit" }

[[rules]]
name = "what we know"
match = { task = ["proj.*", "feeds.*", "reports.*", "stats.*", "video.*", "checkout.*", "images.*", "celery.*"] }
admission = "allow"

[[rules]]
name = "what nobody knows"
admission = { action = "dead-letter", reason = "no such task here" }

[[rules]]
name = "only operators shut workers down"
match = { traffic = "other", exchange = "celery.pidbox", user = "guest" }
admission = "nack"

[[rules]]
name = "gold first"
match = { headers = { tenant = "gold" } }
priority = 9

[[rules]]
name = "nobody else above five"
priority = { max = 5 }

[[rules]]
name = "a stale feed is worth nothing"
match = { task = "feeds.*" }
expiry = { action = "revoke", default = "1h", stamp_ttl = true }

[[rules]]
name = "big ones are packed"
match = { size_over = "8KiB" }
compression = "zlib"

[[rules]]
name = "payments stay in the EU"
match = { task = "checkout.*" }
route = { upstream = "eu", queue = "payments" }

[[task_routes]]
task = "video.*"
queue = "media"

[[task_routes]]
task = { regex = '(reports|stats)[.](daily|hourly)$' }
queue = "batch"
"""
PAST = "expires=__import__('datetime').datetime.utcnow() - __import__('datetime').timedelta(seconds=60)"


def young_now_others_long(age):
    return age if isinstance(age, str) else pytest.param(*age.values, marks=[*age.marks, pytest.mark.long], id=age.id)


@pytest.mark.parametrize("age", [young_now_others_long(age) for age in AGES])
def test_a_team_s_policy_does_what_it_says_for_each_kind_of_task(make_umbel, node, vhost, place, age):
    umbel = make_umbel(node.url(), POLICY.replace("{eu}", node.url(vhost=vhost)))
    with Pair(place, umbel, node, age, f"team-{age}", queues=["celery", "media", "batch"]) as shop:
        reached = [shop.run_and_see(*task)[1]["routing_key"] for task in (
            ("video_encode", "", "('film',)"), ("reports_daily", "", "('monday',)"), ("stats_hourly", ""), ("reports_daily", "queue='media'"))]
        assert reached == ["media", "batch", "batch", "media"], "glob, regex, regex, and what the producer named itself"

        asked = [shop.run_and_see("add", f"headers={{'tenant': '{who}'}}, priority={p}", "(1, 1)")[1]["priority"] for who, p in (("gold", 0), ("tin", 9), ("tin", 2))]
        assert asked == [9, 5, 2]

        with pytest.raises(ProducerError, match="expired"):
            shop.run(f"feeds_pull.apply_async(('u',), {PAST}).get(timeout=30)")
        task_id, _ = shop.call("feeds_pull", "queue='unread'", "('u',)")
        assert 0 < int(shop.in_broker("unread").properties["expiration"]) <= 3_600_000

        assert shop.run_and_see("images_resize", "", "('x' * 30000,)")[0] == 30000
        assert umbel.metric("umbel_compression_in_bytes_total") > 30_000 > 30 * umbel.metric("umbel_compression_out_bytes_total")

        task_id, _ = shop.call("checkout_pay", "", "(1,)")
        assert [m.properties["correlation_id"] for m in emptied(umbel, node, vhost, "payments")] == [task_id]

        shop.run("[number.apply_async((i,), headers={'tenant': 'acme'}, ignore_result=True) and None for i in range(5)]")
        shop.run("app.send_task('typo.task') and None")
        shop.run("add.apply_async((1, 1), serializer='pickle') and None")
        assert shop.run("add.delay(2, 3).get(timeout=30)") == 5, "a policy that keeps tasks out hurts nobody else's"
        dead = [m.headers["x-umbel-detail"] for m in emptied(umbel, node, shop.vhost, "dead")]
        assert dead == ["acme is over its limit"] * 2 + ["no such task here", "refused by policy"]

        assert shop.run("app.control.inspect(timeout=2).ping()") is None, "no word of this user reaches a worker's mailbox"
        assert "WARN" not in umbel.logged(), umbel.logged()


def emptied(umbel, node, vhost, queue):
    wait_equal(lambda: umbel.status()["counters"]["in_flight"], 0)
    with node.client(vhost=vhost) as direct:
        return direct.drain(queue)
