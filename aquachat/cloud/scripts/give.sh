# Writes parts of files one after the other, with nothing between them.
#   give.sh FOLDER <LIST, where each line is `OFFSET COUNT PATH`
set -eu
folder=$1
cd -- "$folder"
while IFS= read -r line; do
  offset=${line%% *}
  line=${line#* }
  count=${line%% *}
  tail -c "+$((offset + 1))" -- "./${line#* }" | head -c "$count"
done
