# Sets up one job on a machine: Python, the torch that fits its driver, aquachat, and a clone.
#   bootstrap.sh KEY WORK WHEEL PYTHON DEVICE URL BRANCH PROJECT TORCH_INDEX [PROGRAM...] <describe
# PYTHON: an interpreter whose packages are used as they are; empty to make WORK/venv.
# DEVICE: `cpu` takes the torch without CUDA. URL: cloned into PROJECT; empty for none.
# PROGRAM: a system package without which the job can do, such as tmux.
# What is read from standard input is a Python program that describes the environment.
#
# Says a line for each step as it happens: `step TEXT`, `warn TEXT`, `fail CAUSE TEXT`, and last
# `environment JSON`. What the programs say goes to WORK/job/bootstrap.log; where this fails, the
# end of that is repeated on standard error. Run again with the same KEY and wheel it does nothing;
# run twice at once, the second waits for the first. It goes on when the connection is cut.
set -eu
umask 077
trap '' HUP PIPE
key=$1 work=$2 wheel=$3 python=$4 device=$5 url=$6 branch=$7 project=$8 torch_index=$9
shift 9
describe=$(cat)

mkdir -p -- "$work/job" "$work/bin"
work=$(cd -- "$work" && pwd)
case $wheel in /*) ;; *) wheel=$PWD/$wheel ;; esac
case $project in /*) ;; *) project=$PWD/$project ;; esac
log=$work/job/bootstrap.log
stamp=$work/job/bootstrap.done
environment=$work/job/environment.json
venv=$work/venv
site=$work/site
exec 3>&1 4>&2 </dev/null
touch "$log"
before=$(($(wc -c <"$log")))

tell() {
  printf '%s\n' "$*" >&3 || :
  printf '== %s\n' "$*" || :
}

fail() {
  tell "fail $*"
  exit 1
}

# The end of what the programs of this call said, for the error message.
last_words() {
  code=$?
  if [ "$code" -ne 0 ]; then
    tail -c "+$((before + 1))" "$log" | grep -v '^== ' | tail -n 40 >&4 || :
  fi
  exit "$code"
}
trap last_words EXIT
exec >>"$log" 2>&1

last_line() {
  tail -n 5 "$log" | grep -v '^== ' | grep . | tail -n 1 | sed 's/^ *//' || :
}

hash_of() {
  if command -v sha256sum >/dev/null; then sha256sum <"$1"; else shasum -a 256 <"$1"; fi | cut -d' ' -f1
}

# --- one at a time ---------------------------------------------------------------------------

# flock(1) is let go by the kernel, with the last program that this call started. Where it is
# missing, a folder with the number of the process is the lock, and a process that is gone has none.
lock() {
  if command -v flock >/dev/null; then
    exec 9>>"$work/job/bootstrap.lock"
    flock -n 9 || { tell step "another set-up of this job is going on; waiting for it"; flock 9; }
    return
  fi
  told=
  while ! mkdir "$work/job/bootstrap.held" 2>/dev/null; do
    holder=$(cat "$work/job/bootstrap.held/pid" 2>/dev/null || echo starting)
    if [ "$holder" != starting ] && ! kill -0 "$holder" 2>/dev/null; then
      rm -rf -- "$work/job/bootstrap.held"
      continue
    fi
    [ -n "$told" ] || tell step "another set-up of this job is going on; waiting for it"
    told=yes
    sleep 1
  done
  echo $$ >"$work/job/bootstrap.held/pid"
  trap 'code=$?; rm -rf -- "$work/job/bootstrap.held"; (exit $code) || last_words' EXIT
}

# --- system packages ---------------------------------------------------------------------------

apt_install() {
  command -v apt-get >/dev/null || { echo "apt-get: not found"; return 1; }
  as_root=
  [ "$(id -u)" = 0 ] || as_root="sudo -n"
  set -- env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120 "$@"
  # shellcheck disable=SC2086 # nothing, or `sudo` and its option
  $as_root "$@"
}

# With a named Python nothing is downloaded, and a machine of somebody's own stays as it is.
need_program() {
  command -v "$1" >/dev/null && return
  [ -z "$python" ] || { echo "$1: not found"; return 1; }
  tell step "installing $1"
  apt_install install "$2" || { apt_install update && apt_install install "$2"; } || return 1
  command -v "$1" >/dev/null
}

# --- the code ----------------------------------------------------------------------------------

clone() {
  mark=$project/.git/aquachat-clone
  if [ -f "$mark" ] && [ "$(cat "$mark")" = "$url $branch" ]; then return; fi
  if [ -e "$project" ] && [ -n "$(ls -A "$project")" ]; then
    fail folder "\`$project\` holds files already that are no clone of this branch"
  fi
  need_program git git || fail git "git is missing, which clones the project: $(last_line)"
  tell step "cloning $url"
  rm -rf -- "$project.new"
  set -- --depth 1
  [ -z "$branch" ] || set -- "$@" --branch "$branch"
  GIT_TERMINAL_PROMPT=0 GIT_SSH_COMMAND="${GIT_SSH_COMMAND:-ssh -o BatchMode=yes}" \
    git clone --quiet "$@" -- "$url" "$project.new" \
    || fail clone "\`$url\` could not be cloned: $(last_line)"
  printf '%s\n' "$url $branch" >"$project.new/.git/aquachat-clone"
  rm -rf -- "$project"
  mv -- "$project.new" "$project"
}

