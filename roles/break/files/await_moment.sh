#!/bin/sh
# Wait until so many seconds after a moment in Unix seconds; fail when the load under way ends before.
set -u
began=$1
after=$2
main=$(systemctl show --property=MainPID --value taskmill-load)
while [ -d "/proc/$main" ]; do
  ! awk -v now="$(date +%s.%N)" -v due="$began" -v after="$after" 'BEGIN { exit now < due + after }' || exit 0
  sleep 0.1
done
exit 1
