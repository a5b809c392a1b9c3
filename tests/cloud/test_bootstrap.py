from __future__ import annotations

import email
import os
import shutil
import subprocess
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import aquachat
from aquachat.cloud.bootstrap import Clone, Environment, Setup, bootstrap, platform_of
from aquachat.cloud.remote import RemoteMachine
from aquachat.cloud.ssh_errors import CommandError, DeadlineError
from aquachat.cloud.transfer import send_file
from aquachat.cloud.wheel import Platform, local_platform, make_wheel
from aquachat.errors import ConfigError
from tests.cloud.fake_programs import TORCH, Machine
from tests.cloud.proxy import Proxy
from tests.cloud.sshd import Sshd, running_sshd

WORK = "aquachat/0123abcd"
WHEEL = f"{WORK}/wheel/aquachat-{aquachat.__version__}-py3-none-any.whl"
SETUP = Setup(WORK, WHEEL, programs=())
URL = "https://example.org/project.git"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    other = Platform("Linux", "m68k", (2, 36))
    return make_wheel(tmp_path_factory.mktemp("wheels"), machine_platform=other).path


@pytest.fixture
def server(tmp_path: Path, wheel: Path) -> Iterator[Sshd]:
    with running_sshd(tmp_path / "sshd") as made:
        (made.home / WHEEL).parent.mkdir(parents=True)
        shutil.copy(wheel, made.home / WHEEL)
        yield made


@pytest.fixture
def programs(server: Sshd) -> Machine:
    return Machine(server)


@pytest.fixture
def machine(server: Sshd, tmp_path: Path) -> Iterator[RemoteMachine]:
    secrets = {"WANDB_API_KEY": "0123456789abcdef"}
    with server.machine(tmp_path / "job", secrets=secrets) as made:
        yield made


def work_of(programs: Machine) -> Path:
    return programs.server.home / WORK


def set_up(machine: RemoteMachine, setup: Setup = SETUP) -> tuple[Environment, list[str]]:
    said: list[str] = []
    return bootstrap(machine, setup, say=said.append, deadline_s=60), said


def test_what_the_machine_is_is_asked(machine: RemoteMachine) -> None:
    assert platform_of(machine) == local_platform()


def test_uv_makes_the_environment_and_picks_the_torch(
    programs: Machine, machine: RemoteMachine
) -> None:
    programs.add_uv()
    environment, said = set_up(machine)
    venv, wheel = work_of(programs) / "venv", programs.server.home / WHEEL
    calls = [call for call in programs.calls_of("uv") if "--help" not in call]
    assert calls == [
        "uv --version",
        f"uv venv --quiet --python >=3.11,<3.14 {venv}",
        f"uv pip install --python {venv}/bin/python --torch-backend=auto {wheel}",
    ]
    assert said == [
        "making a Python environment with uv 9.9.9",
        "installing aquachat and the torch that fits; this downloads some gigabytes",
        "asking torch what it sees",
    ]
    assert environment == Environment(
        str(work_of(programs) / "bin" / "python"),
        environment.python_version,
        "2.9.9+cu128",
        "12.8",
        2,
        ("NVIDIA H100 0", "NVIDIA H100 1"),
    )
    code = "import torch; print(torch.__version__)"
    assert machine.check([environment.python, "-c", code]).text == "2.9.9+cu128\n"


def test_for_the_processor_the_torch_without_cuda_is_taken(
    programs: Machine, machine: RemoteMachine
) -> None:
    programs.add_uv()
    programs.add_driver("550.1")
    set_up(machine, replace(SETUP, device="cpu"))
    assert "--torch-backend=cpu" in programs.calls_of("uv")[-1]


