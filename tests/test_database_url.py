"""The database's URL says what libpq would read in it, and nothing in it is dropped."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.project.databases import CLIENT, SESSION, database_settings
from controlplane.project.env import BadEnvironment, read_environment

URL = "postgresql://tide:secret@db.internal:5433/gate"
BOUNDS = " ".join(f"-c {name}={value}" for name, value in SESSION.items())


def settings_of(url: str) -> dict[str, Any]:
    return database_settings(read_environment({"TIDEGATE_DATABASE_URL": url}).database_url)


def test_a_postgresql_url_becomes_database_settings() -> None:
    found = settings_of(URL)

    assert (found["NAME"], found["HOST"], found["PORT"]) == ("gate", "db.internal", "5433")
    assert (found["USER"], found["PASSWORD"]) == ("tide", "secret")
    assert found["OPTIONS"] == {**CLIENT, "options": BOUNDS}


def test_what_is_written_with_percent_signs_is_decoded() -> None:
    found = settings_of("postgresql://on%40call:p%40ss%2Fw%3Ard%25+1@db.internal/tide%20gate")

    assert (found["USER"], found["PASSWORD"]) == ("on@call", "p@ss/w:rd%+1")
    assert (found["NAME"], found["PORT"]) == ("tide gate", "")


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("db-1:5432,db-2:5433", "db-1,db-2", "5432,5433"),
        ("db-1,db-2:5433", "db-1,db-2", ",5433"),
        ("db-1,db-2", "db-1,db-2", ""),
        ("[::1]:5433", "::1", "5433"),
        ("%2Fvar%2Frun%2Fpostgresql", "/var/run/postgresql", ""),
        ("", "", ""),
    ],
)
def test_hosts_are_those_of_libpq(address: str, host: str, port: str) -> None:
    found = settings_of(f"postgresql://tide@{address}/gate")

    assert (found["HOST"], found["PORT"]) == (host, port)


def test_parameters_reach_libpq() -> None:
    found = settings_of(
        f"{URL}?sslmode=verify-full&sslrootcert=%2Fetc%2Fca.pem&sslcert=c.pem&sslkey=k.pem"
        "&application_name=node%201&target_session_attrs=read-write&connect_timeout=9"
        "&options=-c%20statement_timeout%3D30000"
    )

    assert found["OPTIONS"] == {
        **CLIENT,
        "sslmode": "verify-full",
        "sslrootcert": "/etc/ca.pem",
        "sslcert": "c.pem",
        "sslkey": "k.pem",
        "application_name": "node 1",
        "target_session_attrs": "read-write",
        "connect_timeout": 9,
        "options": f"{BOUNDS} -c statement_timeout=30000",
    }


def test_a_service_file_may_name_the_database() -> None:
    found = settings_of("postgresql://?service=tidegate")

    assert found["NAME"] == ""
    assert found["OPTIONS"]["service"] == "tidegate"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (f"{URL}?sslmod=require", "the parameter 'sslmod', which libpq does not know"),
        (f"{URL}?replication=true", "the parameter 'replication', which libpq does not know or"),
        (f"{URL}?host=elsewhere", "the parameter 'host', which belongs before the question mark"),
        (f"{URL}?sslmode=require&sslmode=disable", "the parameter 'sslmode' twice"),
        (f"{URL}?connect_timeout=2s", "'connect_timeout' as '2s'; expected a whole number"),
        (f"{URL}?keepalives=yes", "'keepalives' as 'yes'; expected a whole number"),
        (f"{URL}?application_name=100%", "has a % in the parameter 'application_name'"),
        (f"{URL}?sslmode", "a question mark that name=value does not follow"),
        ("postgresql://db:port/gate", "an address that is not host:port"),
        ("postgresql://db:65536/gate", "with a port of 1 to 65535"),
        ("postgresql://db:0/gate", "with a port of 1 to 65535"),
        ("postgresql://::1:5432/gate", "an IPv6 address in brackets"),
        ("postgresql://[::1/gate", "brackets stand around an IPv6 address only"),
        ("postgresql://db:5432", "names no database"),
    ],
)
def test_a_url_that_cannot_be_used_is_named_with_what_is_wrong(url: str, message: str) -> None:
    with pytest.raises(BadEnvironment) as caught:
        settings_of(url)

    assert "TIDEGATE_DATABASE_URL" in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("sign", ["/", "?", "#", "%", "[", "%ff", "\u2100"])
def test_a_password_that_is_not_encoded_is_refused_and_never_shown(sign: str) -> None:
    with pytest.raises(BadEnvironment) as caught:
        settings_of(f"postgresql://tide:hid{sign}den@db.internal:5432/gate")

    assert "TIDEGATE_DATABASE_URL" in str(caught.value)
    assert "hid" not in str(caught.value)
    assert "den@" not in str(caught.value)


def test_an_sqlite_url_is_a_path() -> None:
    assert settings_of("sqlite:////var/lib/tidegate/db.sqlite3")["NAME"] == (
        "/var/lib/tidegate/db.sqlite3"
    )
