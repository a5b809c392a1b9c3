# Puts the contents of an archive in the place of a folder that an earlier call made.
#   unpack.sh ARCHIVE FOLDER SHA256
# A folder that holds files and was not made by this script is refused with 7.
set -eu
umask 077
archive=$1 folder=$2 sha=$3
mark=.aquachat-sent

if [ -f "$folder/$mark" ]; then
  if [ "$(cat "$folder/$mark")" = "$sha" ]; then exit 0; fi
elif [ -e "$folder" ] && ! { [ -d "$folder" ] && [ -z "$(ls -A "$folder")" ]; }; then
  echo "the folder holds files that aquachat did not put there" >&2
  exit 7
fi
new=$folder.new-$sha old=$folder.old-$sha
rm -rf -- "$new" "$old"
mkdir -p -- "$new"
tar -xzof "$archive" -C "$new"
printf '%s\n' "$sha" >"$new/$mark"
if [ -e "$folder" ]; then mv -- "$folder" "$old"; fi
mv -- "$new" "$folder"
rm -rf -- "$old"