def test_with_a_gpu_a_python_with_headers_and_a_compiler_is_wanted(
    programs: Machine, machine: RemoteMachine
) -> None:
    programs.add_uv()
    programs.add_driver("570.1")
    set_up(machine)
    assert programs.calls_of("uv")[-2].startswith(
        "uv venv --quiet --managed-python --python >=3.11"
    )
    (programs.folder / "cc").unlink()
    no = 'case "$*" in *--managed-python*) exit 2 ;; *Python.h*) exit 1 ;; esac'
    programs.add_uv(before=no)
    programs.add_python("fake-python", before=no)
    _, said = set_up(machine, replace(SETUP, device="cuda"))
    assert programs.calls_of("uv")[-2].startswith("uv venv --quiet --python >=3.11")
    assert said[2:-1] == [
        "installing cc",
        "warning: there is no C compiler, which attention on a GPU is compiled with: "
        "apt-get: not found",
        "warning: this Python has no Python.h (python3-dev), which attention on a GPU needs",
    ]


def test_the_machines_own_choice_of_torch_is_kept(
    programs: Machine, machine: RemoteMachine
) -> None:
    programs.server.set_session(path=programs.path, variables={"UV_TORCH_BACKEND": "cu126"})
    programs.add_uv()
    set_up(machine)
    assert "--torch-backend=cu126" in programs.calls_of("uv")[-1]


def test_a_machine_that_is_set_up_is_left_alone(programs: Machine, machine: RemoteMachine) -> None:
    programs.add_uv()
    first, _ = set_up(machine)
    num_calls = len(programs.calls)
    again, said = set_up(machine)
    assert again == first
    assert said == ["the machine is set up already"]
    assert [call for call in programs.calls[num_calls:] if "import aquachat" not in call] == []


def test_another_wheel_or_another_wish_is_set_up_anew(
    programs: Machine, machine: RemoteMachine
) -> None:
    programs.add_uv()
    set_up(machine)
    with (programs.server.home / WHEEL).open("ab") as file:
        file.write(b"other")
    _, said = set_up(machine)
    assert len(said) > 1
    _, said = set_up(machine, replace(SETUP, device="cpu"))
    assert len(said) > 1


def test_an_environment_that_broke_is_made_anew(programs: Machine, machine: RemoteMachine) -> None:
    programs.add_uv()
    set_up(machine)
    (work_of(programs) / "venv" / "bin" / "python").unlink()
    (work_of(programs) / "venv" / "half").touch()
    set_up(machine)
    assert not (work_of(programs) / "venv" / "half").exists()
    assert (work_of(programs) / "venv" / "bin" / "python").exists()


def test_what_another_wish_left_half_done_is_not_taken_for_done(
    programs: Machine, machine: RemoteMachine
) -> None:
    programs.add_uv()
    set_up(machine)
    programs.add_uv(before='case "$*" in *install*.whl) exit 1 ;; esac')
    with pytest.raises(CommandError):
        set_up(machine, replace(SETUP, device="cpu"))
    programs.add_uv()
    _, said = set_up(machine)
    assert len(said) > 1


@pytest.mark.parametrize("without", [(), pytest.param(("flock",), marks=pytest.mark.long)])
def test_two_at_once_do_not_interleave(server: Sshd, tmp_path: Path, without: list[str]) -> None:
    programs = Machine(server, without=without)
    programs.add_uv(before="sleep 0.1")
    machines = [server.machine(tmp_path / f"job-{n}") for n in range(3)]
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(set_up, machines))
    for machine in machines:
        machine.close()
    assert len({environment for environment, _ in results}) == 1
    assert sum("venv" in call.split() for call in programs.calls_of("uv")) == 1
    assert sum("the machine is set up already" in said for _, said in results) == 2


@pytest.mark.long
def test_a_lock_that_a_dead_call_left_is_taken(server: Sshd, machine: RemoteMachine) -> None:
    programs = Machine(server, without=["flock"])
    programs.add_uv()
    held = work_of(programs) / "job" / "bootstrap.held"
    held.mkdir(parents=True)
    done = subprocess.Popen(["true"])
    done.wait()
    (held / "pid").write_text(str(done.pid))
    set_up(machine)
    assert not held.exists()


