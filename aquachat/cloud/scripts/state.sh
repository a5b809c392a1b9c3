# Says how a job stands: `none`, `running`, `lost`, or its exit code and why it ended.
#   state.sh WORK
set -u
cd
job=$1/job
if [ -e "$job/exit" ]; then
  cat "$job/exit"
elif [ ! -e "$job/lock" ]; then
  echo none
elif ! read -r pid boot <"$job/pid" 2>/dev/null; then
  echo running
else
  now=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null || echo none)
  if [ "$boot" = "$now" ] && kill -0 "$pid" 2>/dev/null; then
    echo running
  elif [ -e "$job/exit" ]; then
    cat "$job/exit"
  else
    echo lost
  fi
fi
