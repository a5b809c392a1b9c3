# Changes a job's deadline, or asks it to end.
#   limit.sh WORK SECONDS
# SECONDS from now; 0 asks it to save and end at once.
set -eu
umask 077
cd
job=$1/job
mkdir -p -- "$job"
if [ "$2" -eq 0 ]; then
  : >"$job/stop"
else
  printf '%s\n' "$(($(date +%s) + $2))" >"$job/deadline.new"
  mv -f "$job/deadline.new" "$job/deadline"
fi