is_aquachat() {
  [ -f "$1/tokenizer-rs/Cargo.toml" ] && grep -q '^name = "aquachat"$' "$1/pyproject.toml"
}

# A clone of aquachat is compiled here; the wheel that was sent has other code.
need_cargo() {
  need_program cc build-essential \
    || fail compiler "a C compiler is missing, which Rust links with: $(last_line)"
  PATH=$HOME/.cargo/bin:$work/cargo/bin:$PATH
  export PATH
  command -v cargo >/dev/null && return
  tell step "installing Rust (rustup, minimal), which compiles the tokenizer of the clone"
  CARGO_HOME=$work/cargo RUSTUP_HOME=$work/rustup
  export CARGO_HOME RUSTUP_HOME
  { download https://sh.rustup.rs "$work/job/rustup.sh" \
    && sh "$work/job/rustup.sh" -q -y --profile minimal --no-modify-path; } \
    || fail cargo "Rust could not be installed: $(last_line)"
}

# --- the environment -----------------------------------------------------------------------------

download() {
  if command -v curl >/dev/null; then
    curl -fsSL --proto '=https' --connect-timeout 20 --max-time 300 --retry 2 -o "$2" "$1"
  else
    wget -q -T 20 -t 2 -O "$2" "$1"
  fi
}

# A uv that knows `--torch-backend` (0.6.9 and later).
find_uv() {
  for uv in uv "$HOME/.local/bin/uv" "$HOME/.cargo/bin/uv" "$work/uv/uv" "$work/uv/bin/uv"; do
    "$uv" pip install --help 2>/dev/null | grep -q -e '--torch-backend' && return
  done
  uv=
  return 1
}

# UV_UNMANAGED_INSTALL leaves the shell's start-up files alone, and so does pip's --target.
get_uv() {
  tell step "installing uv"
  mkdir -p -- "$work/uv"
  if download https://astral.sh/uv/install.sh "$work/uv/install.sh"; then
    UV_UNMANAGED_INSTALL=$work/uv sh "$work/uv/install.sh" && find_uv && return
  fi
  PIP_USER=0 python3 -m pip install --quiet --target "$work/uv" uv && find_uv
}

find_python() {
  for base in python3 python3.13 python3.12 python3.11 python3.14; do
    "$base" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && return
  done
  return 1
}

driver_version() {
  nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1 | grep '^[0-9]' \
    || cat /sys/module/nvidia/version 2>/dev/null || :
}

# The newest CUDA that a driver runs, of those that torch is built for: CUDA Toolkit release notes,
# tables "CUDA Toolkit and minimum required driver version for minor version compatibility" and
# "corresponding driver versions" (CUDA 12.8, the first for Blackwell, comes with 570.26).
torch_build() {
  if [ "$device" = cpu ]; then echo cpu; return; fi
  driver=$(driver_version)
  if driver_is 580 65; then echo cu130
  elif driver_is 570 26; then echo cu128
  elif driver_is 525 60; then echo cu126
  elif driver_is 450 80; then echo cu118
  else echo cpu
  fi
}

has_gpu() {
  [ "$device" != cpu ] && [ -n "$(driver_version)" ]
}

# torch.compile needs a C compiler and Python.h, which a Python that uv brought has.
need_compiler() {
  need_program cc gcc \
    || tell warn "there is no C compiler, which attention on a GPU is compiled with: $(last_line)"
  "$work/bin/python" -c 'import os, sysconfig as s
os.stat(os.path.join(s.get_path("include"), "Python.h"))' 2>/dev/null \
    || tell warn "this Python has no Python.h (python3-dev), which attention on a GPU needs"
}

