"""What installs the service: units that old systemds know, scripts that refuse and that plan.

No board was at hand. systemd itself is asked where this machine has its tools; Docker and
systemctl are small stand-ins here, named as such.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

JETSON = Path(__file__).parent.parent.parent / "jetson"
SCRIPTS = sorted([*JETSON.glob("*.sh"), *JETSON.glob("containers/*.sh")])
JETPACK4 = 237

#: directive -> the systemd that brought it, from systemd's NEWS and manual. Older than 200 is 0.
SINCE = {
    "Description": 0, "After": 0, "Requires": 0, "Conflicts": 0, "WantedBy": 0,
    "StartLimitIntervalSec": 230, "StartLimitBurst": 0,
    "Type": 0, "NotifyAccess": 0, "WatchdogSec": 0, "TimeoutStartSec": 0, "TimeoutStopSec": 0,
    "Environment": 0, "EnvironmentFile": 0, "WorkingDirectory": 0, "ExecStart": 0,
    "ExecReload": 0, "Restart": 0, "RestartSec": 0, "RestartPreventExitStatus": 0,
    "User": 0, "Group": 0, "UMask": 0,
    "StateDirectory": 235, "CacheDirectory": 235, "StateDirectoryMode": 235,
    "CacheDirectoryMode": 235,
    "MemoryMax": 231, "TasksMax": 227, "LimitCORE": 0, "LimitNOFILE": 0, "OOMScoreAdjust": 0,
    "NoNewPrivileges": 0, "CapabilityBoundingSet": 0, "AmbientCapabilities": 229,
    "ProtectSystem": 232, "ProtectHome": 214, "PrivateTmp": 0, "ProtectKernelTunables": 232,
    "ProtectKernelModules": 232, "ProtectControlGroups": 232, "RestrictAddressFamilies": 211,
    "RestrictNamespaces": 233, "RestrictRealtime": 231, "LockPersonality": 235,
    "SystemCallArchitectures": 209, "SystemCallFilter": 231,
    "ProtectHostname": 242, "ProtectKernelLogs": 244, "ProtectProc": 247,
    "RestrictSUIDSGID": 242, "MemorySwapMax": 232,
}  # fmt: skip

#: groups of system calls that systemd 237 has (its man page systemd.exec)
GROUPS = {
    "@aio", "@basic-io", "@chown", "@clock", "@cpu-emulation", "@debug", "@file-system",
    "@io-event", "@ipc", "@keyring", "@memlock", "@module", "@mount", "@network-io", "@obsolete",
    "@privileged", "@process", "@raw-io", "@reboot", "@resources", "@setuid", "@signal", "@swap",
    "@sync", "@timer",
}  # fmt: skip


def directives(name: str) -> list[tuple[str, str]]:
    """Name and value of every line of a unit."""
    text = (JETSON / "units" / name).read_text()
    lines = [line for line in text.splitlines() if line and line[0] not in "#["]
    return [tuple(line.split("=", 1)) for line in lines]


@pytest.mark.parametrize("name", ["adaptive.service", "adaptive-container.service"])
def test_units_have_only_what_jetpack_4s_systemd_knows(name):
    found = directives(name)
    assert {key: SINCE[key] for key, _ in found if SINCE[key] > JETPACK4} == {}
    for key, value in found:
        if key == "SystemCallFilter":
            assert set(value.lstrip("~").split()) <= GROUPS


def test_the_service_is_unprivileged_watched_and_limited():
    found = dict(directives("adaptive.service"))
    assert found["User"] == "adaptive"
    assert found["Type"] == "notify"
    assert int(found["WatchdogSec"]) > 0
    assert found["MemoryMax"] == "75%"
    assert found["CapabilityBoundingSet"] == ""
    # Those would take the GPU and its just-in-time code away.
    hiding = {"PrivateDevices", "DevicePolicy", "DeviceAllow", "MemoryDenyWriteExecute"}
    assert not hiding & set(found)
    assert not {"ProtectClock", *hiding} & set(dict(directives("newer.conf")))


def test_the_newer_part_is_what_the_older_cannot_have():
    assert [key for key, _ in directives("newer.conf") if SINCE[key] <= JETPACK4] == [
        "MemorySwapMax"  # known, but in JetPack 4's control groups without effect
    ]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_finds_no_fault_in_the_service(tmp_path):
    text = (JETSON / "units/adaptive.service").read_text()
    unit = tmp_path / "adaptive.service"
    unit.write_text(text.replace("/opt/adaptive/bin/adaptive", "/bin/true"))
    (tmp_path / "adaptive.service.d").mkdir()
    shutil.copy(JETSON / "units/newer.conf", tmp_path / "adaptive.service.d/newer.conf")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    about = [line for line in done.stderr.splitlines() if "adaptive" in line]
    if done.returncode != 0 and not about:
        pytest.skip(f"systemd-analyze does not work here: {done.stderr.strip()}")
    assert about == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse_and_can_be_run(script):
    shell = "sh" if script.read_text().startswith("#!/bin/sh") else "bash"
    assert subprocess.run([shell, "-n", str(script)], check=False).returncode == 0
    assert os.access(script, os.X_OK)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")
def test_shellcheck_finds_nothing():
    done = subprocess.run(["shellcheck", *map(str, SCRIPTS)], capture_output=True, check=False)
    assert done.stdout.decode() == ""


def stand_in(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("#!/bin/bash\n" + textwrap.dedent(text))
    (folder / name).chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Stand-ins of systemctl and docker, before the real programs on the path."""
    folder = tmp_path / "bin"
    stand_in(folder, "systemctl", 'case $1 in --version) echo "systemd 237" ;; *) exit 3 ;; esac\n')
    stand_in(folder, "docker", "[[ $1 = image && $3 = there ]]\n")
    return folder


