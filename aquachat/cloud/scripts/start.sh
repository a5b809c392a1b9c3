# Starts a job's supervisor in a session that outlives the connection, or finds it started.
#   start.sh WORK PROJECT SECONDS GRACE SUPERVISOR SIZE <COMMAND
# SECONDS is how long the command may run, GRACE how long it may take to end; 0 is no limit. The
# command is a shell script of SIZE bytes on standard input, SUPERVISOR the text of supervise.sh. Says
# `tmux` or `setsid`, and the session's name.
set -eu
umask 077
cd
work=$1 project=$2 seconds=$3 grace=$4 supervisor=$5 size=$6
job=$(pwd)/$work/job
name=aquachat-${work##*/}
mkdir -p -- "$job"

if [ ! -e "$job/lock" ]; then
  new=$job/command.$$
  cat >"$new"
  if [ "$(($(wc -c <"$new")))" -ne "$size" ]; then
    rm -f -- "$new"
    echo "the input ended early" >&2 # the connection was cut: half a command must not run
    exit 8
  fi
  printf '%s\n' "$supervisor" >"$job/supervise.$$"
  printf '%s\n' "$grace" >"$job/grace"
  if [ "$seconds" -gt 0 ]; then printf '%s\n' "$(($(date +%s) + seconds))" >"$job/deadline"; fi
  : >>"$job/training.log"
  mv -f "$new" "$job/command"
  mv -f "$job/supervise.$$" "$job/supervise.sh"
  # A server of its own: one that runs already has the environment of whoever started it. With no
  # terminal type tmux refuses to start.
  if command -v tmux >/dev/null &&
    TERM=${TERM:-dumb} tmux -L "$name" -f /dev/null new-session -d -s "$name" -x 200 -y 50 \
      sh "$job/supervise.sh" "$work" "$project" 2>"$job/tmux.log"; then
    printf 'tmux\n' >"$job/session"
  elif command -v setsid >/dev/null; then
    setsid nohup sh "$job/supervise.sh" "$work" "$project" </dev/null >/dev/null 2>"$job/tmux.log" &
    printf 'setsid\n' >"$job/session"
  else
    nohup sh "$job/supervise.sh" "$work" "$project" </dev/null >/dev/null 2>"$job/tmux.log" &
    printf 'setsid\n' >"$job/session"
  fi
fi
tries=0
while [ ! -e "$job/pid" ]; do
  tries=$((tries + 1))
  if [ "$tries" -gt 150 ]; then
    echo "the training did not start: $(cat "$job/tmux.log")" >&2
    exit 6
  fi
  sleep 0.2 2>/dev/null || sleep 1
done
echo "$(cat "$job/session" 2>/dev/null || echo setsid) $name"
