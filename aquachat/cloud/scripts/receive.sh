# Receives a file on standard input, from where the last try stopped, and checks its hash.
#   receive.sh FOLDER NAME SIZE SHA256 MODE
# Says how many bytes are here already; reads the rest; says `ok`, or ends with 9 if the hash is
# another one. The name appears only when the file is whole.
set -eu
umask 077
folder=$1 name=$2 size=$3 sha=$4 mode=$5

hash_of() {
  if command -v sha256sum >/dev/null; then sha256sum <"$1"; else shasum -a 256 <"$1"; fi | cut -d' ' -f1
}

mkdir -p -- "$folder"
part=$folder/.$sha.part
if [ -f "$folder/$name" ] && [ "$(hash_of "$folder/$name")" = "$sha" ]; then
  chmod "$mode" "$folder/$name"
  echo "$size"
  echo ok
  exit 0
fi
have=0
if [ -f "$part" ]; then have=$(($(wc -c <"$part"))); fi
if [ "$have" -gt "$size" ]; then rm -f -- "$part"; have=0; fi
echo "$have"
cat >>"$part"
if [ "$(($(wc -c <"$part")))" -lt "$size" ]; then
  echo "the input ended early" >&2
  exit 8
fi
if [ "$(hash_of "$part")" != "$sha" ]; then
  rm -f -- "$part"
  echo "what arrived has another hash" >&2
  exit 9
fi
chmod "$mode" "$part"
mv -f -- "$part" "$folder/$name"
echo ok