def test_a_cut_connection_does_not_install_twice(
    programs: Machine, server: Sshd, tmp_path: Path
) -> None:
    started = programs.server.folder / "started"
    slow = f'case "$*" in *--torch-backend=*) touch {started}; sleep 1 ;; esac'
    programs.add_uv(before=slow)

    def cut_when_started(proxy: Proxy) -> None:
        while not started.exists():
            time.sleep(0.02)
        proxy.cut()

    def sleep(seconds: float) -> None:
        time.sleep(min(seconds, 0.05))

    with (
        Proxy(server.port) as proxy,
        server.machine(tmp_path / "job", proxy.port, sleep=sleep) as machine,
    ):
        cutter = threading.Thread(target=cut_when_started, args=[proxy])
        cutter.start()
        environment, said = set_up(machine)
        cutter.join()
        assert machine.connections == 2
    assert environment.num_gpus == 2
    assert said[-2:] == [
        "another set-up of this job is going on; waiting for it",
        "the machine is set up already",
    ]
    assert sum("--torch-backend=" in call for call in programs.calls_of("uv")) == 1


@pytest.mark.long
def test_a_set_up_that_does_not_end_is_left_at_the_deadline(
    programs: Machine, machine: RemoteMachine
) -> None:
    programs.add_uv(before='case "$*" in *--torch-backend=*) sleep 30 ;; esac')
    with pytest.raises(DeadlineError):
        bootstrap(machine, SETUP, deadline_s=1.5)


def test_a_torch_index_that_fails_is_left_with_a_warning(
    programs: Machine, machine: RemoteMachine
) -> None:
    no = 'case "$*" in *--torch-backend=*) echo "401 for 0123456789abcdef" >&2; exit 2 ;; esac'
    programs.add_uv(before=no)
    _, said = set_up(machine)
    warning = "torch could not be had from its own index (401 for [WANDB_API_KEY redacted])"
    assert f"warning: {warning}; trying the default index" in said
    assert "--torch-backend" not in programs.calls_of("uv")[-1]


FIND_TARGET = """
for word; do case $before in -o|-O) target=$word ;; esac; before=$word; done
"""
FULL = "error: failed to write: No space left on device (os error 28)"
NO_NAME = "error: dns error: failed to lookup address information: Name or service not known"


@pytest.mark.parametrize(
    ("complaint", "sentence", "num_tries"),
    [
        (FULL, "the disk of the machine is full", 1),
        (NO_NAME, "cannot reach what it must download", 2),
        ("error: no wheel of aquachat 0123456789abcdef", "could not be set up: aquachat", 2),
    ],
)
def test_an_installation_that_fails_has_one_clear_sentence(
    programs: Machine, machine: RemoteMachine, complaint: str, sentence: str, num_tries: int
) -> None:
    no = f'case "$*" in *--python*whl) echo "{complaint}" >&2; echo "note: x" >&2; exit 1 ;; esac'
    programs.add_uv(before=no)
    with pytest.raises(CommandError, match=sentence) as caught:
        set_up(machine)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    assert "0123456789abcdef" not in caught.value.message
    assert sum("--python" in c and c.endswith(".whl") for c in programs.calls) == num_tries
    log = work_of(programs) / "job" / "bootstrap.log"
    assert complaint in log.read_text()
    programs.add_uv()
    set_up(machine)


def test_a_machine_with_an_old_python_and_no_way_to_uv_is_told(
    programs: Machine, machine: RemoteMachine
) -> None:
    programs.add_python(
        before='case "$1" in -c) exit 1 ;; -m) echo "No module named pip"; exit 1; esac'
    )
    for newer in ("python3.11", "python3.12", "python3.13", "python3.14"):
        programs.add(newer, "exit 1")
    with pytest.raises(CommandError, match=r"no Python 3\.11 or later, and uv could not") as caught:
        set_up(machine)
    assert "--python" in (caught.value.hint or "")


@pytest.mark.long
def test_uv_that_finds_no_python_is_told(programs: Machine, machine: RemoteMachine) -> None:
    programs.add_uv(before='case "$1" in venv) echo "error: No interpreter found"; exit 2 ;; esac')
    with pytest.raises(CommandError, match=r"no Python 3\.11 or later.*No interpreter found"):
        set_up(machine)
    assert sum("--python >=3.11 " in call for call in programs.calls_of("uv")) == 1


