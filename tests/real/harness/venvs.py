"""The virtual environments that tests/prepare made: target/venvs/<name> links to the one of the current requirements."""

from .process import ROOT

VENVS = ROOT / "target" / "venvs"

# name: what it stands for
CELERY = {
    "celery5": "the newest Celery 5",
    "celery53": "Celery 5.3.4, which breaks what it retries compressed",
    "celery52": "Celery 5.2.7 on Python 3.8",
    "celery44": "Celery 4.4.7 on Python 3.6",
    "celery31": "Celery 3.1.26.post2 on Python 2.7",
}


def python(name):
    """Its interpreter, or None where the environment could not be made on this machine."""
    path = VENVS / name / "bin" / "python"
    return path if path.exists() else None


def why_missing(name):
    note = VENVS / f"{name}.skipped"
    return note.read_text().strip() if note.exists() else f"target/venvs/{name} is not there (tests/run makes it)"
