#!/bin/bash
# Damaged, foreign and impossible input, through the programs: a message that names file and place, the right exit
# status, nothing written, no crash.
# shellcheck disable=SC2059,SC2086 # commands are words; bytes are written with printf
. "$(dirname "$0")/../cmd/lib.sh"

n_flips=24
[ -z "${DF_SANITIZED-}" ] || n_flips=6

mkdir data
"$BUILD/demo/generate" data 1
pack="df-pack -q --dataset-dir data --template default --tokenizer bytes --cutoff-len 64"
train="df-train $SRC/demo/train.yaml model_name_or_path=$SRC/demo/model -q max_steps=4 save_steps=2"
train="$train eval_strategy=no per_device_train_batch_size=8"
m=run/checkpoint-4
ok 'a pool' $pack --dataset translate,add --max-samples 100 -o pool.h5
ok 'a target' $pack --dataset val -o val.h5
ok 'a checkpoint' $train tokenized_path=pool.h5 output_dir=run
ok 'projections' df-grad -q -m $m --form adam --project 64 pool.h5 -o pool.proj.h5
ok 'of the target' df-grad -q -m $m --form sgd --project 64 val.h5 -o val.proj.h5
ok 'an index' df-score less -q --train pool.proj.h5 --val val.proj.h5 -n 100 -o index.h5
ok 'gradients' df-grad -q -m $m --form sgd --block-rows 12 val.h5 -o val.grad.h5
ok 'a stream' sh -c "df-grad -q -m $m --form sgd --block-rows 12 val.h5 -o - | cat >val.stream"

# refused STATUS WHAT PATTERN COMMAND...: fails with the status, says the pattern in one line, leaves no out.h5 and no
# checkpoint, nor anything beside them (but $kept: finished work that the next run takes over).
kept=
refused()
{
	status=$1
	what=$2
	pattern=$3
	shift 3
	rm -rf out.h5 .out.h5.* made
	exits "$status" "$what" "$@"
	says "$what: says so" "$pattern"
	is_empty "$what: nothing is left" "$(find . -maxdepth 2 -name 'out.h5' -o -name '.*.df-*' -o -path './made/checkpoint-*' -o -path './made/model*' | grep -vx "$kept")"
}

# --- artefacts --------------------------------------------------------------------------------------------------------

head -c 3000 pool.h5 >cut.h5
: >empty.h5
head -c 4096 /dev/urandom >noise.h5
losses="df-grad -q -m $m --losses -o out.h5"
to_train="$train output_dir=made"
refused 65 'a truncated artefact' 'cut\.h5: ' $losses cut.h5
refused 65 'an empty artefact' 'empty\.h5: ' $losses empty.h5
refused 65 'noise' 'noise\.h5: ' $losses noise.h5
refused 66 'no artefact' 'absent\.h5: ' $losses absent.h5
refused 65 'an artefact of another kind' 'val\.proj\.h5: .*(projections.*tokens|tokens.*projections)' $losses val.proj.h5
refused 65 'a truncated artefact to df-score' 'cut\.h5: ' df-score less -q --train cut.h5 --val val.proj.h5 -n 10 -o out.h5
refused 65 'tokens to df-score less' 'pool\.h5: .*projections' df-score less -q --train pool.h5 --val val.proj.h5 -n 10 -o out.h5
refused 65 'a truncated artefact to df-train' 'cut\.h5: ' $to_train tokenized_path=cut.h5
refused 65 'projections for an index' 'val\.proj\.h5: .*index' $to_train tokenized_path=pool.h5 --index val.proj.h5
refused 65 'an index for weights' 'index\.h5: .*weights' $to_train tokenized_path=pool.h5 --weights index.h5
refused 65 'a truncated artefact to df-project' 'cut\.h5: ' df-project -q -k 8 cut.h5 -o out.h5
refused 65 'a truncated artefact to df-eval' 'cut\.h5: ' df-eval -q -m $m cut.h5
refused 65 'a truncated artefact to df-show' 'cut\.h5: ' df-show cut.h5
refused 66 'a directory without artefacts' 'data' $losses data

