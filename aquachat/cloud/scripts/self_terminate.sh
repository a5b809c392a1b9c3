# Starts the program that ends this machine at the provider, detached from the connection.
#   self_terminate.sh WORK SECONDS
# It is started again if it dies: nothing else here would end the bill. Waits until it has found this
# machine at the provider; after SECONDS it repeats what the program said, and ends with 6.
set -eu
umask 077
cd
work=$(pwd)/$1
mkdir -p -- "$work/job"
armed() {
  end_at=$(($(date +%s) + $1))
  while [ ! -e "$work/job/terminate.armed" ]; do
    if [ "$(date +%s)" -ge "$end_at" ]; then
      echo "the machine cannot end itself: $(tail -n 1 "$work/job/terminate.log" 2>/dev/null)" >&2
      exit 6
    fi
    sleep 0.2 2>/dev/null || sleep 1
  done
  exit 0
}
if [ -e "$work/job/terminate.pid" ] && kill -0 "$(cat "$work/job/terminate.pid")" 2>/dev/null; then
  armed "$2"
fi
loop='while [ ! -e "$1/job/terminate.done" ]; do
  "$1/bin/python" -m aquachat.cloud.self_termination "$1" </dev/null >>"$1/job/terminate.log" 2>&1
  sleep 30
done'
if command -v setsid >/dev/null; then
  setsid nohup sh -c "$loop" sh "$work" </dev/null >/dev/null 2>&1 &
else
  nohup sh -c "$loop" sh "$work" </dev/null >/dev/null 2>&1 &
fi
printf '%s\n' "$!" >"$work/job/terminate.pid"
armed "$2"
