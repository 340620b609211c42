"""The agent's package: what a node fetches at boot, as one archive that is named by its content."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gpu_node.policies import AGENT_PREFIX

HOME = Path(__file__).parent
PROGRAMS = frozenset({"package", "user_data"})
"""What is run on the operator's machine only."""

MODULES = tuple(sorted(path.stem for path in HOME.glob("*.py") if path.stem not in PROGRAMS))
"""The agent's own modules: nothing that imports Pulumi, because no node has it."""

LISTS = ("requirements.txt", "requirements-installer.txt", "requirements-engine.txt", "diogenes-node.service")
SCRIPTS = ("agent_env.sh", "bootstrap.sh", "engine.sh", "install.sh")


@dataclass(frozen=True)
class Package:
    """A gzipped tar archive. Two packages with the same files are the same, byte by byte."""

    content: bytes

    @property
    def sha256(self) -> str:
        """In hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def key(self) -> str:
        """Its place in the bucket. Another content has another place, so what a booting node fetches stays as it is."""
        return f"{AGENT_PREFIX}{self.sha256}.tar.gz"


def build(home: Path = HOME) -> Package:
    """The package of the agent whose sources are in ``home``."""
    modules = {f"gpu_node/{name}.py": home / f"{name}.py" for name in MODULES}
    beside = {name: home / name for name in (*LISTS, *SCRIPTS)}
    return pack({name: path.read_bytes() for name, path in {**modules, **beside}.items()})


def pack(files: Mapping[str, bytes]) -> Package:
    """An archive of these files, by their names in it; those named ``.sh`` can be run."""
    archive = io.BytesIO()
    # Neither the time nor the name of the file: both would make equal contents differ.
    with (
        gzip.GzipFile(fileobj=archive, mode="wb", mtime=0, filename="") as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name in sorted(files):
            entry = tarfile.TarInfo(name)
            entry.size = len(files[name])
            entry.mode = 0o755 if name.endswith(".sh") else 0o644
            tar.addfile(entry, io.BytesIO(files[name]))
    return Package(archive.getvalue())
