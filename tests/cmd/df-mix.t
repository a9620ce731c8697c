#!/bin/bash
# df-mix: methods on files, against sums made from the same files by awk; state, names of domains, faults of all inputs.
. "$(dirname "$0")/lib.sh"
. "$SRC/tests/cmd/grad_data.sh"

# field NAME: an array or number of the last line of JSON, its numbers separated by spaces
field()
{
	sed -E "s/.*\"$1\": (\[[^]]*\]|[^,}]*).*/\1/; s/[][,\"]//g" "$T/out"
}

# near 'what' "GOT" "WANT" TOLERANCE: lists of numbers
near()
{
	if echo "$2 : $3" | awk -v tolerance="$4" '{
		n = split($0, side, " : ")
		n = split(side[1], got, " ")
		if (n == 0 || n != split(side[2], want, " "))
			exit 1
		for (i = 1; i <= n; i++)
			if (!(got[i] - want[i] <= tolerance && want[i] - got[i] <= tolerance))
				exit 1
	}'; then
		report 0 "$1"
	else
		report 1 "$1"
		printf '# %s\n' "got  $2" "want $3"
	fi
}

# column FILE DATASET: its numbers, one on a line
column()
{
	h5dump -y -w 0 -m %.17g -d "$2" "$1" | awk '/DATA {/ { inside = 1; next } /}/ && inside { exit } inside' | tr -d ' \n' | tr , '\n'
	echo
}

# ---- methods without files
ok 'static' df-mix static --domains a,b,c --proportions 2,1,1 --json -o static.h5
is 'a line of JSON' "$(cat "$T/out")" '{"step": 0, "method": "static", "domains": ["a", "b", "c"], "proportions": [0.5, 0.25, 0.25]}'
says 'and a line for people' 'a 0\.5000, b 0\.2500, c 0\.2500'
ok 'the same again' df-mix -q static --domains a,b,c --proportions 2,1,1 -o again.h5
same 'gives the same bytes' static.h5 again.h5
ok 'random' df-mix -q random --domains a,b,c --step 100 --json
near 'the proportions of step 100' "$(field proportions)" '0.300843 0.256740 0.442417' 1e-6
ok 'random after random' df-mix -q random --domains a,b,c --step 99 -o random.h5
df-mix -q random --state random.h5 --json >"$T/out" 2>"$T/err"
near 'is one step later' "$(field proportions)" '0.300843 0.256740 0.442417' 1e-6
ok 'proportions of a file' df-mix -q static --domains c,a,b --proportions static.h5 --json
is 'are joined by name' "$(field proportions)" '0.25 0.5 0.25'
ok 'a list' df-mix --list
prints 'says what is read' '^odm +losses +at events'

# ---- losses
df-train -q train.yaml --until 6
for c in 3 6; do
	df-grad -q -m run/checkpoint-$c --losses --token-loss pool.h5 -o loss$c.h5
done
column loss3.h5 loss >means
column loss3.h5 n_tokens >n
column loss3.h5 sample/domain >domain
hope=$(paste domain n means | awk '{ n[$1] += $2; sum[$1] += $2 * $3 } END { printf "%.17g %.17g", sum[0] / n[0], sum[1] / n[1] }')
ok 'odm' df-mix -q odm --losses loss3.h5 --json -o odm.h5
near 'the mean loss of each domain' "$(field loss)" "$hope" 1e-12
is 'their names' "$(field domains)" 'sums turns'
near 'R of the first update' "$(field rewards)" "$(echo "$hope" | awk '{ printf "%.17g %.17g", .2 * $1, .2 * $2 }')" 1e-12
near 'the policy is still uniform' "$(field proportions)" '0.5 0.5' 1e-15
ok 'and once more' df-mix -q odm --losses loss6.h5 --state odm.h5 --json -o odm2.h5
is 'it is step 2' "$(field step)" 2
column loss6.h5 loss >means
near 'R and pi go on' "$(field rewards) $(field proportions)" "$(paste domain n means | awk -v before="$hope" '
	{ n[$1] += $2; sum[$1] += $2 * $3 }
	END {
		split(before, b, " ")
		k = 2
		eps = sqrt(log(2) / 4)
		for (d = 0; d < 2; d++) {
			r[d] = .9 * .2 * b[d + 1] + .1 * sum[d] / n[d] / .5
			all += e[d] = exp(.5 * r[d])
		}
		printf "%.17g %.17g %.17g %.17g", r[0], r[1], (1 - k * eps) * e[0] / all + eps, (1 - k * eps) * e[1] / all + eps
	}')" 1e-12
