"""Rules of every kind; a task asks for one by its header `how`."""

RULES = """
[[rules]]
name = "override"
match = { task = "feeds.*", headers = { how = "override" } }
route = { queue = "feeds", override = true }

[[rules]]
name = "split"
match = { task = "stats.*", headers = { how = "split" } }
route = { split = [{ weight = 3, queue = "most" }, { weight = 1, queue = "few" }], override = true }

[[rules]]
name = "exchange in full"
match = { headers = { how = "exchange" } }
route = { exchange = "audit", exchange_type = "topic", routing_key = "audit.all" }

[[rules]]
name = "to a queue with arguments"
match = { headers = { how = "arguments" } }
route = { queue = "ranked" }

[[task_queues]]
name = "ranked"
max_priority = 7
message_ttl = "1h"

[[rules]]
name = "set"
match = { headers = { how = "set" } }
priority = { set = 7 }
[[rules]]
name = "default"
match = { headers = { how = "default" } }
priority = { default = 5 }
[[rules]]
name = "min and max"
match = { headers = { how = "clamp" } }
priority = { min = 2, max = 4 }
[[rules]]
name = "map"
match = { headers = { how = "map" } }
priority = { map = { 9 = 6, 1 = 2 } }

[[rules]]
name = "late ones to the dead"
match = { headers = { how = "late-dead" } }
expiry = { action = "dead-letter", dead_letter = { queue = "late" } }
[[rules]]
name = "late ones returned"
match = { headers = { how = "late-return" } }
expiry = { action = "return" }
[[rules]]
name = "late ones nacked"
match = { headers = { how = "late-nack" } }
expiry = { action = "nack" }
[[rules]]
name = "late ones pass"
match = { headers = { how = "late-pass" } }
expiry = { action = "pass" }
[[rules]]
name = "stamped"
match = { headers = { how = "stamp" } }
expiry = { stamp_ttl = true }
[[rules]]
name = "imposed"
match = { headers = { how = "impose" } }
expiry = { default = "100s", stamp_ttl = true }
[[rules]]
name = "shortened"
match = { headers = { how = "shorten" } }
expiry = { max = "100s" }

[[rules]]
name = "late at the worker's door"
match = { headers = { how = "on-delivery" } }
expiry = { action = "revoke", on_delivery = true }

[[rules]]
name = "delayed ones keep their delay"
match = { headers = { how = "delayed" } }
route = { queue = "feeds", override = true }

[[rules]]
name = "nacked"
match = { headers = { how = "nack" } }
admission = { action = "nack" }
[[rules]]
name = "returned"
match = { headers = { how = "return" } }
admission = { action = "return" }
[[rules]]
name = "no more than ten at once"
match = { headers = { how = "rate" } }
admission = { action = "dead-letter", rate = 1, burst = 10, dead_letter = { queue = "too-many" } }

[[rules]]
name = "killed"
match = { headers = { how = "kill" } }
admission = { action = "dead-letter", reason = "imports are off", dead_letter = { queue = "off" } }
[[rules]]
name = "dropped"
match = { headers = { how = "drop" } }
admission = { action = "drop" }
[[rules]]
name = "no pickle"
match = { content_type = "application/x-python-serialize", headers = { how = "pickle" } }
admission = { action = "dead-letter", reason = "no pickle here", dead_letter = { queue = "off" } }

[[rules]]
name = "dry"
match = { headers = { how = "dry" } }
route = { queue = "feeds", override = true }
priority = { set = 9 }
dry_run = true

[[rules]]
name = "repair"
match = { headers = { how = "repair" } }
compression = { repair = true }
""" + "".join(f"""
[[rules]]
name = "codec {codec}"
match = {{ headers = {{ how = "{codec}" }} }}
compression = {{ codec = "{codec}", min_size = "1KiB" }}
""" for codec in ("zlib", "bzip2", "lzma", "brotli", "zstd"))