@pytest.mark.long
def test_a_python_without_venv_is_told(programs: Machine, machine: RemoteMachine) -> None:
    programs.add_python(
        before='case "$2" in venv) echo "ensurepip is not available"; exit 1 ;; pip) exit 1; esac'
    )
    with pytest.raises(CommandError, match="ensurepip is not available") as caught:
        set_up(machine)
    assert "python3-venv" in (caught.value.hint or "")


@pytest.mark.parametrize("downloader", ["curl", pytest.param("wget", marks=pytest.mark.long)])
def test_uv_is_fetched_into_the_jobs_folder(
    programs: Machine, machine: RemoteMachine, downloader: str
) -> None:
    programs.add_uv()
    hidden = programs.folder / "uv"
    moved = hidden.rename(programs.server.folder / "uv-to-install")
    install = f'echo \'cp {moved} "$UV_UNMANAGED_INSTALL/uv"\' >"$target"'
    programs.add(downloader, "", before=f"{FIND_TARGET}\n{install}")
    _, said = set_up(machine)
    assert said[0] == "installing uv"
    assert (work_of(programs) / "uv" / "uv").exists()
    assert programs.calls_of(downloader)[0].endswith("https://astral.sh/uv/install.sh")
    assert not (programs.server.home / ".local").exists()


@pytest.mark.long
def test_uv_is_had_from_pip_where_its_installer_cannot_be(
    programs: Machine, machine: RemoteMachine
) -> None:
    programs.add_uv()
    moved = (programs.folder / "uv").rename(programs.server.folder / "uv-to-install")
    target = work_of(programs) / "uv"
    install = f'case "$*" in *--target*) mkdir -p {target}/bin; cp {moved} {target}/bin/uv ;; esac'
    programs.add_python(before=install)
    programs.add("curl", "echo 'curl: (6) Could not resolve host: astral.sh' >&2; exit 6")
    set_up(machine)
    assert f"python3 -m pip install --quiet --target {target} uv" in programs.calls


@pytest.mark.long
def test_an_old_uv_is_not_used(programs: Machine, machine: RemoteMachine) -> None:
    programs.add("uv", 'case "$*" in *--help*) echo "--index-url"; exit 0 ;; esac; exit 9')
    programs.add_python()
    _, said = set_up(machine)
    assert said[0] == "installing uv"
    assert not [call for call in programs.calls_of("uv") if "--help" not in call]


DRIVERS = [
    ("580.65.06", "cu130"),
    ("550.144.03", "cu126"),
    ("No devices were found", "cpu"),
    ("580.42.01", "cu128"),
    ("570.124.06", "cu128"),
    ("525.60.13", "cu126"),
    ("470.82.01", "cu118"),
    ("390.77", "cpu"),
]


@pytest.mark.parametrize(
    ("driver", "build"),
    [*DRIVERS[:2], *(pytest.param(*case, marks=pytest.mark.long) for case in DRIVERS[2:])],
)
def test_without_uv_the_index_of_torch_follows_the_driver(
    programs: Machine, machine: RemoteMachine, driver: str, build: str
) -> None:
    programs.add_python()
    programs.add_driver(driver)
    set_up(machine, replace(SETUP, torch_index="http://127.0.0.1:9/whl"))
    installs = [call for call in programs.calls if "-m pip install --index-url" in call]
    needs = "torch>=2.6,<3"
    assert installs == [
        f"fake-python -m pip install --index-url http://127.0.0.1:9/whl/{build} {needs}"
    ]
    wheel = programs.server.home / WHEEL
    assert programs.calls.count(f"fake-python -m pip install {wheel}") == 1


