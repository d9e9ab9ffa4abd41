"""A few walks by a seed, straight to the broker and through Umbel: `random_walk.py` walks as many as one likes."""
import random_walk
import pytest


@pytest.mark.timeout(500)  # at rest it takes minutes
@pytest.mark.parametrize("seed", [101, 106, 404, 413])
def test_a_walk_hears_the_same_both_ways(seed, node, umbel):
    assert random_walk.compare(node.address, umbel.address, seed, steps=60) is None


def test_a_difference_is_seen():
    one = [("publish", ["acked"]), ("get", ["x"])]
    assert random_walk.difference(one, one) is None
    assert "direct:  x" in random_walk.difference(one, [one[0], ("get", ["y"])])
