#!/bin/bash
# Install `adaptive serve` on a board as a systemd service. Needs no network.
#
#   sudo ./install.sh --wheelhouse DIR --bundle DIR [--options "--port 8080 …"]
#   sudo ./install.sh --image NAME     --bundle DIR [--options …]    # a container instead
#   sudo ./install.sh --remove
#
# Makes: /opt/adaptive (the environment), the user adaptive, /var/lib/adaptive/bundle, /etc/adaptive
# (settings, never overwritten), and the unit. Run it again to bring any of it up to date. With
# --dry-run it prints what it would do. Everything is checked before anything is changed.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
wheelhouse='' image='' bundle='' options='' remove='' dry=''

stop() {
  echo "install.sh: $1" >&2
  exit 2
}

usage="usage: $0 --wheelhouse DIR|--image NAME --bundle DIR [--options STRING] [--dry-run]"
while [[ $# -gt 0 ]]; do
  case $1 in
    --remove) remove=yes ;;
    --dry-run) dry=yes ;;
    --wheelhouse | --image | --bundle | --options)
      [[ $# -ge 2 ]] || stop "$1 needs a value; $usage"
      declare "${1#--}=$2"
      shift
      ;;
    *) stop "$1 is no option; $usage" ;;
  esac
  shift
done

run() {
  if [[ -n $dry ]]; then
    echo "$*"
  else
    "$@"
  fi
}

# In an image that is being built systemd is not running; units are enabled all the same.
running() { [[ -d /run/systemd/system ]]; }

[[ -n $dry || $(id -u) = 0 ]] || stop "only root can install a service; try sudo"
command -v systemctl >/dev/null || stop "there is no systemctl; this installs a systemd service"
units=/etc/systemd/system

if [[ -n $remove ]]; then
  for unit in adaptive adaptive-container; do
    if [[ -e $units/$unit.service ]]; then
      if running; then run systemctl stop "$unit"; fi
      run systemctl disable "$unit"
      run rm -rf "$units/$unit.service" "$units/$unit.service.d"
    fi
  done
  if running; then run systemctl daemon-reload; fi
  run rm -rf /opt/adaptive
  echo "removed; /etc/adaptive, /var/lib/adaptive and /var/cache/adaptive are left as they are"
  exit 0
fi

[[ -n $wheelhouse || -n $image ]] || stop "give --wheelhouse or --image; $usage"
[[ -z $wheelhouse || -z $image ]] || stop "give one of --wheelhouse and --image"
[[ -n $bundle ]] || stop "give --bundle; $usage"
[[ -r $bundle/manifest.json ]] || stop "$bundle is no bundle; it has no manifest.json"
for file in units/adaptive.service offline.sh containers/run.sh; do
  [[ -r $here/$file ]] || stop "$here/$file is missing; copy the whole folder"
done

# What board is this?
release=$(sed -n 's/^# *R\([0-9]*\) (release), REVISION: \([0-9.]*\).*/\1.\2/p' \
  /etc/nv_tegra_release 2>/dev/null || true)
case ${release%%.*} in
  32) board="JetPack 4 (L4T $release)" version=3.8 ;;
  36) board="JetPack 6 (L4T $release)" version=3.10 ;;
  38 | 39) board="JetPack 7 (L4T $release)" version=3.12 ;;
  '') board="no Jetson" version= ;;
  *) board="L4T $release, which this script does not know" version= ;;
esac
echo "board: $board, $(uname -m)"

if [[ -n $wheelhouse ]]; then
  [[ -x $wheelhouse/install.sh && -r $wheelhouse/target ]] ||
    stop "$wheelhouse is no wheelhouse; make one: python -m adaptive.jetson.wheelhouse --help"
  made_for=$(sed -n 's/^python=//p' "$wheelhouse/target")
  [[ -z $version || $made_for = "$version" ]] ||
    stop "$wheelhouse is for Python $made_for; this board's wheels are for Python $version"
  command -v "python$made_for" >/dev/null ||
    stop "there is no python$made_for; apt-get install python$made_for python$made_for-venv"
  unit=adaptive
else
  command -v docker >/dev/null || stop "there is no docker; --wheelhouse needs none"
  docker image inspect "$image" >/dev/null 2>&1 || stop "docker has no image $image; build it first"
  unit=adaptive-container
fi

if ! getent passwd adaptive >/dev/null; then
  run useradd --system --user-group --home-dir /var/lib/adaptive --no-create-home \
    --shell /usr/sbin/nologin adaptive
fi
for group in video render; do # the GPU's devices belong to them
  if getent group "$group" >/dev/null; then run usermod --append --groups "$group" adaptive; fi
done

if running && systemctl --quiet is-active "$unit"; then run systemctl stop "$unit"; fi
run install -d -o adaptive -g adaptive -m 750 /var/lib/adaptive
run install -d -m 755 /opt/adaptive /etc/adaptive
# Aside first, so that a bundle is never half there. The service can read it, and not change it.
run rm -rf /var/lib/adaptive/.bundle
run cp -r "$bundle" /var/lib/adaptive/.bundle
run chown -R root:adaptive /var/lib/adaptive/.bundle
run chmod -R u=rwX,g=rX,o= /var/lib/adaptive/.bundle
run rm -rf /var/lib/adaptive/bundle
run mv /var/lib/adaptive/.bundle /var/lib/adaptive/bundle

# settings FILE LINE...: a file that is the user's from then on
settings() {
  local file=$1
  shift
  if [[ -e $file ]]; then
    echo "$file is left as it is"
  elif [[ -n $dry ]]; then
    printf 'write %s: %s\n' "$file" "$*"
  else
    printf '%s\n' "$@" >"$file"
  fi
}

megabytes=$(awk '/^MemTotal/ { print int($2 * 3 / 4 / 1024) }' /proc/meminfo)
if [[ $unit = adaptive ]]; then
  run "$wheelhouse/install.sh" /opt/adaptive
  settings /etc/adaptive/serve.env "ADAPTIVE_OPTIONS=${options:---host 127.0.0.1 --port 8080}"
  run install -D -m 644 "$here/units/adaptive.service" "$units/adaptive.service"
  systemd=$(systemctl --version | awk 'NR == 1 { print int($2) }')
  if [[ $systemd -ge 247 ]]; then
    run install -D -m 644 "$here/units/newer.conf" "$units/adaptive.service.d/newer.conf"
  fi
else
  run install -d -o adaptive -g adaptive -m 750 /var/lib/adaptive/cache
  run install -m 755 "$here/containers/run.sh" /opt/adaptive/run.sh
  settings /etc/adaptive/container.env "ADAPTIVE_IMAGE=$image" "ADAPTIVE_MEMORY=${megabytes}m" \
    "ADAPTIVE_OPTIONS=$options"
  run install -D -m 644 "$here/units/adaptive-container.service" "$units/adaptive-container.service"
fi

grep -Eqs '^memory\s.*\s1$' /proc/cgroups || grep -qsw memory /sys/fs/cgroup/cgroup.controllers ||
  echo "this kernel counts no memory by control group: the service's memory limit has no effect"
run systemctl enable "$unit"
if ! running; then
  echo "systemd is not running here; the service starts when the board does"
elif [[ -n $dry ]]; then
  echo "systemctl daemon-reload; systemctl start $unit"
else
  systemctl daemon-reload
  systemctl start "$unit" || {
    systemctl --no-pager --lines=20 status "$unit" >&2 || true
    stop "$unit did not start; above is why, and more in: journalctl -u $unit"
  }
  systemctl --no-pager --lines=0 status "$unit"
fi
