#!/bin/sh
# Wait until so many seconds after a moment in Unix seconds. Ends with 1 where the load under way has ended before, and with 3 after 20
# seconds, to be asked again: a connection that says nothing for long may be cut on its way.
set -u
began=$1
after=$2
main=$(systemctl show --property=MainPID --value taskmill-load)
for _ in $(seq 200); do
  ! awk -v now="$(date +%s.%N)" -v due="$began" -v after="$after" 'BEGIN { exit now < due + after }' || exit 0
  [ -d "/proc/$main" ] || exit 1
  sleep 0.1
done
exit 3
