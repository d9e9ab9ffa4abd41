"""Certificates made for one test run: an authority, and what it signs (openssl on the command line; nothing of it is kept)."""

import subprocess
from pathlib import Path


class Certificate:
    """Paths of PEM files."""

    def __init__(self, cert, key, ca):
        self.cert, self.key, self.ca = str(cert), str(key), str(ca)


class Authority:
    def __init__(self, directory, name="authority"):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.key, self.cert = self.directory / f"{name}.key", self.directory / f"{name}.pem"
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", self.key,
                      "-out", self.cert, "-days", "2", "-subj", f"/CN=umbel tests {name}", "-addext", "keyUsage=critical,keyCertSign")

    def issue(self, name, san="DNS:localhost,IP:127.0.0.1", subject=None, days=2):
        """`days=0` has expired by the time anybody looks at it."""
        base = self.directory / f"{self.name}-{name.replace('/', '_')}"
        key, request, cert, extensions = (base.with_suffix(s) for s in (".key", ".csr", ".pem", ".ext"))
        extensions.write_text("basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth,clientAuth\n" + (f"subjectAltName={san}\n" if san else ""))
        self._openssl("req", "-utf8", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", request,
                      "-subj", subject or f"/O=Umbel/CN={name}")
        self._openssl("x509", "-req", "-in", request, "-CA", self.cert, "-CAkey", self.key, "-CAcreateserial", "-out", cert,
                      "-days", str(days), "-extfile", extensions)
        return Certificate(cert, key, self.cert)

    def _openssl(self, *arguments):
        done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def upstream_tls(ca, cert=None, server_name=None):
    lines = ["[upstreams.default.tls]", f'ca = "{ca}"']
    if cert:
        lines += [f'cert = "{cert.cert}"', f'key = "{cert.key}"']
    return "\n".join(lines + ([f'server_name = "{server_name}"'] if server_name else []))
