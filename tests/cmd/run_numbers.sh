# run_numbers.sh - for tests that compare the numbers of a run of df-train; source it after lib.sh.
# shellcheck shell=bash

# near 'what' GOT WANT LIMIT: lines of words, as many; numbers are no further apart, and other words are equal
near()
{
	worst=$(paste "$2" "$3" | awk -v limit="$4" '
		NF % 2 { bad = 1 }
		{
			for (i = 1; i <= NF / 2; i++) {
				d = $i - $(i + NF / 2)
				if ($i != $(i + NF / 2) && ($i !~ /^[-+]?[0-9]/ || $(i + NF / 2) !~ /^[-+]?[0-9]/)) bad = 1
				if (d < 0) d = -d
				if (d > w) w = d
			}
		}
		END { printf "%.2g", w; exit bad || NR == 0 || !(w <= limit) }')
	report $? "$1 (largest difference $worst)"
}

# column_of FILE COLUMN: its values, one a line
column_of()
{
	h5dump -y -w 0 -m %.9g -d "$2" "$1" | awk '/DATA {/ { inside = 1; next } /}/ && inside { exit } inside' | tr -d ' ' |
		tr ',' '\n' | sed '/^$/d'
}

# losses DIR LAST: the loss of each step of a run that saved a checkpoint at each
losses()
{
	for ((g = 1; g <= $2; g++)); do
		sed -n 's/.*"total_loss": \([^,]*\),.*/\1/p' "$1/checkpoint-$g/df_state.json"
	done | awk '{ printf "%.9g\n", $1 - last; last = $1 }'
}