is 'the file says what it is from' "$(lineage_of odm2.h5 | grep -c "$(id_of loss6.h5).*$(id_of odm.h5)\|$(id_of odm.h5).*$(id_of loss6.h5)")" 1
for i in 1 2 3; do
	df-grad -q -m run/checkpoint-3 --losses --shard $i/3 pool.h5 -o part.h5
done
ok 'shards' df-mix -q odm --losses part.h5 --json
near 'are the whole' "$(field loss)" "$hope" 1e-12
ok 'the order of domains is given' df-mix -q odm --domains turns,sums --losses loss3.h5 --json
near 'and the numbers have it' "$(field loss)" "$(echo "$hope" | awk '{ print $2, $1 }')" 1e-12
ok 'a domain without rows' df-mix -q odm --domains turns,law,sums --losses loss3.h5 --json
is 'has no loss' "$(field loss | cut -d' ' -f2)" null

# ---- DoReMi
# means of max(a - b, 0) by domain, from the losses of targets
excess()
{
	column loss3.h5 token_loss/offsets >offsets
	column "$1" token_loss/values >a
	column "$2" token_loss/values >b
	awk 'BEGIN { row = 0 }
		FILENAME == "domain" { d[nd++] = $1; next }
		FILENAME == "offsets" { o[no++] = $1; next }
		{ at = FNR - 1; while (at >= o[row + 1]) row++; x = $1 - $2; n[d[row]]++; sum[d[row]] += x > 0 ? x : 0 }
		END { printf "%.17g %.17g", sum[0] / n[0], sum[1] / n[1] }' domain offsets <(paste a b)
}
# alpha after one more step from "ALPHA ALPHA" with "LAMBDA LAMBDA"
alpha()
{
	echo "$1 $2" | awk '{ a = $1 * exp($3); b = $2 * exp($4); printf "%.17g %.17g", .999 * a / (a + b) + .0005, .999 * b / (a + b) + .0005 }'
}
hope=$(excess loss3.h5 loss6.h5)
first=$(alpha '.5 .5' "$hope")
ok 'doremi' df-mix doremi --losses loss3.h5 --reference loss6.h5 --proportions 1,1 --json -o doremi.h5
near 'the excess of each domain' "$(field excess)" "$hope" 1e-12
near 'alpha' "$(field weights)" "$first" 1e-12
near 'the mean of one' "$(field proportions)" "$first" 1e-12
says 'how far it is from the reference' "largest change of a proportion is 0\.[0-9]+, of '(sums|turns)': for another round"
cp "$T/out" one.json
hope=$(excess loss6.h5 loss3.h5)
second=$(alpha "$first" "$hope")
ok 'a second step' df-mix doremi --losses loss6.h5 --reference loss3.h5 --state doremi.h5 --json -o doremi2.h5
near 'alpha goes on' "$(field weights)" "$second" 1e-12
near 'the mean of two' "$(field proportions)" "$(echo "$first $second" | awk '{ printf "%.17g %.17g", ($1 + $3) / 2, ($2 + $4) / 2 }')" 1e-12
ok 'the result as proportions' df-mix doremi --losses loss3.h5 --reference loss3.h5 --proportions doremi2.h5 \
	--state doremi2.h5 --eta 0 --smoothing 0 --json
says 'other options are told' '--eta is 0(\.0)?; it was 1(\.0)? for doremi2\.h5'
df-mix doremi --losses loss3.h5 --reference loss3.h5 --proportions 1,1 >/dev/null 2>"$T/err" -o same.h5
says 'no excess: no other round' 'no other round is needed'
df-grad -q -m run/checkpoint-6 --losses --token-loss val.h5 -o valloss.h5
df-grad -q -m run/checkpoint-6 --losses pool.h5 -o plain.h5