@pytest.fixture
def wheelhouse(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels of a board"
    folder.mkdir()
    version = ".".join(map(str, sys.version_info[:2]))
    (folder / "target").write_text(f"name=here\npython={version}\n")
    (folder / "install.sh").write_text("#!/bin/sh\n")
    (folder / "install.sh").chmod(0o755)
    return folder


def installer(programs: Path, *arguments: object) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        [str(JETSON / "install.sh"), "--dry-run", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path},
        check=False,
    )


def test_install_plans_a_service_in_order(programs, wheelhouse, tiny_bundle):
    options = "--port 9000"
    done = installer(
        programs, "--wheelhouse", wheelhouse, "--bundle", tiny_bundle, "--options", options
    )
    assert done.returncode == 0, done.stderr
    steps = (
        "board: ",
        "install -d -o adaptive -g adaptive -m 750 /var/lib/adaptive",
        f"cp -r {tiny_bundle} /var/lib/adaptive/.bundle",
        "mv /var/lib/adaptive/.bundle /var/lib/adaptive/bundle",
        f"{wheelhouse}/install.sh /opt/adaptive",
        "serve.env",
        "units/adaptive.service /etc/systemd/system/adaptive.service",
        "systemctl enable adaptive",
    )
    places = [done.stdout.index(step) for step in steps]
    assert places == sorted(places)
    assert "newer.conf" not in done.stdout  # systemd is 237 here


def test_install_adds_the_newer_part_where_systemd_is_newer(programs, wheelhouse, tiny_bundle):
    stand_in(programs, "systemctl", 'echo "systemd 249 (249.11-0ubuntu3)"\n')
    done = installer(programs, "--wheelhouse", wheelhouse, "--bundle", tiny_bundle)
    assert "newer.conf" in done.stdout


def test_install_plans_a_container(programs, tiny_bundle):
    done = installer(programs, "--image", "there", "--bundle", tiny_bundle)
    assert done.returncode == 0, done.stderr
    assert "/opt/adaptive/run.sh" in done.stdout
    assert "systemctl enable adaptive-container" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give --wheelhouse or --image"),
        (["--fast"], "--fast is no option"),
        (["--bundle"], "--bundle needs a value"),
        (["--wheelhouse", "WHEELS", "--image", "there", "--bundle", "BUNDLE"], "give one of"),
        (["--wheelhouse", "WHEELS"], "give --bundle"),
        (["--wheelhouse", "WHEELS", "--bundle", "/"], "/ is no bundle"),
        (["--wheelhouse", "/", "--bundle", "BUNDLE"], "/ is no wheelhouse"),
        (["--image", "gone", "--bundle", "BUNDLE"], "no image gone"),
    ],
)
def test_install_refuses_before_it_changes_anything(
    programs, wheelhouse, tiny_bundle, arguments, words
):
    named = {"WHEELS": wheelhouse, "BUNDLE": tiny_bundle}
    done = installer(programs, *(named.get(word, word) for word in arguments))
    assert done.returncode == 2
    assert words in done.stderr
    assert not [line for line in done.stdout.splitlines() if not line.startswith("board: ")]