@pytest.mark.long
def test_without_uv_a_torch_index_that_fails_is_left_with_a_warning(
    programs: Machine, machine: RemoteMachine
) -> None:
    programs.add_python()
    programs.add_python(
        "fake-python", before='case "$*" in *--index-url*) echo "ERROR: no torch"; exit 1 ;; esac'
    )
    _, said = set_up(machine, replace(SETUP, device="cpu"))
    assert any("(ERROR: no torch); trying the default index" in line for line in said)
    assert "fake-python -m pip install torch>=2.6,<3" in programs.calls


def named(programs: Machine) -> Setup:
    return replace(SETUP, python=str(programs.python))


def test_a_named_python_is_used_as_it_is(programs: Machine, machine: RemoteMachine) -> None:
    shutil.rmtree(programs.site / "aquachat")
    shutil.rmtree(programs.site / "aquachat-1.0.dist-info")
    environment, said = set_up(machine, named(programs))
    assert (
        said[0] == f"unpacking the wheel for {programs.python}, whose packages are used as they are"
    )
    assert environment.torch_version == "2.9.9+cu128"
    assert not [call for call in programs.calls if "pip" in call or call.startswith("uv")]
    code = "import aquachat; print(aquachat.__file__)"
    site = work_of(programs) / "site"
    assert machine.check([environment.python, "-c", code]).text.startswith(str(site))


def test_the_command_is_the_wheels_also_in_a_checkout(
    programs: Machine, machine: RemoteMachine
) -> None:
    set_up(machine, named(programs))
    checkout = work_of(programs) / "project" / "aquachat"
    checkout.mkdir(parents=True)
    (checkout / "__init__.py").write_text("raise SystemExit('the wrong one')")
    (checkout / "__main__.py").write_text("raise SystemExit('the wrong one')")
    text = 'cd "$1/project" && PATH="$HOME/$1/bin:$PATH" aquachat --version'
    assert aquachat.__version__ in machine.script(text, WORK).text


def test_what_a_named_python_lacks_is_named(programs: Machine, machine: RemoteMachine) -> None:
    bare = 'PYTHONPATH=${{PYTHONPATH:+$PYTHONPATH:}}{site} exec {real} -S "$@"'
    programs.add("fake-python", bare)
    with pytest.raises(CommandError, match="lacks typer, rich, datasets") as caught:
        set_up(machine, named(programs))
    assert "-m pip install typer rich datasets" in (caught.value.hint or "")
    programs.add_python("fake-python")
    set_up(machine, named(programs))


def test_with_a_named_python_no_system_package_is_installed(
    server: Sshd, machine: RemoteMachine
) -> None:
    programs = Machine(server, without=["tmux"])
    for name in ("sudo", "apt-get"):
        programs.add(name, "exit 0")
    programs.add_driver("570.1")
    (programs.folder / "cc").unlink()
    _, said = set_up(machine, replace(named(programs), programs=("tmux",)))
    assert said[0] == "warning: tmux is missing, so the job does without it: tmux: not found"
    assert any("no C compiler" in line for line in said)
    assert not programs.calls_of("sudo") + programs.calls_of("apt-get")


@pytest.mark.parametrize(
    ("python", "sentence"),
    [
        ("/nowhere/python", "there is no `/nowhere/python`"),
        ("$(touch hit)", r"there is no `\$\(touch hit\)`"),
        ("true; touch hit", "there is no `true; touch hit`"),
        ("false", "older than Python 3.11"),
    ],
)
def test_a_named_python_that_cannot_be_used_is_told(
    programs: Machine, machine: RemoteMachine, python: str, sentence: str
) -> None:
    with pytest.raises(CommandError, match=sentence) as caught:
        set_up(machine, replace(SETUP, python=python))
    assert "name a Python 3.11 or later" in (caught.value.hint or "")
    assert not list(programs.server.home.rglob("hit"))


def test_a_missing_program_is_installed_with_sudo(server: Sshd, machine: RemoteMachine) -> None:
    programs = Machine(server, without=["tmux", "id"])
    programs.add_uv()
    programs.add("id", "echo 1000")
    programs.add("apt-get", f"ln -s /bin/true {programs.folder}/tmux")
    programs.add("sudo", 'shift; "$@"')
    _, said = set_up(machine, replace(SETUP, programs=("tmux",)))
    assert said[0] == "installing tmux"
    options = "-q -y -o DPkg::Lock::Timeout=120"
    sudo = f"sudo -n env DEBIAN_FRONTEND=noninteractive apt-get {options} install tmux"
    assert programs.calls_of("sudo") == [sudo]


