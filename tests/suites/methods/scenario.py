"""A scenario is a function of a `Talk`; `@scenario` names the methods that it must send or hear."""
from .talk import Talk

SCENARIOS = {}


def scenario(covers, **login):
    def take(act):
        SCENARIOS[act.__name__.replace("_", " ")] = (covers.split(), act, login)
        return act
    return take


def clear(address, vhost):
    """What a scenario that failed has left."""
    t = Talk(address, vhost)
    for q in ("m.q", "m.two", "m.one", "m.last", "m.a", "m.b", "m.c", "m.dead", "m.ttl", "m.full", "m.quorum", "m.stream", "m.durable"):
        t.call(1, "queue.delete", queue=q)
    t.close()


def play(name, address, vhost, used=None, pace=1):
    """The transcript of one scenario. A second connection is made with `talk.other()`. `used` takes the methods that went and came."""
    _, act, login = SCENARIOS[name]
    made = []

    def connect(**more):
        made.append(Talk(address, vhost, pace, **{**login, **more}))
        return made[-1]
    try:
        first = connect()
        first.other = connect
        act(first)
        return [line for talk in made for line in ["-- connection", *talk.lines]]
    finally:
        for talk in made:
            if used is not None:
                used |= talk.used
            talk.close()
