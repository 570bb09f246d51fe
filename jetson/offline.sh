#!/bin/sh
# Install the wheels beside this script into a virtual environment. Needs no network.
#
#   ./install.sh FOLDER [PYTHON]
#
# FOLDER is made, or brought up to date. PYTHON is the interpreter, by default the target's version
# from the path. Every wheel's checksum is compared with requirements.txt.
set -eu

stop() {
    echo "install.sh: $1" >&2
    exit 2
}

case "${1:-}" in
    '' | -*) stop "usage: $0 FOLDER [PYTHON]" ;;
esac
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
folder=$1

wanted() { sed -n "s/^$1=//p" "$here/target"; }
[ -r "$here/target" ] || stop "$here/target is missing; this script belongs into a wheelhouse"
version=$(wanted python)
machine=$(wanted machine)

[ "$(uname -m)" = "$machine" ] ||
    stop "these wheels are for $machine, and this machine is $(uname -m)"
python=${2:-python$version}
command -v "$python" >/dev/null ||
    stop "there is no $python; on Ubuntu: apt-get install python$version python$version-venv"
found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[ "$found" = "$version" ] ||
    stop "these wheels are for Python $version, and $python is $found"

# Without the distribution's pip: JetPack 4's is too old to know these wheels.
# The board's own OpenCV is seen only by an environment that sees the system's packages.
system=
[ "$(wanted system-packages)" = yes ] && system=--system-site-packages
[ -x "$folder/bin/python" ] || "$python" -m venv --without-pip $system "$folder"
set -- "$here"/wheels/pip-*.whl
[ -f "$1" ] || stop "$here/wheels has no wheel of pip"
# Another environment's settings, an index say, have no part in this.
PIP_CONFIG_FILE=/dev/null "$folder/bin/python" "$1/pip" --isolated install \
    --quiet --disable-pip-version-check --no-cache-dir --no-index --no-deps --require-hashes \
    --find-links "$here/wheels" --requirement "$here/requirements.txt"
# Of the system's packages more may be amiss than is ours to mend.
[ -n "$system" ] || PIP_CONFIG_FILE=/dev/null "$folder/bin/python" -m pip --isolated \
    --disable-pip-version-check check
[ -z "$system" ] || "$folder/bin/python" -c 'import adaptive.opencv' ||
    stop "the board's own OpenCV cannot be used; make the wheelhouse without --own-opencv"
"$folder/bin/adaptive" --version
