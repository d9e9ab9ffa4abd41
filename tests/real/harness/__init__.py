"""What the real tests are made of: brokers, Umbels, relays, Celery processes and a raw AMQP client, all private and on loopback."""