def test_a_program_that_one_can_do_without_is_done_without(
    server: Sshd, machine: RemoteMachine
) -> None:
    programs = Machine(server, without=["tmux", "id"])
    programs.add_uv()
    programs.add("id", "echo 1000")
    programs.add("apt-get", "exit 1")
    programs.add("sudo", "echo 'sudo: a password is required' >&2; exit 1")
    _, said = set_up(machine, replace(SETUP, programs=("tmux",)))
    assert said[1] == (
        "warning: tmux is missing, so the job does without it: sudo: a password is required"
    )


def test_a_clone_without_git_is_told(server: Sshd, machine: RemoteMachine) -> None:
    programs = Machine(server, without=["git"])
    programs.add_uv()
    with pytest.raises(CommandError, match="git is missing, which clones the project") as caught:
        set_up(machine, replace(SETUP, clone=Clone(URL)))
    assert "install git on the machine" in (caught.value.hint or "")


@pytest.fixture
def repository(programs: Machine, tmp_path: Path) -> Path:
    """What lies at https://example.org for the git of the machine."""
    folder = tmp_path / "origin" / "project.git"
    folder.mkdir(parents=True)
    (folder / "train.py").write_text("print('hello')")
    commit(folder)
    config = f'[url "file://{folder.parent}/"]\n\tinsteadOf = https://example.org/\n'
    (programs.server.home / ".gitconfig").write_text(config)
    return folder


def commit(folder: Path) -> None:
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "init", "-q", "-b", "main", str(folder)], check=True)
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "x"], check=True)


def test_a_clone_is_the_working_directory_and_the_wheel_is_installed(
    programs: Machine, machine: RemoteMachine, repository: Path
) -> None:
    programs.add_uv()
    setup = replace(SETUP, clone=Clone(URL, "main"))
    _, said = set_up(machine, setup)
    project = work_of(programs) / "project"
    assert said[0] == f"cloning {URL}"
    assert (project / "train.py").read_bytes() == (repository / "train.py").read_bytes()
    assert programs.calls_of("uv")[-1].endswith(".whl")
    (project / "notes").write_text("of a person")
    (work_of(programs) / "job" / "bootstrap.done").unlink()
    set_up(machine, setup)
    assert (project / "notes").read_text() == "of a person"


def test_a_clone_of_aquachat_is_what_is_installed(
    programs: Machine, machine: RemoteMachine, repository: Path
) -> None:
    (repository / "pyproject.toml").write_text('[project]\nname = "aquachat"\n')
    (repository / "tokenizer-rs").mkdir()
    (repository / "tokenizer-rs" / "Cargo.toml").write_text("")
    commit(repository)
    programs.add_uv()
    make_cargo = ['mkdir -p "$CARGO_HOME/bin"', 'ln -s /bin/true "$CARGO_HOME/bin/cargo"']
    write = ["cat >\"$target\" <<'END'", *make_cargo, "END"]
    programs.add("curl", "", before="\n".join([FIND_TARGET, *write]))
    _, said = set_up(machine, replace(SETUP, clone=Clone(URL), project="code"))
    assert said[2].startswith("installing Rust")
    assert programs.calls_of("curl")[0].endswith("https://sh.rustup.rs")
    assert programs.calls_of("uv")[-1].endswith(f" {programs.server.home}/code")


def test_a_branch_that_is_not_there_is_told(
    programs: Machine, machine: RemoteMachine, repository: Path
) -> None:
    assert repository.is_dir()
    programs.add_uv()
    with pytest.raises(CommandError, match=r"could not be cloned: .*nowhere") as caught:
        set_up(machine, replace(SETUP, clone=Clone(URL, "nowhere")))
    assert "check the address and the branch" in (caught.value.hint or "")


