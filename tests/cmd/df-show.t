#!/bin/sh
# df-show: what it prints, draws and joins; and that HDF5's own tools read our files.
# shellcheck disable=SC2086 # commands are words
. "$(dirname "$0")/lib.sh"

mkdir data run
cat >data/en.json <<'END'
[{"instruction": "Add 1 and 2.", "input": "", "output": "3"},
 {"instruction": "Say <yes> & \"no\".", "input": "", "output": "yes, no"},
 {"instruction": "Count.", "input": "to two", "output": "1 2"}]
END
cat >data/zh.json <<'END'
[{"instruction": "你好", "input": "", "output": "你好！"}]
END
echo '{"en": {"file_name": "en.json"}, "zh": {"file_name": "zh.json"}}' >data/dataset_info.json
pack="df-pack -q --dataset-dir data --template default --tokenizer bytes --cutoff-len 64"
ok 'a small pool' $pack --dataset en,zh -o pool.h5

# --- summaries ---

ok 'a summary' df-show pool.h5
sed 's/[0-9a-f]\{32\}/ID/; s/^\(  by    df-pack\) .*/\1 VERSION/' out >got
cat >want <<'END'
pool.h5: tokens, 4 rows
  id    ID
  by    df-pack VERSION
END
head -n 3 got >top
same 'its head' top want
sed -n '/^  column/,$p' got >rest
cat >want <<'END'
  column             type    shape        min      mean  max
  sample/id          uint64  [4]            0              3
  sample/domain      uint16  [4]            0              1
  sample/source_row  uint64  [4]            0              2
  tokens/ids         uint32  [4, ragged]   10            257
    tokens per row                         34        38   45
  tokens/label_mask  uint8   [4, ragged]    0  0.184211    1
    targets per row                         3         7   11

  domain  rows  share  tokens  targets
  en         3  75.0%     116       17
  zh         1  25.0%      36       11
END
same 'its columns and domains' rest want
ok 'two at once' df-show pool.h5 pool.h5
is 'a blank line between them' "$(grep -c '^pool.h5: tokens' out) $(grep -c '^$' out)" '2 5'
ok 'JSON' df-show --json pool.h5
prints 'JSON: domains' '"domains": \{"en": \{"rows": 3, "tokens": [0-9]+, "targets": [0-9]+\}, "zh": \{"rows": 1,'
is 'JSON: one line' "$(wc -l <out)" 1
ok 'standard input' sh -c 'df-show - <pool.h5'
prints 'named so' '^standard input: tokens, 4 rows'
ok 'a pipe' sh -c 'cat pool.h5 | df-show -'
ok 'a pool into a pipe' sh -c "$pack --dataset en,zh -o - | cat >stream"
ok 'a stream' sh -c 'cat stream | df-show -'
is 'the id of the file' "$(grep '  id' out)" "$(df-show pool.h5 | grep '  id')"
ok 'a stream in a file' df-show --check stream
ok 'a pool into a file' sh -c "$pack --dataset en,zh -o - >direct.h5"
same 'is the same file' direct.h5 pool.h5

# --- a sample ---

ok 'a sample' df-show --decode 3 pool.h5
prints 'a sample: where from' '^pool\.h5: sample 3, zh row 0, 36 tokens, 11 of them targets$'
prints 'a sample: its text' '^你好！'
prints 'a sample: its ids' '\*257'
ok 'a sample as JSON' df-show --decode 1 --json pool.h5
prints 'JSON: text' 'Say <yes> & \\"no\\"\.'
exits 64 'no such sample' df-show --decode 4 pool.h5
says 'says so' 'pool\.h5: no sample 4 in its 4 rows'

exits 64 'an id that is no number' df-show --decode x pool.h5
says 'says which option' '^df-show: --decode: '

# --- lineage and checks ---

ok 'lineage' df-show --lineage pool.h5
prints 'lineage: the source' '^\|- en  source  [0-9a-f]{12}$'
ok 'lineage as JSON' df-show --lineage --json pool.h5
ok 'a check' df-show --check pool.h5
prints 'good' '^pool\.h5: good, 4 rows, [0-9a-f]{32}$'
exits 66 'no file' df-show absent.h5
echo text >text.h5
exits 65 'text' df-show text.h5
says 'says so' 'text\.h5: not an HDF5 file'
exits 64 'two things at once' df-show --check --lineage pool.h5
exits 64 'nothing' df-show

# --- pictures ---

i=1
while [ $i -le 60 ]; do
	echo "{\"current_steps\": $i, \"total_steps\": 60, \"loss\": $((300 / (i + 2))).5}"
	[ $((i % 20)) -ne 0 ] || echo "{\"current_steps\": $i, \"total_steps\": 60, \"eval_loss\": 1.25}"
	i=$((i + 1))