# flip FILE BIT: a copy of FILE, flip.h5, with that bit of it flipped.
flip()
{
	cp "$1" flip.h5
	byte=$(od -An -tu1 -j $(($2 / 8)) -N 1 flip.h5 | tr -d ' ')
	printf "\\$(printf %03o $((byte ^ (1 << ($2 % 8)))))" | dd of=flip.h5 bs=1 seek=$(($2 / 8)) conv=notrunc 2>/dev/null
}

# flips FILE WANT COMMAND...: a flipped bit is found, and the message names the file; or it lies where nothing is read,
# and does no harm: then COMMAND makes out.h5 with the content of WANT.  Never a crash, never another result.
flips()
{
	file=$1
	want=$2
	shift 2
	bad=
	found=0
	n_bits=$(($(wc -c <"$file") * 8))
	for i in $(seq $n_flips); do
		bit=$(awk -v i="$i" -v n=$n_bits 'BEGIN { srand(i + 7); print int(rand() * n) }')
		flip "$file" "$bit"
		rm -f out.h5
		timeout 60 "$@" >o 2>e
		status=$?
		case $status in
		0) df-show --json out.h5 | sed 's/.*"id": "\([0-9a-f]*\)".*/\1/' >a; df-show --json "$want" | sed 's/.*"id": "\([0-9a-f]*\)".*/\1/' >b
			cmp -s a b || bad="$bad bit $bit changed the result;" ;;
		65 | 66 | 69)
			found=$((found + 1))
			grep -Eq 'flip\.h5|standard input' e || bad="$bad bit $bit: no name in $(tail -n 1 e);"
			[ ! -e out.h5 ] || bad="$bad bit $bit: out.h5;" ;;
		*) bad="$bad bit $bit: exit $status $(tail -n 1 e);" ;;
		esac
		rm -f .out.h5.df-work
	done
	echo "# $found of $n_flips flipped bits of $file were refused"
	is_empty "flipped bits of $file: found or harmless" "$bad"
	[ $found -gt 0 ]
	report $? "flipped bits of $file: some were found"
}
ok 'undisturbed losses' $losses pool.h5
mv out.h5 want.losses.h5
ok 'undisturbed projections' df-project -q -k 64 val.grad.h5 -o want.proj.h5
flips pool.proj.h5 index.h5 df-score less -q --train flip.h5 --val val.proj.h5 -n 100 -o out.h5
flips val.proj.h5 index.h5 df-score less -q --train pool.proj.h5 --val flip.h5 -n 100 -o out.h5
flips pool.h5 want.losses.h5 $losses flip.h5
flips val.stream want.proj.h5 sh -c 'df-project -q -k 64 - -o out.h5 <flip.h5'

# --- streams ----------------------------------------------------------------------------------------------------------

size=$(wc -c <val.stream)
from_stream='df-project -q -k 64 - -o out.h5'
for part in 0.001 4 30 50 90 99.999; do
	head -c "$(awk -v s="$size" -v p=$part 'BEGIN { print int(s * p / 100) }')" val.stream >cut.stream
	rm -f .out.h5.df-work
	exits 65 "a stream cut at $part %" sh -c "cat cut.stream | $from_stream"
	says "a stream cut at $part %: says so" 'standard input: .*(truncated|damaged|ends)'
	[ ! -e out.h5 ]
	report $? "a stream cut at $part %: no result"
