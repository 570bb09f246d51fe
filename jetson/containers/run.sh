#!/bin/bash
# Run the container of `adaptive serve`, and end it when it stops answering. For systemd, which
# starts it anew.
#
# From the environment: ADAPTIVE_IMAGE (adaptive:jetpack4), ADAPTIVE_RUNTIME (nvidia),
# ADAPTIVE_MEMORY (3g), ADAPTIVE_PORT (8080), ADAPTIVE_ADDRESS (127.0.0.1),
# ADAPTIVE_STATE (/var/lib/adaptive, holds bundle/), ADAPTIVE_USER (its owner, uid:gid),
# ADAPTIVE_GROUPS (of the GPU's devices; by default that of video), ADAPTIVE_OPTIONS,
# ADAPTIVE_START_S (1800, until the first answer), ADAPTIVE_CHECK_S (10), ADAPTIVE_DOCKER (docker).
set -euo pipefail

name=adaptive
docker=${ADAPTIVE_DOCKER:-docker}
state=${ADAPTIVE_STATE:-/var/lib/adaptive}
port=${ADAPTIVE_PORT:-8080}
memory=${ADAPTIVE_MEMORY:-3g}
check_s=${ADAPTIVE_CHECK_S:-10}
groups=${ADAPTIVE_GROUPS:-$(getent group video | cut -d: -f3)}

if [[ ! -d $state/bundle ]]; then
  echo "run.sh: there is no bundle in $state/bundle" >&2
  exit 2
fi
user=${ADAPTIVE_USER:-$(stat -c %u:%g "$state")}

options=(
  --rm --name "$name" --runtime "${ADAPTIVE_RUNTIME:-nvidia}"
  --user "$user" --read-only --tmpfs /tmp
  --cap-drop ALL --security-opt no-new-privileges
  --memory "$memory" --memory-swap "$memory" --pids-limit 512
  --publish "${ADAPTIVE_ADDRESS:-127.0.0.1}:$port:8080"
  --volume "$state/bundle:/bundle:ro" --volume "$state/cache:/cache"
)
for group in $groups; do
  options+=(--group-add "$group")
done
# What tells the power mode and the release, so that times are known to be of this board. What is
# missing is left out: Docker would make a folder of that name.
for path in /var/lib/nvpmodel /etc/nvpmodel.conf /etc/nv_tegra_release; do
  if [[ -e $path ]]; then
    options+=(--volume "$path:$path:ro")
  fi
done

# One that was left behind, when this script was killed.
"$docker" rm --force "$name" >/dev/null 2>&1 || true
# shellcheck disable=SC2086
"$docker" run "${options[@]}" "${ADAPTIVE_IMAGE:-adaptive:jetpack4}" ${ADAPTIVE_OPTIONS:-} &
run=$!
trap '"$docker" stop --time 20 "$name" >/dev/null; wait "$run" || true; exit 0' TERM INT

answered=
failures=0
began=$SECONDS
while kill -0 "$run" 2>/dev/null; do
  # Waits beside a sleep, so that a signal is heard at once.
  sleep "$check_s" &
  wait $! || true
  if curl --silent --fail --max-time 5 --output /dev/null "http://127.0.0.1:$port/healthz"; then
    answered=yes
    failures=0
    continue
  fi
  failures=$((failures + 1))
  if [[ -n $answered && $failures -ge 3 ]] ||
    [[ -z $answered && $((SECONDS - began)) -ge ${ADAPTIVE_START_S:-1800} ]]; then
    echo "run.sh: no answer from /healthz, $failures times; the container is ended" >&2
    "$docker" kill "$name" >/dev/null || true
    wait "$run" || true
    exit 1
  fi
done
status=0
wait "$run" || status=$?
exit "$status"
