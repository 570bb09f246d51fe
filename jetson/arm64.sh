#!/bin/bash
# Run the board's tests on arm64 Linux that is emulated: a Debian root with its own Python, and
# the very wheels that a board would install. It takes minutes to hours, so it is run on demand.
#
#   sudo apt-get install debootstrap qemu-user-static binfmt-support
#   sudo PYTHON=.venv/bin/python jetson/arm64.sh FOLDER [-d 12|11] [-i IMAGES] [TEST...]
#
# FOLDER   keeps the root and the wheels between runs
# -d       Debian 12: Python 3.11, newest ONNX Runtime; 11: Python 3.9, ONNX Runtime 1.11.
#          No Debian has Python 3.8.
# -i       also compute the features of the images in IMAGES, here and there, and compare them
# TEST     what pytest is given, by default the tests of what runs on a board
#
# PYTHON has this project installed, and a network; the emulated machine needs none.
set -euo pipefail

stop() {
  echo "arm64.sh: $1" >&2
  exit 2
}

source=$(cd "$(dirname "$0")/.." && pwd)
mirror=${MIRROR:-http://deb.debian.org/debian}
python=${PYTHON:-python3}
debian=12
images=
folder=${1:-}
[[ -n $folder && $folder != -* ]] || stop "usage: $0 FOLDER [-d 12|11] [-i IMAGES] [TEST...]"
shift
while getopts d:i: option; do
  case $option in
    d) debian=$OPTARG ;;
    i) images=$(realpath "$OPTARG") ;;
    *) stop "usage: $0 FOLDER [-d 12|11] [-i IMAGES] [TEST...]" ;;
  esac
done
shift $((OPTIND - 1))
case $debian in
  12) suite=bookworm version=3.11 ;;
  11) suite=bullseye version=3.9 ;;
  *) stop "-d is $debian; it may be 12 or 11" ;;
esac
if [[ $# -eq 0 ]]; then
  set -- tests/features tests/premodel tests/jetson tests/policy/test_policies.py \
    tests/routing/test_router.py tests/engines/test_engine.py tests/images/test_preprocess.py \
    tests/images/test_decode.py tests/serving/test_notify.py tests/serving/test_http.py
fi

[[ $(id -u) = 0 ]] || stop "only root may change into another root"
for tool in debootstrap dpkg-deb qemu-aarch64-static; do
  command -v $tool >/dev/null ||
    stop "there is no $tool: apt-get install debootstrap qemu-user-static binfmt-support"
done
grep -qs '^enabled' /proc/sys/fs/binfmt_misc/qemu-aarch64 ||
  stop "the kernel does not know what to do with arm64 programs: mount -t binfmt_misc binfmt_misc \
/proc/sys/fs/binfmt_misc; update-binfmts --enable qemu-aarch64"

mkdir -p "$folder"
folder=$(realpath "$folder")
root=$folder/$suite
wheels=$folder/wheels-$suite

if [[ ! -e $root/.complete ]]; then
  echo "== a root of Debian $debian, arm64"
  rm -rf "$root"
  debootstrap --arch=arm64 --foreign --variant=minbase --include=python3,python3-venv \
    "$suite" "$root" "$mirror" >"$folder/$suite.log"
  # Every file of every package, but none of their scripts: they take half an hour of emulation,
  # and set up services that no test needs.
  for package in "$root"/var/cache/apt/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink -C "$root"
  done
  touch "$root/.complete"
fi

# The emulated machine has /proc, /sys and /dev; they are mounted for one command alone.
inside() {
  # shellcheck disable=SC2016
  unshare --mount --propagation private bash -c '
    mount -t proc proc "$1/proc" && mount -t sysfs -o ro sysfs "$1/sys" &&
    mount --rbind /dev "$1/dev" && root=$1 && shift &&
    exec env -i PATH=/opt/adaptive/bin:/usr/sbin:/usr/bin:/sbin:/bin \
      HOME=/tmp LANG=C.UTF-8 chroot "$root" "$@"
  ' inside "$root" "$@"
}

echo "== wheels"
"$python" -m adaptive.jetson.wheelhouse "debian$debian" -o "$wheels" --project "$source" --force \
  --with 'pytest>=7.4' --with 'hypothesis>=6.80' | tail -n 1
rm -rf "$root/wheelhouse" "$root/srv/adaptive"
cp -r "$wheels" "$root/wheelhouse"
# The tests alone: beside the folders of the source, pytest would import those.
mkdir -p "$root/srv/adaptive"
cp -r "$source"/{tests,docs,pyproject.toml,README.md} "$root/srv/adaptive"

echo "== install, offline"
inside /wheelhouse/install.sh /opt/adaptive "/usr/bin/python$version"
inside /opt/adaptive/bin/python -c '
import platform, cv2, numpy, onnxruntime
print(platform.machine(), *platform.libc_ver(), "Python", platform.python_version(), "numpy",
      numpy.__version__, "OpenCV", cv2.__version__, "ONNX Runtime", onnxruntime.__version__)'

failed=0
if [[ -n $images ]]; then
  echo "== features, here and there"
  mkdir -p "$root/srv/adaptive/images"
  cp "$images"/* "$root/srv/adaptive/images"
  here=$folder/features-here.csv there=$root/srv/adaptive/features.csv
  rm -f "$here" "$there"
  "$python" -m adaptive.cli features "$root/srv/adaptive/images" --features all+extra -o "$here"
  inside adaptive features /srv/adaptive/images --features all+extra -o /srv/adaptive/features.csv
  "$python" - "$here" "$there" <<'PROGRAM' || failed=$?
import csv, sys
import numpy, cv2

(names, *here), (others, *there) = ([*csv.reader(open(path))] for path in sys.argv[1:])
assert names == others and len(here) == len(there) > 0, "the tables are of different form"
print("here: numpy", numpy.__version__, "OpenCV", cv2.__version__)
first = names.index("image") + 1
cells = [(x, y) for a, b in zip(here, there) for x, y in zip(a[first:], b[first:])]
print(f"{len(here)} images, {len(cells)} values, {sum(x == y for x, y in cells)} to the last digit")
for column, name in enumerate(names[first:], first):
    pairs = [(float(a[column]), float(b[column])) for a, b in zip(here, there)]
    unlike = [abs(x - y) / max(abs(x), abs(y)) for x, y in pairs if x != y]
    if unlike:
        print(f"{name}: {len(unlike)} of {len(pairs)} differ, at most by {max(unlike):.1e} of it")
worst = max((abs(float(x) - float(y)) / max(abs(float(x)), 1e-9) for x, y in cells if x != y),
            default=0.0)
sys.exit(worst > 1e-6)
PROGRAM
fi

echo "== tests"
began=$SECONDS
inside sh -c 'cd /srv/adaptive && exec python -m pytest -q -p no:cacheprovider "$@"' sh "$@" || failed=$?
echo "== $((SECONDS - began)) s under emulation"
exit "$failed"