driver_is() {
  [ -n "$driver" ] || return 1
  rest=${driver#*.}
  [ "${driver%%.*}" -gt "$1" ] || { [ "${driver%%.*}" -eq "$1" ] && [ "${rest%%.*}" -ge "$2" ]; }
}

is_full() {
  tail -n 20 "$log" | grep -q 'No space left\|Disk quota exceeded\|File too large'
}

default_index() {
  if is_full; then return 1; fi
  tell warn "torch could not be had from its own index ($(last_line)); trying the default index"
}

uv_install() {
  backend=${UV_TORCH_BACKEND:-auto}
  [ "$device" != cpu ] || backend=cpu
  "$uv" pip install --python "$venv/bin/python" "--torch-backend=$backend" "$1" && return
  default_index || return 1
  unset UV_TORCH_BACKEND
  "$uv" pip install --python "$venv/bin/python" "$1"
}

pip_install() {
  torch=$("$venv/bin/python" - "$wheel" <<'PROGRAM'
import email, sys, zipfile

with zipfile.ZipFile(sys.argv[1]) as wheel:
    name = next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
    needs = email.message_from_bytes(wheel.read(name)).get_all("Requires-Dist") or []
print(next((n for n in needs if n.split(";")[0].startswith("torch")), "torch"))
PROGRAM
)
  "$venv/bin/python" -m pip install --index-url "$torch_index/$(torch_build)" "$torch" \
    || { default_index && "$venv/bin/python" -m pip install "$torch"; } \
    || return 1
  "$venv/bin/python" -m pip install "$1"
}

make_venv() {
  rm -rf -- "$venv"
  if find_uv || get_uv; then
    tell step "making a Python environment with $("$uv" --version)"
    { has_gpu && "$uv" venv --quiet --managed-python --python '>=3.11,<3.14' "$venv"; } \
      || "$uv" venv --quiet --python '>=3.11,<3.14' "$venv" \
      || "$uv" venv --quiet --python '>=3.11' "$venv" \
      || fail python "there is no Python 3.11 or later, and uv could not get one: $(last_line)"
    install=uv_install
  else
    find_python || fail python "there is no Python 3.11 or later, and uv could not be installed"
    tell step "making a Python environment with $base, since uv could not be installed"
    "$base" -m venv "$venv" || fail venv "$base cannot make an environment: $(last_line)"
    install=pip_install
  fi
  what=$wheel
  if [ -n "$url" ] && is_aquachat "$project"; then
    need_cargo
    what=$project
  fi
  tell step "installing aquachat and the torch that fits; this downloads some gigabytes"
  "$install" "$what" || fail install "aquachat could not be installed: $(last_line)"
}

# The packages of a named Python are used as they are; only the wheel is unpacked beside them.
use_python() {
  case $python in \~/*) python=$HOME/${python#\~/} ;; esac
  base=$(command -v -- "$python") || fail named "there is no \`$python\` on the machine"
  "$base" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
    || fail named "\`$python\` is older than Python 3.11, or does not run"
  tell step "unpacking the wheel for $base, whose packages are used as they are"
  rm -rf -- "$site" "$site.new"
  "$base" -m zipfile -e "$wheel" "$site.new" \
    || fail install "the wheel could not be unpacked: $(last_line)"
  mv -- "$site.new" "$site"
}

# --- what the job calls ------------------------------------------------------------------------

quoted() {
  printf '%s\n' "$1" | sed "s/'/'\\\\''/g; s/^/'/; s/\$/'/"
}

wrapper() {
  { printf '%s\n' '#!/bin/sh'; cat; } >"$work/bin/.$1"
  chmod 755 "$work/bin/.$1"
  mv -f -- "$work/bin/.$1" "$work/bin/$1"
}

write_wrappers() {
  if [ -z "$python" ]; then
    printf 'exec %s "$@"\n' "$(quoted "$venv/bin/python")" | wrapper python
  else
    wrapper python <<END
PYTHONPATH=$(quoted "$site")\${PYTHONPATH:+:\$PYTHONPATH}
export PYTHONPATH
exec $(quoted "$base") "\$@"
END
  fi
  ln -sf python "$work/bin/python3"
  # Also where the working directory is a checkout, whose own `aquachat` is not compiled.
  wrapper aquachat <<END
PYTHONSAFEPATH=1
export PYTHONSAFEPATH
exec $(quoted "$work/bin/python") -m aquachat "\$@"
END
  wrapper torchrun <<END
exec $(quoted "$work/bin/python") -m torch.distributed.run "\$@"
END
}

# --- the order of things -----------------------------------------------------------------------

lock
[ -f "$wheel" ] || fail wheel "the wheel \`$wheel\` is not on the machine"
asked="$key $(hash_of "$wheel")"
if [ -s "$environment" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$asked" ] \
  && "$work/bin/python" -P -c 'import aquachat'; then
  tell step "the machine is set up already"
  tell environment "$(cat "$environment")"
  exit 0
fi
rm -f -- "$stamp"
for program; do
  need_program "$program" "$program" \
    || tell warn "$program is missing, so the job does without it: $(last_line)"
done
[ -z "$url" ] || clone
if [ -n "$python" ]; then use_python; else make_venv; fi
write_wrappers
if has_gpu; then need_compiler; fi
tell step "asking torch what it sees"
printf '%s\n' "$describe" >"$work/job/describe.py"
"$work/bin/python" -P "$work/job/describe.py" "$work/bin/python" >"$environment.new" \
  || fail broken "the environment does not work: $(last_line)"
tail -n 1 "$environment.new" >"$environment"
rm -f -- "$environment.new"
if grep -q '"missing": \[\]' "$environment"; then
  printf '%s\n' "$asked" >"$stamp.new"
  mv -f -- "$stamp.new" "$stamp"
fi
tell environment "$(cat "$environment")"
