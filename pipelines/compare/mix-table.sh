#!/bin/sh
# mix-table.sh OUT METHOD... - tables of OUT/results.txt (../compare-mix.mk), and a picture: OUT/mix.svg.
#
# Losses are nats per byte; "domains" is the mean over domains, the logarithm of the geometric mean of their perplexities;
# "tokens" is the mean over all held-out tokens.
set -eu
here=$(dirname "$0") out=$1
shift
for method; do
	awk -v method="$method" '
		$2 == method {
			if (!($1 in n)) seed[++k] = $1
			n[$1]++; sum[$1] += $5; targets[$1] += $4; nll[$1] += $4 * $5
		}
		END {
			for (i = 1; i <= k; i++) { s = seed[i]; x = sum[s] / n[s]; y = nll[s] / targets[s]
				mx += x; my += y
				if (i == 1 || x < lox) lox = x; if (i == 1 || x > hix) hix = x
				if (i == 1 || y < loy) loy = y; if (i == 1 || y > hiy) hiy = y }
			print method, mx / k, lox, hix, my / k, loy, hiy, k }' "$out/results.txt"
done >"$out/mix.all"
awk 'NR == 1 { printf "%-14s %8s %18s %11s %8s %18s   (means of %d seeds)\n", "rows by", "domains", "(min .. max)", "perplexity", "tokens", "(min .. max)", $8 }
	{ printf "%-14s %8.4f (%.4f .. %.4f) %11.3f %8.4f (%.4f .. %.4f)\n", $1, $2, $3, $4, exp($2), $5, $6, $7 }' "$out/mix.all"
for what in loss share; do
	awk -v what=$what -v methods="$*" '
		{ if (!($3 in seen)) { seen[$3]; domain[++k] = $3 } n[$2, $3]++; x[$2, $3] += what == "loss" ? $5 : 100 * $6 }
		END {
			m = split(methods, method, " ")
			printf "\n%-14s", what == "loss" ? "loss of" : "rows in %"
			for (d = 1; d <= k; d++) printf " %10s", domain[d]
			for (i = 1; i <= m; i++) { printf "\n%-14s", method[i]
				for (d = 1; d <= k; d++) printf what == "loss" ? " %10.4f" : " %10.1f", x[method[i], domain[d]] / n[method[i], domain[d]] }
			print "" }' "$out/results.txt"
done
sort -k 2,2gr "$out/mix.all" | cut -d ' ' -f 1-4 >"$out/mix.means"
gnuplot -e "out='$out'; scene='mix'; what='loss on held-out documents, mean over domains (nats per byte)'" "$here/means.gp"
