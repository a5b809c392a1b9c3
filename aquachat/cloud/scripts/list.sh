# Lists the files of a folder: `SIZE SHA256 PATH` a line, the hash of the first SIZE bytes.
#   list.sh FOLDER [PATTERN...]
# A file whose name or path below the folder matches a pattern of find(1) is left out. A growing
# file is hashed as far as it was when its size was read.
set -eu
folder=$1
shift
cd -- "$folder"
count=$#
while [ "$count" -gt 0 ]; do
  set -- "$@" ! -path "./$1" ! -name "$1"
  shift
  count=$((count - 1))
done
find . -type f "$@" ! -name '.*.part' -exec sh -c '
  for file; do
    size=$(($(wc -c <"$file")))
    if command -v sha256sum >/dev/null; then
      sum=$(head -c "$size" -- "$file" | sha256sum)
    else
      sum=$(head -c "$size" -- "$file" | shasum -a 256)
    fi
    printf "%s %s %s\0" "$size" "${sum%% *}" "${file#./}"
  done
' sh {} +
