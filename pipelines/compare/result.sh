#!/bin/sh
# result.sh SCENE SEED DIR METHOD "INDEX..." "FILE..." - a line of results.txt:
#
#   scene seed method right% loss exact% tokens seconds
#
# right: chosen rows that are the target's; tokens: trained on in all; seconds: of the choice, with all FILEs it needs.
set -eu
scene=$1 seed=$2 dir=$3 method=$4 chosen=$5 needs=${6:-}
case $scene in
skills) right=' translate again ' ;;
bilingual) right=' chinese ' ;;
*) right=' python ' ;;
esac
precision=$(for f in $chosen; do df-show --json "$f"; done | grep -o '"[^"]*": {"rows": [0-9]*' | tr -d '":{,' |
	awk -v right="$right" '{ all += $3; if (index(right, " " $1 " ")) good += $3 } END { printf "%.1f", 100 * good / all }')
tokens=$(sed -n 's/.*"num_input_tokens_seen": \([0-9]*\).*/\1/p' "$dir/run.$method/all_results.json")
seconds=$(for f in $chosen $needs; do cat "$f.seconds" 2>/dev/null || true; done | awk '{ s += $1 } END { printf "%.2f", s }')
df-eval -q -m "$dir/run.$method" "$dir/test.h5" | awk -v head="$scene $seed $method $precision" -v tail="$tokens $seconds" '
	$1 == "overall" { sub("%", "", $NF); print head, $4, $NF, tail }'
