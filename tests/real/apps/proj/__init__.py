"""A small Celery project that runs on every Celery from 3.1 to 5.7."""
