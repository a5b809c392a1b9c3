# Starts the program that ends this machine at the provider, detached from the connection.
#   self_terminate.sh WORK
# It is started again if it dies: nothing else here would end the bill.
set -eu
umask 077
cd
work=$(pwd)/$1
mkdir -p -- "$work/job"
if [ -e "$work/job/terminate.pid" ] && kill -0 "$(cat "$work/job/terminate.pid")" 2>/dev/null; then
  exit 0
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
