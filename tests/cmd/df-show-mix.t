#!/bin/sh
# df-show on what dynamic runs leave: logs of mixtures and of weights, evaluation losses by dataset, proportions in files.
. "$(dirname "$0")/lib.sh"

mkdir run
cat >run/mixture_log.jsonl <<'END'
{"step": 0, "method": "odm", "domains": ["wiki", "c<4"], "proportions": [0.5, 0.5], "n_targets": [0, 0], "loss": [null, null]}
{"step": 10, "method": "odm", "domains": ["wiki", "c<4"], "proportions": [0.25, 0.75], "n_targets": [100, 300], "loss": [2.5, 3.5]}

{"step": 20, "method": "odm", "domains": ["wiki", "c<4"], "proportions": [0.25, 0.75], "n_targets": [50, 350], "loss": [null, 3.25]}
END

# --- a mixture ---

ok 'a mixture log' df-show run/mixture_log.jsonl
cat >want <<'END'
run/mixture_log.jsonl: mixture of 2 domains by odm, 3 lines to step 20; proportions changed once
  domain   first    last   least    most  loss  targets
  wiki    0.5000  0.2500  0.2500  0.5000   2.5      150
  c<4     0.5000  0.7500  0.5000  0.7500  3.25      650
END
cp out got
same 'its table' got want
ok 'as JSON' df-show --json run/mixture_log.jsonl
is 'in one line' "$(cat out)" '{"file": "run/mixture_log.jsonl", "kind": "mixlog", "method": "odm", "lines": 3, "step": 20, "changes": 1, "domains": {"wiki": {"first": 0.5, "last": 0.25, "min": 0.25, "max": 0.5, "loss": 2.5, "n_targets": 150}, "c<4": {"first": 0.5, "last": 0.75, "min": 0.5, "max": 0.75, "loss": 3.25, "n_targets": 650}}}'
cp run/mixture_log.jsonl other-name.jsonl
ok 'by its lines, not by its name' df-show other-name.jsonl
prints 'is the same' '^other-name\.jsonl: mixture of 2 domains by odm'

ok 'its picture' df-show --plot mix.svg run/mixture_log.jsonl
is 'has two charts' "$(grep -c '<g ' mix.svg)" 2
is 'two areas; two lines' "$(grep -c '<polygon' mix.svg) $(grep -c '<polyline' mix.svg)" '2 2'
# Half, then a quarter, of 212 points; 760 are 30 steps.
grep '<polygon' mix.svg | head -n 1 | grep -q '72.0,198.0 325.3,198.0 325.3,251.0 578.7,251.0 578.7,251.0 832.0,251.0'
report $? 'an area holds from its step to the next, and the last as long again'

# --- weights of domains: DoReMi ---

cat >doremi.jsonl <<'END'
{"step": 1, "method": "doremi", "domains": ["a", "b"], "proportions": [0.5, 0.5], "loss": [3, 4], "weights": [0.5, 0.5], "excess": [0.5, 1], "n_skipped": 0}
{"step": 2, "method": "doremi", "domains": ["a", "b"], "proportions": [0.5, 0.5], "loss": [2, 3], "weights": [0.375, 0.625], "excess": [0.25, 1.5], "n_skipped": 0}
END
ok 'a log of DoReMi' df-show doremi.jsonl
prints 'its weights change' 'proportions changed 0 times, weights once$'
prints 'and are shown' '^  b +0.5000  0.5000  0.5000  0.5000   0.625     1.5     3$'
ok 'its picture' df-show --plot doremi.svg doremi.jsonl
is 'has proportions, weights, excess and losses' \
	"$(grep -o '>[A-Z][a-z ]*, doremi.jsonl<\|>Proportions of doremi.jsonl<' doremi.svg | tr '\n' ' ')" \
	'>Proportions of doremi.jsonl< >Weights of domains, doremi.jsonl< >Excess loss by domain, doremi.jsonl< >Loss by domain, doremi.jsonl< '
cat doremi.jsonl >again.jsonl
sed -n 's/"excess": \[0.25/"excess": [9/p' doremi.jsonl >>again.jsonl
ok 'a step that comes again' df-show --json again.jsonl
prints 'replaces what was there' '"lines": 2, .*"excess": 9,'

# More domains than colours: the others are one area.
awk 'BEGIN { for (s = 0; s < 3; s++) { d = p = ""; for (i = 1; i <= 20; i++) { d = d (i > 1 ? "," : "") "\"d" i "\""
	p = p (i > 1 ? "," : "") i / 210 } printf "{\"step\": %d, \"domains\": [%s], \"proportions\": [%s], \"loss\": [%s]}\n", s, d, p, p } }' >many.jsonl
ok 'twenty domains' df-show --plot many.svg many.jsonl
is 'seven areas and the others; seven lines' "$(grep -c '<polygon' many.svg) $(grep -c '<polyline' many.svg)" '8 7'
is 'of the largest' "$(grep -o '>d[0-9]*<' many.svg | head -n 7 | tr -d '<>\n')" 'd14d15d16d17d18d19d20'

