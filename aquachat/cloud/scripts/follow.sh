# Writes a job's log from a byte on, as it grows, for some seconds.
#   follow.sh WORK OFFSET SECONDS
# Ends with 10 when the job has ended and all of its log was written, with 11 when the job is not
# running and left no exit code, with 12 when it was never started, and with 0 when time is up, also
# where much is left to be written.
set -u
block=1048576
cd
job=$1/job offset=$2 seconds=$3
log=$job/training.log
end_at=$(($(date +%s) + seconds))
[ -e "$job/lock" ] || exit 12

is_lost() {
  [ -e "$job/exit" ] && return 1
  read -r pid boot <"$job/pid" 2>/dev/null || return 1 # it is just starting
  now=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null || echo none)
  [ "$boot" != "$now" ] || ! kill -0 "$pid" 2>/dev/null
}

while :; do
  over=
  if [ -e "$job/exit" ]; then over=10; elif is_lost && [ ! -e "$job/exit" ]; then over=11; fi
  size=$(($(wc -c <"$log")))
  if [ "$size" -gt "$offset" ]; then
    count=$((size - offset))
    if [ "$count" -gt "$block" ]; then count=$block; fi
    tail -c "+$((offset + 1))" "$log" | head -c "$count" || exit 1
    offset=$((offset + count))
    if [ "$(date +%s)" -ge "$end_at" ]; then exit 0; fi
  elif [ -n "$over" ]; then
    exit "$over"
  elif [ "$(date +%s)" -ge "$end_at" ]; then
    exit 0
  else
    sleep 0.2 2>/dev/null || sleep 1
  fi
done