done
ok 'what a cut stream had is not done again' sh -c "df-project -k 64 - -o out.h5 <val.stream"
says 'but gone on from' 'going on after [0-9]+ rows'
same 'to the bytes of a stream that was not cut' out.h5 want.proj.h5
refused 65 'an empty stream' 'standard input: ' sh -c "$from_stream </dev/null"
refused 65 'text for a stream' 'standard input: ' sh -c "echo hello | $from_stream"
refused 65 'a stream of another kind' 'standard input: .*gradients' sh -c "df-grad -q -m $m --losses val.h5 -o - | cat | $from_stream"
rm -f .out.h5.df-work
exits 65 'a producer that dies' sh -c "sh -c 'head -c 2000000 val.stream; kill -9 \$\$' | $from_stream"
says 'is noticed' 'truncated'
exits 74 'a consumer that dies' bash -c "df-grad -q -m $m --form sgd val.h5 -o - | head -c 1000 >/dev/null; exit \${PIPESTATUS[0]}"
is_empty 'of which nothing needs to be told' "$(cat "$T/err")"
exits 74 'a full standard output' sh -c 'df-show pool.h5 >/dev/full'

# --- lineage ----------------------------------------------------------------------------------------------------------

less="df-score less -q -n 10 -o out.h5 --train pool.proj.h5 --val"
ok 'projections with another seed' df-grad -q -m $m --form sgd --project 64 --seed 7 val.h5 -o seed.proj.h5
refused 65 'projections of two seeds' "'seed' is 42 .* 7" $less seed.proj.h5
ok 'projections to another width' df-grad -q -m $m --form sgd --project 32 val.h5 -o width.proj.h5
refused 65 'projections of two widths' "'k' is 64 .* 32" $less width.proj.h5
ok 'projections of another type' df-grad -q -m $m --form sgd --project 64 --type sjlt val.h5 -o type.proj.h5
refused 65 'projections of two types' "'projection' is .*rademacher.*sjlt" $less type.proj.h5
ok 'of another checkpoint' df-grad -q -m run/checkpoint-2 --form sgd --project 64 val.h5 -o step.proj.h5
refused 65 'projections of two checkpoints' "'checkpoint'" $less step.proj.h5
ok 'a checkpoint with other parameters' $train tokenized_path=pool.h5 output_dir=lora max_steps=2 \
	model_name_or_path=$m train_from_scratch=false finetuning_type=lora lora_rank=2
ok 'projections of those' df-grad -q -m lora/checkpoint-2 --form sgd --project 64 val.h5 -o lora.proj.h5
refused 65 'projections of other parameters' "'manifest'|'checkpoint'" $less lora.proj.h5
ok 'another pool' $pack --dataset reverse --max-samples 20 -o other.h5
ok 'its projections' df-grad -q -m $m --form adam --project 64 other.h5 -o other.proj.h5
refused 65 'an index for another pool' 'index\.h5 .*other\.h5' $to_train tokenized_path=other.h5 --index index.h5 --until 1
refused 65 'projections of two pools as one set' 'tokens' df-score less -q -n 10 -o out.h5 --val val.proj.h5 --train pool.proj.h5 other.proj.h5
mkdir twice
cp pool.proj.h5 twice/a.h5
cp pool.proj.h5 twice/b.h5
refused 65 'a shard given twice' 'twice .*sample id 0 occurs twice' df-score less -q --train twice --val val.proj.h5 -n 10 -o out.h5
cp -r $m foreign
sed -i 's/"tokenizer": "[^"]*"/"tokenizer": "0123456789abcdef"/' foreign/df_state.json
refused 65 'a checkpoint with another tokenizer' "pool\.h5 .*'bytes'.*foreign.*'0123456789abcdef'" df-grad -q -m foreign --losses pool.h5 -o out.h5
refused 65 'and to df-eval' "pool\.h5 .*'bytes'.*foreign .*0123456789abcdef" df-eval -q -m foreign pool.h5
ok 'tokens of a larger vocabulary' df-pack -q --dataset-dir data --dataset add --template default \
	--tokenizer "$SRC/tests/golden/tokenizer/gpt2" --cutoff-len 64 -o gpt2.h5