# --- weights of samples ---

cat >run/weight_log.jsonl <<'END'
{"step": 10, "method": "loss", "n": 4, "min": 0.25, "mean": 1, "max": 2.5, "effective": 2.5, "edges": [0, 1, 2], "counts": [2, 1, 1]}
{"step": 20, "method": "loss", "n": 0, "min": null, "mean": null, "max": null, "effective": 0, "edges": [0, 1, 2], "counts": [0, 0, 0]}
{"step": 30, "method": "loss", "n": 4, "min": 0.5, "mean": 1, "max": 1.5, "effective": 3.5, "edges": [0, 1, 2], "counts": [2, 2, 0]}
END
ok 'a log of weights' df-show run/weight_log.jsonl
prints 'its samples' '^  8 samples; 1 is as if unweighted: least 0\.25, half below 1, mean 1, largest 2\.5$'
prints 'what they are worth' '^  they count as much as 6 of equal weight \(75\.0 %\)$'
ok 'as JSON' df-show --json run/weight_log.jsonl
prints 'the same' '"samples": 8, "min": 0\.25, "median": 1, "mean": 1, "max": 2\.5, "effective": 6\}$'
ok 'its picture' df-show --plot weight.svg run/weight_log.jsonl
is 'six lines and three bars' "$(grep -c '<polyline' weight.svg) $(grep -c '<rect x=.*stroke="none"' weight.svg)" '6 3'

# --- a whole run ---

cat >run/trainer_log.jsonl <<'END'
{"current_steps": 10, "total_steps": 40, "loss": 3}
{"current_steps": 20, "total_steps": 40, "loss": 2}
{"current_steps": 20, "total_steps": 40, "eval_loss": 2.5, "eval_wiki_loss": 2, "eval_c<4_loss": 3}
{"current_steps": 40, "total_steps": 40, "eval_loss": 2, "eval_wiki_loss": 1.5, "eval_c<4_loss": 2.5}
END
ok 'a run' df-show run
is 'has three logs' "$(grep -c '^run: ' out)" 3
prints 'and losses of datasets' '^  eval_wiki_loss +first 2 +last 1\.5 +least 1\.5 at step 40$'
ok 'as JSON' df-show --json run
is 'one line' "$(wc -l <out | tr -d ' ')" 1
prints 'with all of it' '"kind": "trainlog".*"mixture": \{"method": "odm".*"weights": \{"method": "loss"'
ok 'its picture' df-show --plot run.svg run
is 'has six charts' "$(grep -c '<g ' run.svg)" 6
grep '<polygon' run.svg | head -n 1 | grep -q '452.0,251.0 832.0,251.0'
report $? 'the last proportions hold to the end of the run: from step 20 to 40'
cp -r run run2
ok 'two runs' df-show --plot two.svg run run2
is 'are compared by their losses' "$(grep -c '<g ' two.svg)" 1
ok 'two mixtures' df-show --plot two.svg run/mixture_log.jsonl doremi.jsonl
is 'have charts of their own' "$(grep -c '<g ' two.svg)" 6
mkdir only
cp run/weight_log.jsonl only
ok 'a directory with one of the logs' df-show only
if command -v xmllint >/dev/null; then
	ok 'SVG is XML' xmllint --noout mix.svg doremi.svg many.svg weight.svg run.svg two.svg
fi
if command -v gnuplot >/dev/null; then
	ok 'a PNG' df-show --plot run.png run
	is 'of all charts: 1290 by 3240' "$(od -An -tu1 -j 16 -N 8 run.png | tr -s ' ')" ' 0 0 5 10 0 0 12 168'
else
	skip 'a PNG' 'no gnuplot'
fi

# --- faults: the file, the line, and what is wrong ---

