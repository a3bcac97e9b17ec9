"""Setting up a machine: what is found, what is fetched, and what is named when it is missing."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from deploy.local import bootstrap, debian, environment
from deploy.local.debian import Machine
from deploy.local.problems import SetupProblem

APT_THAT_INSTALLS = """#!/bin/sh
echo "$0 $*" >> {log}
case "$*" in
  install*) printf '#!/bin/sh\\nexit 0\\n' > {bin}/{program}; chmod +x {bin}/{program};;
esac
test -x {policy} && echo "services held back" >> {log}
exit 0
"""
APT_THAT_FAILS = "#!/bin/sh\necho 'E: Unable to locate package' >&2\nexit 100\n"
APT_THAT_DOWNLOADS = """#!/bin/sh
echo "$*" >> {log}
case "$*" in
  *" -s "*) echo 'Inst liblow (1.0 Debian:12 [amd64])'; echo 'Inst prometheus (2.42 Debian:12)';;
  *" download "*) : > liblow_1.0.deb; : > prometheus_2.42.deb;;
esac
"""
DPKG = """#!/bin/sh
mkdir -p "$3/usr/bin" "$3/usr/lib/x86_64-linux-gnu"
printf '#!/bin/sh\\necho "$LD_LIBRARY_PATH"\\n' > "$3/usr/bin/prometheus"
chmod +x "$3/usr/bin/prometheus"
"""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return make_machine(tmp_path, is_root=False)


def make_machine(tmp_path: Path, *, is_root: bool) -> Machine:
    (tmp_path / "bin").mkdir()
    for name in ("sh", "mkdir", "chmod", "test"):
        (tmp_path / "bin" / name).symlink_to(f"/bin/{name}")
    return Machine(
        search_path=str(tmp_path / "bin"),
        is_root=is_root,
        tools=tmp_path / "tools",
        policy_file=tmp_path / "policy-rc.d",
    )


def put(machine: Machine, name: str, text: str = "#!/bin/sh\nexit 0\n") -> Path:
    path = Path(machine.search_path) / name
    path.write_text(text)
    path.chmod(0o755)
    return path


def get_prometheus(machine: Machine) -> str:
    return debian.ensure_program(machine, "prometheus", ["prometheus"], "usr/bin/prometheus")


def test_a_program_on_the_path_is_used_as_it_is(machine: Machine) -> None:
    path = put(machine, "prometheus")

    assert get_prometheus(machine) == str(path)


def test_root_installs_the_package_while_services_are_held_back(tmp_path: Path) -> None:
    machine = make_machine(tmp_path, is_root=True)
    log = tmp_path / "log"
    put(
        machine,
        "apt-get",
        APT_THAT_INSTALLS.format(
            log=log, bin=machine.search_path, program="prometheus", policy=machine.policy_file
        ),
    )

    found = get_prometheus(machine)

    assert found == f"{machine.search_path}/prometheus"
    assert "install -y -q --no-install-recommends prometheus" in log.read_text()
    assert "services held back" in log.read_text()
    assert not machine.policy_file.exists()


def test_a_policy_file_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text("theirs")

    with debian.services_held_back(policy):
        pass

    assert policy.read_text() == "theirs"


def test_root_is_told_the_line_when_the_package_can_not_be_had(tmp_path: Path) -> None:
    machine = make_machine(tmp_path, is_root=True)
    put(machine, "apt-get", APT_THAT_FAILS)

    with pytest.raises(SetupProblem) as caught:
        get_prometheus(machine)

    assert str(caught.value) == (
        "prometheus could not be installed (E: Unable to locate package). "
        "Run: apt-get install -y --no-install-recommends prometheus"
    )


def test_without_root_the_package_and_what_it_lacks_are_unpacked(
    machine: Machine, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    put(machine, "apt-get", APT_THAT_DOWNLOADS.format(log=log))
    put(machine, "dpkg", DPKG)

    found = get_prometheus(machine)

    assert found == str(tmp_path / "tools/bin/prometheus")
    assert log.read_text().splitlines()[-1].endswith("download liblow prometheus")
    assert machine.run([found]).stdout == f"{tmp_path}/tools/usr/lib/x86_64-linux-gnu\n"
    assert get_prometheus(machine) == found


def test_without_root_or_packages_the_line_that_helps_is_named(machine: Machine) -> None:
    put(machine, "apt-get", APT_THAT_FAILS)

    with pytest.raises(SetupProblem) as caught:
        get_prometheus(machine)

    assert str(caught.value) == (
        "prometheus is missing (E: Unable to locate package). "
        "Get it with: sudo apt-get install -y --no-install-recommends prometheus"
    )


def test_a_machine_that_is_not_debian_is_told_so(machine: Machine) -> None:
    with pytest.raises(SetupProblem, match="this is not a Debian or Ubuntu"):
        get_prometheus(machine)


def test_a_browser_that_does_not_start_is_no_browser(machine: Machine) -> None:
    put(machine, "chromium", "#!/bin/sh\nexit 127\n")
    python = put(machine, "python", "#!/bin/sh\nexit 1\n")

    with pytest.raises(SetupProblem, match="chromium does not start"):
        bootstrap.ensure_chromium(machine, python)


@pytest.fixture
def checkout_dir(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    (root / "sdk").mkdir(parents=True)
    for name in ("requirements.txt", "requirements-dev.txt", "sdk/pyproject.toml"):
        (root / name).write_text("")
    return root


def fake_python(root: Path, log: Path) -> None:
    python = root / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$*" >> {log}\n')
    python.chmod(0o755)


def installs(log: Path) -> int:
    return log.read_text().count("pip install")


def test_packages_are_installed_once_and_again_when_the_pins_change(
    machine: Machine, checkout_dir: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    fake_python(checkout_dir, log)
    said: list[str] = []

    for _ in range(2):
        environment.ensure_environment(checkout_dir, machine, "runtime", said.append)
    assert installs(log) == 1

    (checkout_dir / "requirements.txt").write_text("more==1.0\n")
    environment.ensure_environment(checkout_dir, machine, "runtime", said.append)
    assert installs(log) == 2
    assert said[0].startswith("Installing Python packages from requirements.txt")


def test_what_tests_need_includes_what_the_runtime_needs(
    machine: Machine, checkout_dir: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    fake_python(checkout_dir, log)

    environment.ensure_environment(checkout_dir, machine, "tests", lambda text: None)
    environment.ensure_environment(checkout_dir, machine, "runtime", lambda text: None)

    assert installs(log) == 1


def test_a_python_without_venv_names_the_package_that_has_it(
    machine: Machine, checkout_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = put(machine, "broken-python", "#!/bin/sh\necho 'ensurepip is not available'\nexit 1\n")
    monkeypatch.setattr(sys, "executable", str(broken))

    with pytest.raises(SetupProblem) as caught:
        environment.ensure_venv(checkout_dir, machine, lambda text: None)

    package = f"python3.{sys.version_info.minor}-venv"
    assert str(caught.value) == (
        "The virtual environment can't be made: Python's venv module lacks pip "
        f"(ensurepip is not available). Get it with: sudo apt-get install -y {package}"
    )


def test_the_simulation_of_apt_names_the_packages_in_order() -> None:
    simulation = (
        "Reading package lists...\n"
        "Inst libjs-x (1.0 Debian:12.1/stable [all])\n"
        "Inst prometheus (2.42.0+ds-5+deb12u1 Debian:12.1/stable [amd64])\n"
        "Conf libjs-x (1.0 Debian:12.1/stable [all])\n"
    )

    assert debian.packages_to_install(simulation) == ["libjs-x", "prometheus"]


def test_tests_do_not_inherit_the_users_tidegate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_DATABASE_URL", "postgresql://production/everything")

    given = bootstrap.test_environment(bootstrap.our_machine())

    assert "TIDEGATE_DATABASE_URL" not in given


def test_an_unknown_command_shows_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert bootstrap.main(["fly"]) == 2
    assert capsys.readouterr().out == (
        "Usage: python3 -m deploy.local.bootstrap up|test|soak|check|bench|clean\n"
    )


def test_launchers_are_executable(machine: Machine) -> None:
    launcher = debian.write_launcher(machine, "tool", Path("/bin/true"))

    assert os.stat(launcher).st_mode & stat.S_IXUSR