rm foreign/df_state.json
refused 65 'tokens that the model does not have' 'gpt2\.h5.*tokenizer' df-grad -q -m foreign --losses gpt2.h5 -o out.h5
refused 65 'the same to df-eval' 'gpt2\.h5' df-eval -q -m foreign gpt2.h5
refused 65 'the same to df-train' 'gpt2\.h5' $to_train tokenized_path=gpt2.h5

# --- model directories ------------------------------------------------------------------------------------------------

le64() # N: its eight bytes for printf, little-endian
{
	awk -v n="$1" 'BEGIN { for (i = 0; i < 8; i++) { printf "\\%03o", n % 256; n = int(n / 256) } }'
}
model() # a copy to spoil
{
	rm -rf bad
	cp -r $m bad
}
st() # HEADER DATA_BYTES: a safetensors file with this header
{
	model
	{ printf "$(le64 ${#1})"; printf '%s' "$1"; head -c "$2" /dev/zero; } >bad/model.safetensors
}
eval='df-eval -q -m bad val.h5'
file='bad/model\.safetensors: '
name=model.norm.weight
model; head -c 5 $m/model.safetensors >bad/model.safetensors
refused 65 'safetensors of five bytes' "$file" $eval
model; head -c 20000 $m/model.safetensors >bad/model.safetensors
refused 65 'truncated safetensors' "$file" $eval
model; printf "$(le64 1000000000000000000)" >bad/model.safetensors
refused 65 'a header of an exabyte' "$file" $eval
st "{\"$name\":{\"dtype\":\"F32\",\"shape\":[64],\"data_offsets\":[0,999999]}}" 256
refused 65 'data past the end' "$file.*$name" $eval
st "{\"$name\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]}}" 256
refused 65 'a shape that overflows' "$file.*$name" $eval
st "{\"$name\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,256]}}" 256
refused 65 'a negative shape' "$file.*$name" $eval
st "{\"$name\":{\"dtype\":\"F32\",\"shape\":[64],\"data_offsets\":[0,256]}}" 256
refused 65 'missing tensors' "$file.*embed_tokens" $eval
st "{\"$name\":{\"dtype\":\"F32\",\"shape\":[64],\"data_offsets\":[0,256]},\"x\":{\"dtype\":\"F32\",\"shape\":[64],\"data_offsets\":[128,384]}}" 384
refused 65 'overlapping tensors' "$file" $eval
st "$(awk 'BEGIN { for (i = 0; i < 100000; i++) printf "[" }')" 0
refused 65 'a deep header' 'bad/model\.safetensors:1: ' $eval
model; rm bad/model.safetensors
refused 66 'no weights' 'bad: no weights' $eval
model; echo '{"model_type": "llama", "hidden_size": 64' >bad/config.json
refused 65 'a cut config.json' 'bad/config\.json' $eval
model; awk 'BEGIN { for (i = 0; i < 300000; i++) printf "{\"a\":" }' >bad/config.json
refused 65 'a deep config.json' 'bad/config\.json' $eval
model; sed 's/"hidden_size": *64/"hidden_size": 4611686018427387904/' $m/config.json >bad/config.json
refused 65 'a hidden size of 2^62' 'bad/config\.json.*hidden_size' $eval
model; sed 's/"num_attention_heads": *4/"num_attention_heads": 0/' $m/config.json >bad/config.json
refused 65 'no attention heads' 'bad/config\.json.*num_attention_heads' $eval
model; sed 's/"model_type": *"llama"/"model_type": "mamba"/' $m/config.json >bad/config.json
refused 69 'another architecture' 'bad/config\.json.*mamba' $eval
model; rm bad/optimizer.safetensors
refused 66 "Adam's form without an optimiser" 'bad/optimizer\.safetensors' df-grad -q -m bad --form adam --project 8 val.h5 -o out.h5
refused 66 'a missing checkpoint' 'nowhere' df-grad -q -m nowhere --losses val.h5 -o out.h5

# A run whose newest checkpoint is damaged says which, and touches nothing.
for f in optimizer.safetensors model.safetensors df_state.json trainer_state.json; do
	rm -rf broken
	cp -r run broken
	rm -f broken/all_results.json
	head -c 300 run/checkpoint-4/$f >broken/checkpoint-4/$f
	exits 65 "a cut $f to go on from" $train tokenized_path=pool.h5 output_dir=broken max_steps=6
	says "a cut $f: says so" "broken/checkpoint-4/$f"
	is "a cut $f: nothing is changed" "$(ls broken)" "$(cd run && ls -I all_results.json)"
done

# --- numbers that are none --------------------------------------------------------------------------------------------

refused 65 'training that diverges' 'step [0-9]+: .*samples? [0-9]' $to_train tokenized_path=pool.h5 learning_rate=1e30 max_grad_norm=0 max_steps=20 save_strategy=no

# A model whose output row of the letter a is so large that some rows' logits overflow, and others' do not.
mkdir untied
sed 's/"tie_word_embeddings": true/"tie_word_embeddings": false/' "$SRC/demo/model/config.json" >untied/config.json
ok 'a model with a head of its own' $train model_name_or_path=untied tokenized_path=pool.h5 output_dir=head max_steps=2
set_head() # FLOATS BYTES
{
	rm -rf bad
	cp -r head/checkpoint-2 bad
	start=$(od -An -tu8 -N 8 bad/model.safetensors | tr -d ' ')
	at=$(head -c $((start + 8)) bad/model.safetensors | grep -ao 'lm_head.weight":{"dtype":"F32","shape":\[259,64\],"data_offsets":\[[0-9]*' | sed 's/.*\[//')
	for i in $(seq "$1"); do printf "$2"; done | dd of=bad/model.safetensors bs=1 seek=$((8 + start + at + 97 * 256)) conv=notrunc 2>/dev/null
}
set_head 1 '\000\000\300\177'
refused 65 'a weight of NaN' "$file.*lm_head.weight.*element 6208 is nan" df-grad -q -m bad --losses pool.h5 -o out.h5
set_head 6 '\231\166\226\176' # 1e38
ok 'losses that overflow' df-grad -q -m bad --losses pool.h5 -o nan.losses.h5
says 'are counted, with the first' 'pool\.h5: .* [0-9]+ rows is not finite, the first is sample [0-9]+'
ok 'gradients too' df-grad -q -m bad --form sgd --project 64 pool.h5 -o nan.proj.h5
says 'are counted' 'pool\.h5: .* [0-9]+ rows is not finite, the first is sample [0-9]+'
ok 'df-eval leaves them out' df-eval -q -m bad pool.h5
says 'and says so' '[0-9]+ samples have a loss that is not finite and are left out, the first is sample [0-9]+'
refused 65 'training on them' 'step 1: .*samples? [0-9]' $to_train tokenized_path=pool.h5 model_name_or_path=bad train_from_scratch=false
ok 'they are chosen last' df-score custom -q --train nan.proj.h5 --scores nan.losses.h5 -n 10 -o chosen.h5
[ "$(df-show --json chosen.h5 | grep -c '"not_finite": 0')" -gt 0 ]
report $? 'no chosen score is NaN'
refused 64 'nor chosen at all' 'finite|valid' df-score custom -q --train nan.proj.h5 --scores nan.losses.h5 -n 200 -o out.h5
refused 65 'a target of NaN' 'nan\.proj\.h5: id [0-9]+: .*not finite' df-score less -q --train nan.proj.h5 --val nan.proj.h5 -n 10 -o out.h5

# --- rows without labels ----------------------------------------------------------------------------------------------

mkdir long
awk 'BEGIN {
	for (i = 0; i < 6; i++) {
		s = sprintf("%d", i)
		while (i % 2 && length(s) < 400) s = s "x"
		printf "{\"instruction\": \"%s\", \"output\": \"%08d\"}\n", s, i
	}
}' >long/long.jsonl
echo '{ "long": { "file_name": "long.jsonl" }, "none": { "file_name": "none.jsonl" } }' >long/dataset_info.json
ok 'rows whose answers are cut off' df-pack -q --dataset-dir long --dataset long --template default --tokenizer bytes --cutoff-len 16 -o half.h5
says 'are counted' "'long': [1-9] of [0-9]+ kept rows have nothing left of their answers within --cutoff-len"
ok 'they have no gradient' df-grad -q -m $m --form adam --project 64 half.h5 -o half.proj.h5
says 'which is said' 'half\.h5: [1-9] rows have no target'
! grep -q 'not finite' err
report $? 'and not taken for an overflow'
ok 'they can be scored' df-score less -q --train half.proj.h5 --val val.proj.h5 -n 6 -o half.index.h5
ok 'they count for nothing in df-eval' df-eval -m $m half.h5
says 'which is said' '[1-9] samples have no target'
ok 'nor in training' $train tokenized_path=half.h5 output_dir=half
refused 65 'a loss for none' 'none\.h5.*no sample has a target' sh -c "grep x long/long.jsonl >long/none.jsonl; df-pack -q --dataset-dir long --dataset none --template default --tokenizer bytes --cutoff-len 16 -o none.h5 2>/dev/null; $to_train tokenized_path=none.h5"

