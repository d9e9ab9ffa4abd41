"""The oracle itself: it sees what is lost, doubled, out of order, bent or mixed. `python -m pytest tests/faults/oracle_test.py`"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "real")]

from kit import message  # noqa: E402
from kit.oracle import Journal, account  # noqa: E402


def journal(*lines, confirms=False):
    return Journal.read("p", confirms, lines)


def arrived(*numbers, place="q", stream="p/1"):
    return [(place, (stream, n)) for n in numbers]


def test_what_returned_and_did_not_arrive_is_lost():
    told = account([journal("r 1 0 10", "r 1 1 2000000", "r 1 2 10")], arrived(0, 2))
    assert (told.accepted, told.arrived, told.lost, told.lost_which, told.slowest) == (3, 2, 1, ["p/1:1"], 2.0)


def test_with_confirms_only_what_was_acked_is_accepted():
    told = account([journal("r 1 0 1", "a 1 0", "r 1 1 1", "k 1 1", "r 1 2 1", confirms=True)], arrived(0))
    assert (told.accepted, told.lost, told.nacked, told.nacked_arrived) == (1, 0, 1, 0)


def test_a_number_that_is_settled_twice_is_seen():
    assert account([journal("a 1 0", "k 1 0", confirms=True)], arrived(0)).settled_twice == 1


def test_a_repeat_is_a_duplicate_and_no_disorder():
    told = account([journal("r 1 0 1", "r 1 1 1", "r 1 2 1")], arrived(0, 1, 1, 0, 2))
    assert (told.duplicated, told.reordered, told.lost) == (2, 0, 0)


def test_a_first_arrival_behind_a_later_one_is_disorder():
    assert account([journal("r 1 0 1", "r 1 1 1")], arrived(1, 0)).reordered == 1


def test_order_is_a_matter_of_each_channel_and_each_queue():
    there = arrived(1, place="a") + arrived(0, place="b") + arrived(5, place="b", stream="p/2")
    assert account([journal("r 1 0 1", "r 1 1 1", "r 2 5 1")], there).reordered == 0


def test_exceptions_and_half_lines_are_told_apart():
    told = account([journal("r 1 0 1", "e ConnectionResetError [Errno 104] reset by peer", "r 1")], arrived(0))
    assert told.exceptions == ["ConnectionResetError [Errno 104] reset by peer"] and told.accepted == 1


def test_a_body_reads_back_as_what_it_was():
    assert message.read(message.body(b"p/1", 7, b"x y z"), message.properties(b"p/1", 7)) == ("p/1", 7)


def test_any_flipped_bit_of_a_body_is_corruption():
    good = message.body(b"p/1", 7, b"padding")
    for at in range(len(good) * 8):
        bent = bytearray(good)
        bent[at // 8] ^= 1 << at % 8
        assert message.read(bytes(bent), message.properties(b"p/1", 7)) is None, at


def test_one_message_s_header_with_another_s_body_is_corruption():
    assert message.read(message.body(b"p/1", 7), message.properties(b"p/1", 8)) is None


def test_a_task_of_either_protocol_reads_back_and_a_mixed_one_does_not():
    crc = message.checksum(b"c", 3, b"pad")
    two = b'[["c", 3, %d, "pad"], {}, {}]' % crc
    given = {"content_type": "application/json", "correlation_id": "i", "headers": {"id": "i", "argsrepr": "('c', 3, 1, 'pad')"}}
    assert message.read(two, given) == ("c", 3)
    assert message.read(two, {**given, "correlation_id": "j"}) is None
    assert message.read(two, {**given, "headers": {"id": "i", "argsrepr": "('c', 4, 1, 'pad')"}}) is None
    assert message.read(b'{"id": "i", "args": ["c", 3, %d, "pad"]}' % crc, {"content_type": "application/json", "correlation_id": "i"}) == ("c", 3)


def test_what_a_killed_broker_left_out_of_what_it_kept_may_come_behind_it_and_nothing_else_may():
    told = account([journal()], arrived(1, 2, 4, 3, 5, 7, 6), survived=arrived(1, 2, 4))
    assert (told.reordered, told.holes) == (2, 1)
