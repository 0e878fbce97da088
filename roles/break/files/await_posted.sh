#!/bin/sh
# Wait until the load under way has put down as many ids. Ends with 1 where it has ended before, and with 3 after so many seconds (240).
set -u
wanted=$1
seconds=${2:-240}
main=$(systemctl show --property=MainPID --value taskmill-load)
begun=$(systemctl show --property=InvocationID --value taskmill-load)
folder=
for _ in $(seq $((seconds * 5))); do
  # Looked at first: what it has put down until its end counts.
  running=$(test -d "/proc/$main" && echo yes)
  [ -n "$folder" ] || folder=$(journalctl --quiet --output=cat "_SYSTEMD_INVOCATION_ID=$begun" | sed -n 's/^run folder //p')
  if [ -n "$folder" ] && [ "$(cat "$folder"/ids/*.ids 2>/dev/null | wc -l)" -ge "$wanted" ]; then
    date "+began=%s.%N over=%s.%N folder=$folder"
    exit 0
  fi
  [ -n "$running" ] || break
  sleep 0.2
done
journalctl --quiet --output=cat --unit=taskmill-load --lines=5 >&2
[ -z "$running" ] || exit 3
exit 1