# --- text -------------------------------------------------------------------------------------------------------------

json()
{
	printf '{ "x": { "file_name": "x.json" } }' >data/dataset_info.json
	cat >data/x.json
}
px="$pack --dataset x -o out.h5"
printf '[{"instruction": "a", "output": "b"}' | json
refused 65 'an array without its end' 'x\.json: row 0 .*truncated' $px
printf '[{"instruction": "a", "output": "b"}, {"instruction": "a\377", "output": "b"}]' | json
refused 65 'invalid UTF-8' 'x\.json: row 1 ' $px
printf '[{"instruction": "\\ud800", "output": "b"}]' | json
refused 65 'half a surrogate pair' 'x\.json: row 0 ' $px
printf '[{"instruction": 5, "output": "b"}]' | json
refused 65 'a number for a text' "x\.json: row 0 .*'instruction'" $px
awk 'BEGIN { printf "["; for (i = 0; i < 200000; i++) printf "["; }' | json
refused 65 'an array 200,000 deep' 'x\.json: row 0 ' $px
printf '' | json
refused 65 'an empty file' 'x\.json' $px
printf '"text"' | json
refused 65 'a text for an array' 'x\.json' $px
printf '[{"instruction": "a"}, {"instruction": "b", "output": null}]' | json
refused 65 'not one usable row' "'x'.*no usable row" $px
printf '{ "x": 3 }' >data/dataset_info.json
refused 78 'dataset_info.json with a number' "data/dataset_info\.json: .*'x'" $px
printf '{ "y": { "file_name": "x.json" } }' >data/dataset_info.json
refused 78 'an unknown dataset' "data/dataset_info\.json: .*'x'.*'y'" $px
printf '{ "x": { "file_name": "x.json"' >data/dataset_info.json
refused 65 'a cut dataset_info.json' 'data/dataset_info\.json:1' $px
awk 'BEGIN { for (i = 0; i < 300000; i++) printf "{\"a\":" }' >data/dataset_info.json
refused 65 'a deep dataset_info.json' 'data/dataset_info\.json:1' $px
{ printf '[{"instruction": "'; head -c 67000000 /dev/zero | tr '\0' a; printf '", "output": "b"}]'; } | json
if [ -n "${DF_SANITIZED-}" ]; then
	skip 'a text of 64 MB' 'its memory is not the same under a sanitizer'
