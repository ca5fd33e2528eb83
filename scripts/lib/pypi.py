"""Files of packages on the index that pip is set to, by their names and checksums, for what pip itself cannot fetch.

Not a command of its own.
"""

import hashlib
import json
import os
import pathlib
import subprocess
import sys
import urllib.parse
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent


def fetch(package, name, sha256):
    """The bytes of the file `name` of `package`; a package is spelled as in the index, with dashes."""
    provide_pip()
    page = index().rstrip("/") + f"/{package}/"
    request = urllib.request.Request(page, headers={"Accept": "application/vnd.pypi.simple.v1+json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        files = json.load(answer)["files"]
    address = next((entry["url"] for entry in files if entry["filename"] == name), None)
    if address is None:
        sys.exit(f"{sys.argv[0]}: the package index has no {name}")
    print(f"{sys.argv[0]}: fetching {name}", file=sys.stderr)
    with urllib.request.urlopen(urllib.parse.urljoin(page, address), timeout=600) as answer:
        data = answer.read()
    digest = hashlib.sha256(data).hexdigest()
    if digest != sha256:
        sys.exit(f"{sys.argv[0]}: {name} has the checksum {digest}, expected {sha256}")
    return data


def has_pip():
    return subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode == 0


def provide_pip():
    if not has_pip():
        if subprocess.call([HERE / "debian", "python3-pip"]):
            sys.exit(1)
    if not has_pip():
        sys.exit(f"{sys.argv[0]}: {sys.executable} has no pip; install it, or let python3 be that of the system")


def index():
    configured = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True
    ).stdout.strip()
    return os.environ.get("PIP_INDEX_URL") or configured or default_index()


def default_index():
    # In a process of its own: it may have been installed just now.
    program = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"
    return subprocess.check_output([sys.executable, "-c", program], text=True).strip()