def test_a_folder_with_other_files_is_not_cloned_into(
    programs: Machine, machine: RemoteMachine
) -> None:
    programs.add_uv()
    theirs = programs.server.home / "theirs"
    theirs.mkdir()
    (theirs / "thesis").write_text("years of work")
    with pytest.raises(CommandError, match="holds files already"):
        set_up(machine, replace(SETUP, clone=Clone(URL), project="theirs"))
    assert (theirs / "thesis").read_text() == "years of work"


def test_a_wheel_that_was_not_sent_is_told(programs: Machine, machine: RemoteMachine) -> None:
    (programs.server.home / WHEEL).unlink()
    with pytest.raises(CommandError, match="is not on the machine"):
        set_up(machine)


@pytest.mark.parametrize(
    "url",
    ["", "project", "file:///etc", "ext::sh -c touch% hit", "http://example.org/x", "-u", "--x",
     "https://-x/y", "ssh://-oProxyCommand=x/y", "https://example.org/$(touch hit)", "git@host",
     "https://example.org/x;y", "https://example.org/x y", "https://example.org/x\n", "git@-x:y",
     "https://example.org/x?token=1", "https://example.org/-x", "git@host:-x/-y"],
)  # fmt: skip
def test_an_address_that_git_should_not_see_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        Clone(url)


@pytest.mark.parametrize("url", ["https://me:hunter2hunter2@example.org/x", "ssh://git:hunter2hunter2@h/x",
     "https://hunter2hunter2@example.org/x"])  # fmt: skip
def test_an_address_with_a_password_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match="list of processes") as caught:
        Clone(url)
    assert "hunter2" not in f"{caught.value.message}{caught.value.hint}"


@pytest.mark.parametrize(
    "branch",
    ["", "-x", "--upload-pack=x", "a..b", "a b", "$(x)", "a;b", "a/", "/a", "a.lock", "a\n"],
)
def test_a_branch_that_is_none_is_refused(branch: str) -> None:
    with pytest.raises(ConfigError):
        Clone(URL, branch)


@pytest.mark.parametrize(
    ("url", "branch"),
    [
        ("https://github.com/some-body/pro.ject.git", "feature/a-b_c.1"),
        ("ssh://git@host:2222/~me/x", "v1.0"),
        ("git@github.com:somebody/project.git", None),
    ],
)
def test_ordinary_addresses_and_branches_are_taken(url: str, branch: str | None) -> None:
    assert Clone(url, branch).url == url


@pytest.mark.parametrize(
    "change",
    [
        {"work": ".."},
        {"work": "/"},
        {"wheel": "a/../../b"},
        {"python": ""},
        {"python": "-c"},
        {"python": "a\nb"},
        {"device": "tpu"},
        {"project": "~"},
        {"programs": ("tmux; touch hit",)},
        {"programs": ("-y",)},
        {"torch_index": "https://me:password@host/whl"},
    ],
)
def test_a_wish_that_cannot_be_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        replace(SETUP, **change)  # type: ignore[arg-type]


def test_a_home_with_quotes_and_spaces_works(programs: Machine, machine: RemoteMachine) -> None:
    home = programs.server.folder / "a 'quoted' $(touch hit) home"
    (home / WHEEL).parent.mkdir(parents=True)
    shutil.copy(programs.server.home / WHEEL, home / WHEEL)
    programs.server.set_session(path=programs.path, home=home)
    environment, _ = set_up(machine, named(programs))
    assert environment.python == str(home / WORK / "bin" / "python")
    assert machine.check([environment.python, "-c", "print(1)"]).text == "1\n"
    assert aquachat.__version__ in machine.check([f"{WORK}/bin/aquachat", "--version"]).text
    assert not list(programs.server.folder.rglob("hit"))