else
	ok 'a text of 64 MB in one row' df-pack --dataset-dir data --template default --tokenizer bytes --cutoff-len 64 --dataset x -o out.h5
	[ "$(sed -n 's/.*peak \([0-9]*\) MiB.*/\1/p' err)" -lt 1024 ]
	report $? "in bounded memory ($(sed -n 's/.*peak/peak/p' err))"
fi
{ printf '[{"instruction": "'; head -c 1000000 /dev/zero | tr '\0' a; printf '", "output": "b"}]'; } | json
for t in gpt2 llama3; do
	ok "a word of a million letters, $t" timeout 60 df-pack -q --dataset-dir data --template default \
		--tokenizer "$SRC/tests/golden/tokenizer/$t" --cutoff-len 64 --dataset x -o out.h5
done
"$BUILD/demo/generate" data 1

tok="df-pack -q --dataset-dir data --dataset add --template default --cutoff-len 64 -o out.h5 --tokenizer tok"
mkdir tok
vocab() # TEXT OF tokenizer.json
{
	printf "$1" >tok/tokenizer.json
}
vocab '{"model": {"type": "BPE", "vocab": {"a": 4294967295000}, "merges": []}}'
refused 65 'a token id past 32 bits' 'tok/tokenizer\.json' $tok
vocab '{"model": {"type": "BPE", "vocab": {"a": 2147483647}, "merges": []}}'
refused 65 'a token id of two thousand million' 'tok/tokenizer\.json' $tok
vocab '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["b c"]}}'
refused 65 'a merge of unknown tokens' 'tok/tokenizer\.json' $tok
vocab '{"model": {"type": "BPE\377"}}'
refused 65 'a tokenizer of invalid UTF-8' 'tok/tokenizer\.json:1' $tok
vocab '{"model": {"type": "Unigram", "vocab": []}}'
refused 69 'a Unigram tokenizer' 'tok/tokenizer\.json.*Unigram' $tok
awk 'BEGIN { for (i = 0; i < 300000; i++) printf "{\"a\":" }' >tok/tokenizer.json
refused 65 'a deep tokenizer' 'tok/tokenizer\.json:1' $tok
head -c 20000 "$SRC/tests/golden/tokenizer/gpt2/tokenizer.json" >tok/tokenizer.json
refused 65 'a truncated tokenizer' 'tok/tokenizer\.json:[0-9]' $tok
: >tok/tokenizer.json
refused 65 'an empty tokenizer' 'tok/tokenizer\.json' $tok
rm tok/tokenizer.json
refused 66 'no tokenizer' 'tok' $tok