# ---- a log
cat >log.jsonl <<'END'
{"step": 0, "method": "odm", "domains": ["sums", "turns"], "proportions": [0.5, 0.5], "n_targets": [0, 0], "loss": [null, null]}
{"step": 10, "method": "odm", "domains": ["sums", "turns"], "proportions": [0.5, 0.5], "n_targets": [40, 20], "loss": [3, 2]}
{"step": 20, "method": "odm", "domains": ["sums", "turns"], "proportions": [0.5, 0.5], "n_targets": [40, 20], "loss": [2.8, 2]}
{"step": 30, "method": "odm", "domains": ["sums", "turns"], "proportions": [0.5, 0.5], "n_targets": [40, 0], "loss": [2.6, null]}
END
ok 'a log' df-mix -q odm --history log.jsonl --json -o all.h5
near 'the example of ODM' "$(field proportions)" '0.524556 0.475444' 1e-6
is 'its last step' "$(field step)" 30
head -n 3 log.jsonl >begin.jsonl
df-mix -q odm --history begin.jsonl -o begin.h5
ok 'the beginning, and then all of it' df-mix -q odm --history log.jsonl --state begin.h5 --json -o rest.h5
is 'are the whole' "$(column rest.h5 mixer_state) $(column rest.h5 domain_weight)" "$(column all.h5 mixer_state) $(column all.h5 domain_weight)"
ok 'a warm-up' df-mix odm --history log.jsonl --warmup-steps 30 --proportions 1,3 --json
is 'keeps the initial proportions' "$(field proportions)" '0.25 0.75'
ok 'one percent of the run' df-mix odm --history log.jsonl --total-steps 2000 --json
near 'is a warm-up, too' "$(field rewards)" "$(awk 'BEGIN { printf "%.17g 0", .1 * 2.6 / .5 }')" 1e-12

# ---- experts
mkdir moe
sed 's/Llama/Mixtral/; s/"llama"/"mixtral"/; s/"hidden_act"/"num_local_experts": 4, "num_experts_per_tok": 2, "hidden_act"/' \
	model/config.json >moe/config.json
