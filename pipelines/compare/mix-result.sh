#!/bin/sh
# mix-result.sh SEED METHOD LOG - lines of results.txt (../compare-mix.mk) from df-eval's table on standard input:
#
#   seed method domain targets loss share
#
# share: of the rows trained on, from the targets of mixture_log.jsonl; where it has none (a static mixture), its proportion.
set -eu
df-show --json "$3" | tr '{' '\n' | sed -n 's/.*"last": \([^,]*\),.*"n_targets": \([^,}]*\).*/\1 \2/p' >"$3.shares"
df-show --json "$3" | grep -o '"[^"]*": {"first"' | cut -d '"' -f 2 | paste -d ' ' - "$3.shares" >"$3.named"
awk -v head="$1 $2" '
	FNR == NR { last[$1] = $2; n[$1] = $3; all += $3; next }
	$1 ~ /\.test$/ { d = substr($1, 1, length($1) - 5); print head, d, $3, $4, all ? n[d] / all : last[d] }' "$3.named" -
rm "$3.shares" "$3.named"