# --- YAML -------------------------------------------------------------------------------------------------------------

cfg="df-train bad.yaml -q tokenized_path=pool.h5 output_dir=made"
printf 'learning_rate: [1, 2\n' >bad.yaml
refused 78 'YAML without its bracket' 'bad\.yaml:[0-9]+' $cfg
printf 'seed: 1\nlearning_rat: 1.0e-3\n' >bad.yaml
refused 78 'a mistyped key' "bad\.yaml:2: .*learning_rat.*'learning_rate'" $cfg
printf 'learning_rate: fast\n' >bad.yaml
refused 78 'a word for a number' 'bad\.yaml:1.*learning_rate' $cfg
printf 'learning_rate: 1e400\n' >bad.yaml
refused 78 'a number too large' 'bad\.yaml:1.*learning_rate' $cfg
printf 'seed: \377\376\n' >bad.yaml
refused 78 'YAML of invalid UTF-8' 'bad\.yaml: byte 6' $cfg
printf 'seed: 1\nseed: 2\n' >bad.yaml
refused 78 'a key given twice' 'bad\.yaml:2.*seed' $cfg
awk 'BEGIN { printf "seed: "; for (i = 0; i < 100000; i++) printf "["; print "" }' >bad.yaml
refused 78 'YAML 100,000 deep' 'bad\.yaml' $cfg
awk 'BEGIN { for (i = 0; i < 20000; i++) { printf "%*sa:\n", i, "" } }' 2>/dev/null | head -c 900000 >bad.yaml
refused 78 'YAML 1,300 levels deep by indentation' 'bad\.yaml' $cfg
awk 'BEGIN { for (i = 0; i < 3000000; i++) print "# comment"; print "seed: 1" }' >bad.yaml
refused 78 'YAML of 30 MB' 'bad\.yaml' $cfg
printf 'a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\n' >bad.yaml
refused 78 'YAML with aliases' 'bad\.yaml' $cfg
: >bad.yaml
refused 78 'an empty YAML file' 'model_name_or_path|stage|required' $cfg
refused 66 'no YAML file' 'absent\.yaml' df-train absent.yaml -q tokenized_path=pool.h5 output_dir=made

