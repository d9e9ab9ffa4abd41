"""Where Umbel's answer is meant to differ from RabbitMQ 3.10's: {input: (why, what is answered instead)}."""

STRICTER = {}
