# shellcheck shell=bash
# Sourced by tests/run and deploy/demo: what a fresh Debian 12 lacks, installed and said. Nothing here starts a service.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENVS=$ROOT/target/venvs

say() { printf '\033[1m== %s\033[0m\n' "$*"; }
note() { printf '   %s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else die "needs root (or sudo) for: $*"
  fi
}

# A broker that apt installs would start at once, on all interfaces, as a system service. While apt runs, a policy-rc.d that
# answers "no" (101) keeps every service down; one that was there before is put back.
apt_install_quietly() {
  local guard=/usr/sbin/policy-rc.d kept='' status=0
  if [ -e "$guard" ]; then
    kept=$(mktemp)
    cp -p "$guard" "$kept"
  fi
  printf '#!/bin/sh\nexit 101\n' | as_root tee "$guard" >/dev/null
  as_root chmod 755 "$guard"
  { as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update &&
    as_root env DEBIAN_FRONTEND=noninteractive RABBITMQ_NO_START=1 apt-get -qq install -y --no-install-recommends "$@" >/dev/null; } || status=$?
  if [ -n "$kept" ]; then
    as_root cp -p "$kept" "$guard"
    rm -f "$kept"
  else
    as_root rm -f "$guard"
  fi
  return $status
}

# need_debian 'test' package: the package is installed if the test fails.
WANTED=()
need_debian() { eval "$1" >/dev/null 2>&1 || WANTED+=("${@:2}"); }
install_wanted() {
  [ ${#WANTED[@]} = 0 ] && return 0
  command -v apt-get >/dev/null || die "these are needed, and there is no apt-get to install them: ${WANTED[*]}"
  say "Installing with apt (no service is started): ${WANTED[*]}"
  apt_install_quietly "${WANTED[@]}" || die "apt could not install ${WANTED[*]}"
  case " ${WANTED[*]} " in
    *" rabbitmq-server "*)
      # The package also asks systemd to start it with the next boot. That is the operator's to say, not ours.
      if command -v systemctl >/dev/null; then
        as_root systemctl --quiet disable rabbitmq-server.service epmd.socket epmd.service >/dev/null 2>&1 || true
      fi
      ;;
  esac
  WANTED=()
}

need_cargo() {
  command -v cargo >/dev/null || { [ -x "$HOME/.cargo/bin/cargo" ] && PATH=$HOME/.cargo/bin:$PATH; } || die "cargo is not installed: Umbel needs Rust 1.90 or later"
  need_debian 'command -v cc' gcc libc6-dev
}

need_broker() { need_debian 'ls /usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server' rabbitmq-server; }
need_python() { need_debian 'python3 -c "import venv, ensurepip"' python3 python3-venv; }

# The interpreter of an old Python, where pyenv or the system has one.
interpreter() {
  local found
  for found in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python; do
    [ -x "$found" ] && { echo "$found"; return 0; }
  done
  found=$(command -v "python$1" || true)
  [ -n "$found" ] && "$found" -c 'import sys' >/dev/null 2>&1 && echo "$found"
}

# make_venv NAME PYTHON: target/venvs/NAME, made anew only when its requirements or its interpreter changed.
make_venv() {
  local name=$1 python=$2 requirements=$ROOT/tests/real/requirements/$1.txt key dir log
  key=$( (cat "$requirements"; "$python" -c 'import sys; print(sys.version)'; echo "$python") | sha256sum | cut -c1-12)
  dir=$VENVS/$name-$key
  rm -f "$VENVS/$name.skipped"
  if [ ! -e "$dir/.complete" ]; then
    note "making $name with $("$python" -c 'import sys; print("Python %d.%d.%d" % sys.version_info[:3])')"
    rm -rf "$dir"
    mkdir -p "$VENVS"
    log=$VENVS/$name.log
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 3))'; then
      "$python" -m venv "$dir" >"$log" 2>&1 || return 1
    else
      "$VENVS/celery5/bin/python" -m virtualenv -q -p "$python" "$dir" >"$log" 2>&1 || return 1
    fi
    "$dir/bin/python" -m pip install -q --disable-pip-version-check -r "$requirements" >>"$log" 2>&1 || return 1
    touch "$dir/.complete"
  fi
  ln -sfn "$name-$key" "$VENVS/$name"
}

# The environment of the newest Celery must be; those of old ones may be missing, and then say why.
make_newest_venv() { make_venv celery5 "$(command -v python3)" || die "the environment of Celery 5 could not be made: see $VENVS/celery5.log"; }
make_old_venv() {
  local name=$1 version=$2 python
  python=$(interpreter "$version") || python=''
  if [ -z "$python" ]; then
    mkdir -p "$VENVS"
    rm -f "$VENVS/$name"
    echo "no Python $version on this machine: $name runs through its captured vectors only" | tee "$VENVS/$name.skipped" | sed 's/^/   /'
  elif ! make_venv "$name" "$python"; then
    rm -f "$VENVS/$name"
    echo "the environment of $name could not be made (see $VENVS/$name.log)" | tee "$VENVS/$name.skipped" | sed 's/^/   /'
  fi
}