# --- a full disk ------------------------------------------------------------------------------------------------------

shim=$BUILD/tests/diskfull.so
# full WHAT COMMAND...: COMMAND on disks with room for a part of its out.h5 only; then there is room.
full()
{
	label=$1
	shift
	rm -f out.h5 .out.h5.*
	ok "$label" "$@"
	mv out.h5 want.h5
	size=$(wc -c <want.h5)
	for n in 200 $((size * 30 / 100)) $((size * 45 / 100)) $((size * 60 / 100)); do
		refused 74 "$label, a disk of $n bytes" 'out\.h5.*[Nn]o space' env LD_PRELOAD="$shim" DF_DISK_BYTES=$n "$@"
	done
	refused 73 "$label, no room at all" 'out\.h5.*[Nn]o space' env LD_PRELOAD="$shim" DF_DISK_BYTES=0 "$@"
	refused 74 "$label, a disk that does not keep it" 'out\.h5.*[Ii]nput/output error' env LD_PRELOAD="$shim" DF_DISK_SYNC=no "$@"
	ok "$label: and now there is room" "$@"
	same "$label: the bytes of an undisturbed run" out.h5 want.h5
}
full 'df-pack' $pack --dataset add -o out.h5
kept=./.out.h5.df-work
full 'df-grad' df-grad -q -m $m --form adam --project 256 --block-rows 16 val.h5 -o out.h5
full 'df-project' df-project -q -k 256 val.grad.h5 -o out.h5
kept=
full 'df-score' df-score less -q --train pool.proj.h5 --val val.proj.h5 -n 100 -o out.h5

# The disk is full in the middle of the second checkpoint: the first one stays, and is gone on from.
checkpoint=$(cat run/checkpoint-2/* | wc -c)
for part in 104 130 170 199; do
	rm -rf made
	exits 74 "df-train, a disk of $part % of a checkpoint" env LD_PRELOAD="$shim" DF_DISK_BYTES=$((checkpoint * part / 100)) $to_train tokenized_path=pool.h5
	says "df-train, $part %: says so" 'made/.*[Nn]o space'
	is "df-train, $part %: the checkpoint before is there" "$(cd made && echo checkpoint-* .*.df-*)" 'checkpoint-2 .*.df-*'
	ok "df-train, $part %: and now there is room" $to_train tokenized_path=pool.h5
	for f in model.safetensors checkpoint-4/model.safetensors checkpoint-4/optimizer.safetensors checkpoint-2/optimizer.safetensors; do
		same "df-train, $part %: $f of an undisturbed run" made/$f run/$f
	done
done
refused 74 'df-train, no room at all' 'made.*[Nn]o space' env LD_PRELOAD="$shim" DF_DISK_BYTES=0 $to_train tokenized_path=pool.h5
rm -rf made
exits 74 'df-train, a disk that does not keep it' env LD_PRELOAD="$shim" DF_DISK_SYNC=no $to_train tokenized_path=pool.h5
says 'says so' 'made/.*[Ii]nput/output error'
is 'and leaves no checkpoint' "$(cd made && echo checkpoint-*)" 'checkpoint-*'

done_testing
