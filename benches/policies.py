"""What the policies under measurement say, as Umbel's TOML."""

RULES = """
[[rules]]
name = "kill switch"
match = { task = ["proj.broken.one", "proj.broken.two"] }
admission = { action = "refuse" }

[[rules]]
name = "no pickle"
match = { content_type = "application/x-python-serialize" }
admission = { action = "refuse" }

[[rules]]
name = "expired tasks are revoked here"
expiry = { action = "revoke" }

[[rules]]
name = "reports never outrank checkouts"
match = { task = ["reports.*", "stats.*"] }
priority = { max = 3 }

[[rules]]
name = "big bodies travel compressed"
match = { size_over = "256KiB" }
compression = { codec = "zlib" }

[[rules]]
name = "retries later"
match = { task = "billing.*", queue = "payments", retries = 3 }
priority = { set = 1 }

[[rules]]
name = "tenants by regex"
match = { task = { regex = 'tenant_[0-9]+[.]sync$' } }
route = { queue = "q.tenants" }
"""


def rules(n):
    """`n` rules: seven of each kind, the rest globs on names that do not come."""
    text = RULES
    for i in range(n - RULES.count("[[rules]]")):
        text += f'\n[[rules]]\nname = "team {i}"\nmatch = {{ task = "team{i}.*" }}\nroute = {{ queue = "q.team{i}" }}\n'
    return text


def routes(n):
    """`n` exact routes; a hundred of them are for half of the tasks that come."""
    text = ""
    for i in range(n):
        name = f"proj.tasks.t{i * 2:03d}" if i < 100 else f"other.tasks.n{i}"
        text += f'\n[[task_routes]]\ntask = "{name}"\nqueue = "q.{i % 10}"\n'
    return text


COMPRESS = """
[[rules]]
name = "all bodies travel compressed"
match = { size_over = "256B" }
compression = { codec = "zlib", min_size = "256B" }
"""