sed 's/: model$/: moe/; s/: run$/: moerun/' train.yaml >moe.yaml
df-train -q moe.yaml --until 1
# A third domain: between two of them, the distance is the same for both.
sed 's/Add/Multiply/; s/[0-9]/7/g' data/sums.jsonl >data/more.jsonl
sed 's/{/&"more": { "file_name": "more.jsonl" },/' data/dataset_info.json >new.json && mv new.json data/dataset_info.json
df-pack -q --dataset-dir data --dataset sums,turns,more --template alpaca --tokenizer bytes --cutoff-len 128 -o three.h5
df-grad -q -m moerun/checkpoint-1 --gate-load three.h5 -o load.h5
column load.h5 gate_load >load
column load.h5 sample/domain >domain
hope=$(awk 'FILENAME == "domain" { d[n++] = $1; next }
	(FNR - 1) % 8 >= 4 { row = int((FNR - 1) / 8); x[d[row], (FNR - 1) % 4] += $1; sum[d[row]] += $1 }
	END {
		split("1 3 2", w, " ")
		for (i = 0; i < 3; i++) {
			delta = 0
			for (j = 0; j < 3; j++) {
				square = 0
				for (e = 0; e < 4; e++)
					square += (x[i, e] / sum[i] - x[j, e] / sum[j]) ^ 2
				delta += sqrt(square) / 3
			}
			all += p[i] = w[i + 1] * exp(10 * delta)
		}
		for (i = 0; i < 3; i++)
			printf "%.17g ", .95 * p[i] / all + .05 / 3
	}' domain load)
ok 'dynamic_moe' df-mix -q dynamic_moe --loads load.h5 --proportions 1,3,2 --json -o moe.h5
near 'the loads of the last layer' "$(field proportions)" "$hope" 1e-9
is 'they differ from the initial proportions' "$(field proportions | awk '{ d = $1 - 1 / 6; print (d * d > 1e-8) }')" 1
ok 'of all layers' df-mix -q dynamic_moe --loads load.h5 --layers mean --json

# ---- faults
exits 64 'no method' df-mix -o x.h5
says 'asks for one' 'which method\?'
exits 64 'an unknown method' df-mix odn -o x.h5
says 'the nearest' "did you mean 'odm'"
exits 64 'an option of another method' df-mix static --domains a --losses loss3.h5 -o x.h5
says 'says of which' 'doremi|odm'
exits 64 'a file that no option names' df-mix odm loss3.h5 -o x.h5
exits 64 'no output' df-mix static --domains a
exits 64 'no domains' df-mix static -o x.h5
says 'asks for them' '--domains NAME'
exits 64 'names twice' df-mix static --domains a,b,a -o x.h5
says 'says which' "two domains have the name 'a'"
exits 64 'an empty name' df-mix static --domains a,,b -o x.h5
exits 64 'too few proportions' df-mix static --domains a,b,c --proportions 1,2 -o x.h5
says 'says how many, and the names' '2 numbers, but 3 domains \(a, b, c\)'
exits 64 'a negative one' df-mix static --domains a,b --proportions 1,-2 -o x.h5
exits 64 'all zero' df-mix static --domains a,b --proportions 0,0 -o x.h5
exits 66 'proportions of no file' df-mix static --domains a,b --proportions nan,1 -o x.h5
exits 65 'proportions of other domains' df-mix static --domains a,b --proportions static.h5 -o x.h5
says 'names the other' "'c' has weight 0.25"
exits 64 'nothing to learn from' df-mix odm -o x.h5
exits 64 'no reference' df-mix doremi --losses loss3.h5 -o x.h5
says 'says so' 'needs --reference'
exits 64 'no loads' df-mix dynamic_moe -o x.h5
exits 65 'a reference of other tokens' df-mix doremi --losses loss3.h5 --reference valloss.h5 -o x.h5
says 'says which' 'do not belong together'
exits 65 'a reference without losses of targets' df-mix doremi --losses loss3.h5 --reference plain.h5 -o x.h5
says 'says what is missing' 'no token_loss/values'
exits 65 'losses without losses of targets' df-mix doremi --losses plain.h5 --reference loss3.h5 -o x.h5
exits 65 'not losses' df-mix odm --losses pool.h5 -o x.h5
exits 65 'loads where losses are wanted' df-mix odm --losses load.h5 -o x.h5
exits 65 'rows of a domain that is not in the mixture' df-mix odm --domains sums --losses loss3.h5 -o x.h5
says 'names it' "of domain 'turns', which is not in the mixture"
exits 65 'the state of another method' df-mix dynamic_moe --loads load.h5 --state odm.h5 -o x.h5
says 'says of which' 'it is of odm, not of dynamic_moe'
exits 65 'a state of other domains' df-mix odm --domains sums,law --losses loss3.h5 --state odm.h5 -o x.h5
exits 65 'weights of samples' df-mix static --domains a --proportions loss3.h5 -o x.h5
: >empty
exits 65 'an empty log' df-mix odm --history empty -o x.h5
exits 65 'an empty file of losses' df-mix odm --losses empty -o x.h5
exits 66 'no log' df-mix odm --history nothing.jsonl -o x.h5
i=0
while IFS= read -r line; do
	i=$((i + 1))
	{ head -n 2 log.jsonl && echo "$line"; } >bad.jsonl
	exits 65 "line $i that is wrong" df-mix odm --history bad.jsonl -o x.h5
	says 'says where' 'bad\.jsonl:3: '
done <<'END'
{"step": 20, "method": "odm", "domains": ["sums"], "n_targets": [1], "loss": [2]}
{"step": 20, "method": "odm", "domains": ["sums", "law"], "n_targets": [1, 1], "loss": [2, 2]}
{"step": 10, "method": "odm", "domains": ["sums", "turns"], "n_targets": [1, 1], "loss": [2, 2]}
{"step": 20, "method": "doremi", "domains": ["sums", "turns"], "n_targets": [1, 1], "loss": [2, 2]}
{"step": 20, "method": "odm", "domains": ["sums", "turns"], "n_targets": [1], "loss": [2, 2]}
{"step": 20, "method": "odm", "domains": ["sums", "turns"], "n_targets": [1, -1], "loss": [2, 2]}
{"step": 20, "method": "odm", "domains": ["sums", "turns"], "n_targets": [1, 1]}
{"method": "odm", "domains": ["sums", "turns"], "n_targets": [1, 1], "loss": [2, 2]}
{"step": 20, "method": "odm"
[1, 2]
END
cp odm.h5 kept.h5
exits 64 'an output that is the state' df-mix odm --losses loss3.h5 --state kept.h5 -o kept.h5
exits 64 'an output that is an input' df-mix odm --losses loss3.h5 -o loss3.h5
exits 64 'an output that is the log' df-mix odm --history log.jsonl -o log.jsonl
exits 64 'an output that is the proportions' df-mix static --domains a,b,c --proportions static.h5 -o static.h5
is 'nothing was changed' "$(id_of kept.h5) $(grep -c odm log.jsonl)" "$(id_of odm.h5) 4"
is_empty 'nothing appears under the name' "$(ls x.h5 2>/dev/null)"

done_testing
