"""The scenarios, a file a theme. Each is one function of a World (kit/world.py)."""