class Index(ThreadingHTTPServer):
    """A package index on loopback: `/simple` has all but torch, `/whl/cu126` has that."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(_Pages, directory=str(folder)))
        self.asked: list[str] = []
        self.folder = folder
        self.address = f"http://127.0.0.1:{self.server_port}"

    def add(self, place: str, name: str, version: str, text: str = "") -> None:
        """Put a package of one module on the index."""
        module = name.replace("-", "_")
        folder = self.folder / place / name
        folder.mkdir(parents=True)
        info = f"{module}-{version}.dist-info"
        files = {
            f"{module}/__init__.py": text,
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
        with zipfile.ZipFile(folder / f"{module}-{version}-py3-none-any.whl", "w") as archive:
            for file, content in files.items():
                archive.writestr(file, content)


class _Pages(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def index(tmp_path: Path, wheel: Path) -> Iterator[Index]:
    (tmp_path / "index").mkdir()
    with Index(tmp_path / "index") as made:
        with zipfile.ZipFile(wheel) as archive:
            name = next(name for name in archive.namelist() if name.endswith("/METADATA"))
            needs = email.message_from_bytes(archive.read(name)).get_all("Requires-Dist") or []
        for need in needs:
            requirement = Requirement(need)
            lowest = next(s.version for s in requirement.specifier if s.operator == ">=")
            if requirement.name != "torch" and requirement.marker is None:
                made.add("simple", canonicalize_name(requirement.name), lowest)
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


@pytest.mark.long
@pytest.mark.parametrize("torch_is_in", ["whl/cu126", "simple"])
def test_pip_takes_torch_from_the_index_for_the_driver(
    programs: Machine, machine: RemoteMachine, index: Index, torch_is_in: str
) -> None:
    index.add(torch_is_in, "torch", "2.9.0", TORCH)
    variables = {"PIP_INDEX_URL": f"{index.address}/simple", "PIP_RETRIES": "0"}
    programs.server.set_session(path=programs.path, variables=variables)
    programs.add("python3", 'exec {real} "$@"')
    programs.add_driver("550.144.03")
    environment, said = set_up(machine, replace(SETUP, torch_index=f"{index.address}/whl"))
    assert environment.torch_version == "2.9.9+cu128"
    assert "/whl/cu126/torch/" in index.asked
    assert ("/simple/torch/" in index.asked) == (torch_is_in == "simple")
    assert any("trying the default index" in line for line in said) == (torch_is_in == "simple")
    assert (
        aquachat.__version__
        in machine.check(
            [str(work_of(programs) / "venv" / "bin" / "python"), "-c", SHOW_VERSION]
        ).text
    )


SHOW_VERSION = "import importlib.metadata as m; print(m.version('aquachat'))"
NETWORK = ("PIP_", "UV_", "SSL_", "CURL_", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
"""How this computer reaches an index; a session over SSH has an empty environment."""


@pytest.mark.long
def test_an_empty_machine_is_set_up_for_real(server: Sshd, tmp_path: Path) -> None:
    variables = {name: value for name, value in os.environ.items() if name.startswith(NETWORK)}
    server.set_session(variables=variables)
    shutil.rmtree(server.home / "aquachat")
    said: list[str] = []
    with server.machine(tmp_path / "job") as machine:
        made = make_wheel(
            tmp_path / "wheels", machine_platform=platform_of(machine), say=said.append
        )
        setup = Setup(WORK, f"{WORK}/wheel/{made.path.name}", device="cpu", programs=())
        send_file(machine, made.path, setup.wheel)
        try:
            environment = bootstrap(machine, setup, say=said.append)
        except CommandError as error:
            if "cannot reach" in error.message:
                pytest.skip(error.message)
            raise
        started_s = time.monotonic()
        assert bootstrap(machine, setup, say=said.append) == environment
        print(f"again: {time.monotonic() - started_s:.2f} s", environment, *said, sep="\n")
        code = "import torch; print(int((torch.ones(3, 3) @ torch.ones(3, 3)).sum()))"
        assert machine.check([environment.python, "-c", code]).text == "27\n"
        run = f'PATH="$HOME/{WORK}/bin:$PATH" aquachat --version'
        assert made.version in machine.script(run).text
        if not made.is_pure:
            machine.check([environment.python, "-c", "import aquachat._tokenizer"])
