"""Prints METHODS.md's tables."""
from . import FEATURES, table

print("| method | exercised by (`tests/suites/methods`) |\n|---|---|")
for name, tests in table().items():
    print("| `%s` | %s |" % (name, "; ".join(tests) or "**nothing**"))
print("\n| of RabbitMQ, without a method of its own | exercised by |\n|---|---|")
for name, tests in FEATURES.items():
    print("| %s | %s |" % (name, "; ".join(tests)))