DOCKER = """
    echo "$@" >>"$STAND_IN/calls"
    case $1 in
      run)
        echo $$ >"$STAND_IN/pid"
        exec {python} -c '
    import http.server, os, pathlib, sys
    here = pathlib.Path(sys.argv[2])
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(500 if (here / "stuck").exists() else 200)
            self.end_headers()
            (here / "asked").touch()
        def log_message(self, *_): pass
    http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
    ' "$ADAPTIVE_PORT" "$STAND_IN" ;;
      kill | stop) kill "$(cat "$STAND_IN/pid")" ;;
    esac
"""


@pytest.fixture
def container(tmp_path: Path):
    """run.sh over a stand-in of Docker whose container is a web server that can get stuck."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "state/bundle").mkdir(parents=True)
    text = textwrap.dedent(DOCKER).replace("{python}", sys.executable)
    (tmp_path / "docker").write_text("#!/bin/bash\n" + text)
    (tmp_path / "docker").chmod(0o755)
    environment = {
        "PATH": os.environ["PATH"],
        "STAND_IN": str(tmp_path),
        "ADAPTIVE_DOCKER": str(tmp_path / "docker"),
        "ADAPTIVE_STATE": str(tmp_path / "state"),
        "ADAPTIVE_PORT": str(port),
        "ADAPTIVE_CHECK_S": "0.05",
        "ADAPTIVE_START_S": "60",
    }
    process = subprocess.Popen(
        [str(JETSON / "containers/run.sh")], env=environment, stderr=subprocess.PIPE, text=True
    )
    yield process, tmp_path
    process.kill()
    process.communicate()


def wait_for(path: Path) -> None:
    for _ in range(600):
        if path.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} never came")


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_a_container_that_stops_answering_is_ended(container):
    process, folder = container
    wait_for(folder / "asked")
    assert process.poll() is None
    (folder / "stuck").touch()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "no answer from /healthz, 3 times" in said
    calls = (folder / "calls").read_text()
    assert calls.splitlines()[-1] == "kill adaptive"
    started = next(line for line in calls.splitlines() if line.startswith("run "))
    for option in ("--read-only", "--cap-drop ALL", "--memory 3g", "no-new-privileges", ":ro"):
        assert option in started
    # This machine's own files decide what is mounted; what is missing must not become a folder.
    for path in ("/var/lib/nvpmodel", "/etc/nvpmodel.conf", "/etc/nv_tegra_release"):
        assert (f"{path}:{path}:ro" in started) == Path(path).exists()


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_a_container_is_stopped_with_its_unit(container):
    process, folder = container
    wait_for(folder / "asked")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert "stop --time 20 adaptive" in (folder / "calls").read_text()


def test_a_container_without_a_bundle_is_not_started(tmp_path):
    done = subprocess.run(
        [str(JETSON / "containers/run.sh")],
        env={"PATH": os.environ["PATH"], "ADAPTIVE_STATE": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "no bundle" in done.stderr


@pytest.mark.parametrize("name", ["jetpack4", "jetpack6", "jetpack7"])
def test_recipes_install_from_a_wheelhouse_as_the_board_does(name):
    text = (JETSON / f"containers/{name}.Dockerfile").read_text()
    assert f"wheelhouse {name} " in text
    assert "/wheelhouse/install.sh /opt/adaptive" in text
    lock = (JETSON / f"locks/{name}.txt").read_text()
    (version,) = set(re.findall(r"numpy-[\d.]+-cp3(\d+)", lock))
    assert f"python3.{version}" in text