done >run/trainer_log.jsonl
ok 'a training log' df-show run
prints 'its steps' '^run: training log, step 60 of 60$'
prints 'its evaluation' '^  eval_loss  first 1\.25'
ok 'a loss curve' df-show --plot loss.svg run
is 'of two lines and three points' "$(grep -c '<polyline' loss.svg) $(grep -c '<circle' loss.svg)" '3 4'
ok 'two runs' df-show --plot two.svg run run/trainer_log.jsonl
ok 'a histogram' df-show --plot len.svg pool.h5
prints_svg() { grep -q "$1" len.svg; report $? "$2"; }
prints_svg '>Tokens per sample of pool.h5<' 'its title'
if command -v xmllint >/dev/null; then
	ok 'SVG is XML' xmllint --noout loss.svg two.svg len.svg
fi
if command -v gnuplot >/dev/null; then
	ok 'a PNG' df-show --plot len.png pool.h5
	is 'which is one' "$(head -c 4 len.png | tail -c 3)" PNG
else
	skip 'a PNG' 'no gnuplot'
fi
mkdir empty
exits 69 'a PNG without gnuplot' env PATH="$BUILD/bin:$T/empty" "$BUILD/bin/df-show" --plot no.png pool.h5
says 'says what to do' 'an \.svg needs nothing'
is_empty 'and leaves nothing' "$(ls no.png 2>/dev/null)"
exits 64 'a picture of another kind' df-show --plot x.gif pool.h5
printf '{"current_steps": 1, "loss": 2}\n{"current_st' >cut.jsonl
ok 'a log that a kill cut short' df-show cut.jsonl
printf '{"current_steps": 1, "loss"\n{"current_steps": 2, "loss": 1}\n' >bad.jsonl
exits 65 'a malformed log' df-show bad.jsonl

# --- links; HDF5's tools ---

$pack --dataset en -o part.00001-of-00002.h5
$pack --dataset en -o part.00002-of-00002.h5
ok 'a link' df-show --link all.h5 part.h5
ok 'the link reads' df-show all.h5
prints 'all its rows' '^all\.h5: tokens, 6 rows'
exits 65 'the same samples twice' df-show --check all.h5
says 'says which' 'sample id 0 occurs twice'
mv part.00002-of-00002.h5 away.h5
exits 66 'a link to what is not there' df-show all.h5
says 'says what' "which is missing"
exits 66 'a set with a hole' df-show part.h5
says 'says which shard' 'part\.00002-of-00002\.h5 is missing'
mkdir 'a%%b%b'
cp pool.h5 'a%%b%b/x%b%%1.h5'
ok 'a link to a name with percent signs' df-show --link 'a%%b%b/all.h5' 'a%%b%b/x%b%%1.h5'
ok 'has its rows' df-show --check 'a%%b%b/all.h5'
mkdir far
ln -s far/l.h5 l.h5
ok 'a link through a symbolic link' df-show --link l.h5 pool.h5
ok 'reads from either name' df-show --check l.h5
ok '  and from the other' df-show --check far/l.h5
is 'the name stays a link' "$(readlink l.h5)" far/l.h5
mkfifo 'a%%b%b/pipe.h5'
exits 64 'a directory with a pipe in it' timeout 10 df-show 'a%%b%b'
if command -v h5dump >/dev/null; then
	ok 'h5dump reads it with our plugin' h5dump -d tokens/ids pool.h5
	prints 'the ids' '\(0\): [0-9]+, [0-9]+'
	ok 'h5ls reads it' h5ls -rv pool.h5
	prints 'the filter is Zstandard' 'Zstandard|32015'
fi

# --- damage ---

size=$(wc -c <pool.h5)
for n in 0 7 100 1000 $((size / 2)) $((size - 1)); do
	head -c "$n" pool.h5 >cut.h5
	exits 65 "cut to $n bytes" df-show cut.h5
done
bad=
i=0
while [ $i -lt 150 ]; do
	at=$((i * (size - 1) / 149))
	cp pool.h5 flip.h5
	byte=$(od -An -tu1 -j "$at" -N 1 flip.h5 | tr -d ' ')
	printf '%b' "$(printf '\\0%03o' $((byte ^ (1 << (i % 8)))))" | dd of=flip.h5 bs=1 seek="$at" conv=notrunc 2>/dev/null
	status=0
	timeout -k 1 10 df-show --check flip.h5 >o 2>e || status=$?
	case $status in
	0 | 65 | 66 | 69 | 71) ;;
	*) bad="$bad bit $((i % 8)) at $at: exit $status;" ;;
	esac
	i=$((i + 1))
done
is_empty 'flipped bits never crash it' "$bad"

done_testing