good='{"step": 1, "domains": ["a", "b"], "proportions": [0.5, 0.5]}'
weights='{"step": 1, "n": 1, "min": 1, "mean": 1, "max": 1, "edges": [0, 1], "counts": [0, 1]}'
fault() # what, number of the line, first line, second line, message
{
	printf '%s\n%s\n' "$3" "$4" >bad.jsonl
	exits 65 "$1" df-show bad.jsonl
	says '  says so' "bad\\.jsonl: line $2: $5"
}
fault 'no step' 2 "$good" '{"proportions": [0.5, 0.5]}' "'step' is missing"
fault 'a step before 0' 2 "$good" '{"step": -1, "proportions": [0.5, 0.5]}' "'step' is -1, which is impossible"
fault 'no names' 1 '{"step": 1, "proportions": [0.5, 0.5]}' "$good" "'domains' is not a list of names"
fault 'a name that is none' 1 '{"step": 1, "domains": ["a", 7], "proportions": [0.5, 0.5]}' "$good" "'domains' is not a list of names"
fault 'fewer proportions' 2 "$good" '{"step": 2, "proportions": [1]}' "'proportions' is an array of 1, not a list of 2 numbers"
fault 'no proportions' 2 "$good" '{"step": 2}' "'proportions' is missing"
fault 'a negative one' 2 "$good" '{"step": 2, "proportions": [-0.5, 1.5]}' "'proportions' of 'a': not a number of at least 0"
fault 'a sum that is not 1' 2 "$good" '{"step": 2, "proportions": [0.5, 0.6]}' "'proportions' sum to 1\\.1, not to 1"
fault 'a proportion that is null' 2 "$good" '{"step": 2, "proportions": [1, null]}' "'proportions' of 'b': not a number of at least 0"
fault 'other domains' 2 "$good" '{"step": 2, "domains": ["a", "c"], "proportions": [0.5, 0.5]}' "domain 1 is 'c', but 'b' in the first line"
fault 'more domains' 2 "$good" '{"step": 2, "domains": ["a", "b", "c"], "proportions": [0.5, 0.5]}' '3 domains, but 2 in the first line'
fault 'a loss that is a word' 2 "$good" '{"step": 2, "proportions": [0.5, 0.5], "loss": ["x", 1]}' "'loss' of 'a': not a number"
fault 'an array' 2 "$good" '[1]' 'an array, not an object'
fault 'half a line' 2 "$good" '{"step": 2, "prop' 'column '
fault 'fewer counts' 2 "$weights" '{"step": 2, "n": 1, "min": 1, "mean": 1, "max": 1, "edges": [0, 1], "counts": [1]}' "'counts' is not a list of 2 numbers"
fault 'counts of others' 2 "$weights" '{"step": 2, "n": 5, "min": 1, "mean": 1, "max": 1, "edges": [0, 1], "counts": [0, 1]}' "'counts' sum to 1, but 'n' is 5"
fault 'other edges' 2 "$weights" '{"step": 2, "n": 1, "min": 1, "mean": 1, "max": 1, "edges": [0, 2], "counts": [0, 1]}' "'edges' differ from those of the first line"
fault 'falling edges' 1 '{"step": 2, "n": 1, "min": 1, "mean": 1, "max": 1, "edges": [1, 0], "counts": [0, 1]}' "$weights" "'edges' are not rising numbers"
fault 'no largest weight' 2 "$weights" '{"step": 2, "n": 1, "min": 1, "mean": 1, "edges": [0, 1], "counts": [0, 1]}' "'max' is missing"
printf '%s\n{"step": 2, "prop' "$good" >cut.jsonl
ok 'a log that a kill cut short' df-show cut.jsonl
prints 'has its whole lines' ', 1 line to step 1;'
exits 65 'a picture of a bad log' df-show --plot bad.svg bad.jsonl
is_empty 'is not made' "$(ls bad.svg 2>/dev/null)"
echo '{"x": 1}' >none.jsonl
exits 65 'a log of nothing' df-show none.jsonl
says 'says so' 'none\.jsonl: no loss, no proportions and no weights in it'
# Any byte may be another: a result, or an error that names the file.
bad=
for log in doremi.jsonl run/weight_log.jsonl; do
	size=$(wc -c <"$log")
	i=0
	while [ $i -lt 60 ]; do
		at=$((i * (size - 1) / 59))
		for byte in '\055' '\071' '\0135'; do # - 9 ]
			cp "$log" flip.jsonl
			printf '%b' "$byte" | dd of=flip.jsonl bs=1 seek=$at conv=notrunc 2>/dev/null
			status=0
			timeout -k 1 10 df-show --plot flip.svg flip.jsonl >o 2>e || status=$?
			case $status in
			0) ;;
			65) grep -q '^df-show: flip.jsonl: ' e || bad="$bad $log: $byte at $at: $(cat e);" ;;
			*) bad="$bad $log: $byte at $at: exit $status;" ;;
			esac
		done
		i=$((i + 1))
	done
done
is_empty 'changed bytes never crash it' "$bad"

# --- proportions in a file ---

ok 'proportions' df-mix -q static --domains 'wiki,c<4' --proportions 1,3 -o p.h5
ok 'in a file' df-show p.h5
prints 'by name' '^  wiki +0\.25$'
prints '  each' '^  c<4 +0\.75$'
ok 'as JSON' df-show --json p.h5
prints 'in their order' '"domain_weights": \[\["wiki", 0\.25\], \["c<4", 0\.75\]\]\}$'
ok 'their picture' df-show --plot p.svg p.h5
is 'has a bar for each' "$(grep -c '<rect x=.*stroke="none"' p.svg)" 4 # two of the legend
ok 'of twelve domains' df-mix -q static --domains a,b,c,d,e,f,g,h,i,j,k,l -o p.h5
ok 'too many for colours' df-show --plot p.svg p.h5
is 'the bars are of one' "$(grep '<rect x=' p.svg | grep -o 'fill="[^"]*"' | sort | uniq -c | tr -s ' ')" ' 12 fill="#3b6fd4"'

done_testing
