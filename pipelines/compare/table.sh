#!/bin/sh
# table.sh OUT SCENE... - the tables of results.txt, and a picture for each scene: OUT/SCENE.svg.
set -eu
here=$(dirname "$0")
out=$1
shift
for scene; do
	awk -v scene="$scene" '
		{ m = $3; if (!(m in n)) order[++k] = m; n[m]++; right[m] += $4; loss[m] += $5; exact[m] += $6; tokens[m] += $7; secs[m] += $8
		  if (n[m] == 1 || $5 < lo[m]) lo[m] = $5
		  if (n[m] == 1 || $5 > hi[m]) hi[m] = $5 }
		END {
			printf "%s, means of %d seeds\n%-14s %9s %8s %18s %9s %10s %9s\n", scene, n[order[1]], "method", "right", "loss", "(min .. max)", "exact", "tokens", "seconds"
			for (i = 1; i <= k; i++) { m = order[i]
				printf "%-14s %7.1f %% %8.4f (%.4f .. %.4f) %7.1f %% %10d %9.2f\n", m, right[m] / n[m], loss[m] / n[m], lo[m], hi[m], exact[m] / n[m], tokens[m] / n[m], secs[m] / n[m] }
			print "" }' "$out/$scene/results.txt"
	awk '{ n[$3]++; s[$3] += $5; if (n[$3] == 1 || $5 < lo[$3]) lo[$3] = $5; if (n[$3] == 1 || $5 > hi[$3]) hi[$3] = $5 }
		END { for (m in n) print m, s[m] / n[m], lo[m], hi[m] }' "$out/$scene/results.txt" | sort -k 2,2gr >"$out/$scene.means"
	gnuplot -e "out='$out'; scene='$scene'" "$here/means.gp"
done
