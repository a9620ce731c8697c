#!/bin/sh
# weigh-table.sh OUT SCENE... - tables of OUT/SCENE/results.txt (../compare-weigh.mk), and pictures: OUT/SCENE.svg.
#
# loss and exact are means over the scene's datasets, then over seeds; the spread is over seeds.
set -eu
here=$(dirname "$0") out=$1
shift
for scene; do
	awk -v scene="$scene" -v means="$out/$scene.means" '
		{
			if (!($2 in seen)) { seen[$2]; method[++m] = $2 }
			if (!($1 in known)) { known[$1]; seed[++k] = $1 }
			if (!($3 in set)) { set[$3]; name[++sets] = $3 }
			n[$1, $2]++; loss[$1, $2] += $5; exact[$1, $2] += $6; part[$2, $3] += $5
		}
		END {
			printf "%s, means of %d seeds\n%-12s %8s %18s %9s %18s", scene, k, "weights", "loss", "(min .. max)", "exact", "(min .. max)"
			for (d = 1; sets > 1 && d <= sets; d++) { sub(/\.test$/, "", name[d]); printf " %9s", name[d] }
			for (i = 1; i <= m; i++) {
				x = y = 0
				for (j = 1; j <= k; j++) { c = n[seed[j], method[i]]; a = loss[seed[j], method[i]] / c; b = exact[seed[j], method[i]] / c
					x += a / k; y += b / k
					if (j == 1 || a < la) la = a; if (j == 1 || a > ha) ha = a
					if (j == 1 || b < lb) lb = b; if (j == 1 || b > hb) hb = b }
				printf "\n%-12s %8.4f (%.4f .. %.4f) %7.1f %% (%5.1f .. %5.1f %%)", method[i], x, la, ha, y, lb, hb
				for (d = 1; sets > 1 && d <= sets; d++) printf " %9.4f", part[method[i], name[d] (name[d] in set ? "" : ".test")] / k
				print method[i], x, la, ha >means
			}
			print "\n" }' "$out/$scene/results.txt"
	sort -k 2,2gr -o "$out/$scene.means" "$out/$scene.means"
	gnuplot -e "out='$out'; scene='$scene'; what='loss on unseen rows, $scene (nats per token)'" "$here/means.gp"
done
