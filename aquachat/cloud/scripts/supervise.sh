# Runs the command of a job to its end, whatever becomes of the connection that started it.
#   supervise.sh WORK PROJECT
# WORK and PROJECT are folders below the home. In WORK/job it reads `command` (a shell script),
# `deadline` (seconds since the epoch), `grace` (seconds) and `stop` (its presence asks for the end),
# and writes `lock`, `pid`, `training.log` and, last, `exit`: the code and why.
set -u
umask 077
cd
work=$1 project=$2 home=$(pwd)
job=$home/$work/job
mkdir "$job/lock" 2>/dev/null || exit 0 # started before: once is enough

boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null || echo none)
printf '%s %s\n' "$$" "$boot" >"$job/pid.new" && mv -f "$job/pid.new" "$job/pid"

finish() {
  printf '%s %s\n' "$1" "$2" >"$job/exit.new" && mv -f "$job/exit.new" "$job/exit"
  exit 0
}

case $project in /*) ;; *) project=$home/$project ;; esac
mkdir -p -- "$home/$work/home" "$project"
cd -- "$project" || finish 1 folder

# `.env` is read in the command's own process: there its names can replace no variable of this script.
begin='[ ! -f "$1/.env" ] || { set -a; . "$1/.env"; set +a; }
export AQUACHAT_HOME="$1/home" PATH="$1/bin:$PATH"
exec sh "$1/job/command"'

# The command has a process group of its own, so that all of it can be ended.
if command -v setsid >/dev/null; then
  setsid sh -c "$begin" sh "$home/$work" >>"$job/training.log" 2>&1 </dev/null &
  child=$! group=-$!
else
  sh -c "$begin" sh "$home/$work" >>"$job/training.log" 2>&1 </dev/null &
  child=$! group=$!
fi
if [ -t 1 ]; then
  tail -n +1 -f "$job/training.log" &
  shown=$!
fi

why=ended end_at=
pause() { sleep 0.2 2>/dev/null || sleep 1; } # POSIX promises whole seconds only
signal() { kill -s "$1" -- "$group" 2>/dev/null || kill -s "$1" "$child" 2>/dev/null; }
ask() { # REASON: ask the command to save and end, once
  [ -n "$end_at" ] && return
  why=$1
  end_at=$(($(date +%s) + $(cat "$job/grace" 2>/dev/null || echo 120)))
  signal TERM
}
trap 'ask stop' INT TERM HUP

while kill -0 "$child" 2>/dev/null; do
  now=$(date +%s)
  if [ -e "$job/stop" ]; then ask stop; fi
  if [ "$now" -ge "$(cat "$job/deadline" 2>/dev/null || echo 99999999999)" ]; then ask deadline; fi
  if [ -n "$end_at" ] && [ "$now" -ge "$end_at" ]; then
    signal KILL
  fi
  pause
done
trap '' INT TERM HUP
wait "$child"
code=$?
kill -s KILL -- "$group" 2>/dev/null # what it left running would hold the GPU
if [ -n "${shown:-}" ]; then
  pause
  kill "$shown" 2>/dev/null
fi
finish "$code" "$why"
