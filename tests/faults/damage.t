#!/bin/sh
# Damaged, foreign and impossible input, through the programs: a message that
# names file and place, the right exit status, nothing written, no crash.
# shellcheck disable=SC2086 # commands are words
. "$(dirname "$0")/../cmd/lib.sh"

mkdir data
"$BUILD/demo/generate" data 1
pack="df-pack -q --dataset-dir data --template default --tokenizer bytes --cutoff-len 64"
train="df-train $SRC/demo/train.yaml model_name_or_path=$SRC/demo/model -q max_steps=2 eval_strategy=no per_device_train_batch_size=8"
ok 'a pool' $pack --dataset translate,add -o pool.h5
ok 'a target' $pack --dataset val -o val.h5
ok 'a checkpoint' $train tokenized_path=pool.h5 output_dir=run
m=run/checkpoint-2
ok 'projections' df-grad -q -m $m --form adam --project 64 pool.h5 -o pool.proj.h5
ok 'of the target' df-grad -q -m $m --form sgd --project 64 val.h5 -o val.proj.h5
ok 'an index' df-score less -q --train pool.proj.h5 --val val.proj.h5 -n 100 -o index.h5
ok 'a stream' sh -c "df-grad -q -m $m --form sgd val.h5 -o - >/dev/null; df-grad -q -m $m --form sgd val.h5 -o - | cat >val.stream"

# refused STATUS WHAT PATTERN COMMAND...: fails with the status, says the pattern in one line, writes no out.h5.
refused()
{
	status=$1
	what=$2
	pattern=$3
	shift 3
	rm -rf out.h5 out
	exits "$status" "$what" "$@"
	says "$what: says so" "$pattern"
	is "$what: nothing written" "$(ls -d out.h5 out/checkpoint-* 2>/dev/null)" ""
}

# --- artefacts ---

head -c 3000 pool.h5 >cut.h5
: >empty.h5
head -c 4096 /dev/urandom >noise.h5
refused 65 'a truncated artefact' 'cut\.h5: ' df-grad -q -m $m --losses cut.h5 -o out.h5
refused 65 'an empty artefact' 'empty\.h5: ' df-grad -q -m $m --losses empty.h5 -o out.h5
refused 65 'noise' 'noise\.h5: ' df-grad -q -m $m --losses noise.h5 -o out.h5
refused 66 'no artefact' 'absent\.h5: ' df-grad -q -m $m --losses absent.h5 -o out.h5
refused 65 'an artefact of another kind' 'val\.proj\.h5: .*(projections.*tokens|tokens.*projections)' df-grad -q -m $m --losses val.proj.h5 -o out.h5
refused 65 'a truncated artefact to df-score' 'cut\.h5: ' df-score less -q --train cut.h5 --val val.proj.h5 -n 10 -o out.h5
refused 65 'a truncated artefact to df-train' 'cut\.h5: ' $train tokenized_path=cut.h5 output_dir=out
refused 65 'a truncated artefact to df-eval' 'cut\.h5: ' df-eval -q -m $m cut.h5
refused 65 'a truncated artefact to df-show' 'cut\.h5: ' df-show cut.h5

# A flipped bit either does no harm to what is read (then the bytes are right) or is found.  Never a crash, never another result.
df-score less -q --train pool.proj.h5 --val val.proj.h5 -n 100 -o want.h5
size=$(wc -c <pool.proj.h5)
bad=
found=0
i=0
while [ $i -lt 60 ]; do
	at=$(awk -v i=$i -v n="$size" 'BEGIN { srand(i + 7); print int(rand() * n) }')
	cp pool.proj.h5 flip.h5
	byte=$(od -An -tu1 -j "$at" -N 1 flip.h5 | tr -d ' ')
	printf "\\$(printf %03o $((byte ^ (1 << (i % 8)))))" | dd of=flip.h5 bs=1 seek="$at" conv=notrunc 2>/dev/null
	rm -f out.h5
	status=0
	timeout 20 df-score less -q --train flip.h5 --val val.proj.h5 -n 100 -o out.h5 >o 2>e || status=$?
	case $status in
	0) cmp -s out.h5 want.h5 || { df-show --lineage out.h5 >a 2>&1; df-show --lineage want.h5 >b 2>&1; cmp -s a b || bad="$bad bit at $at changed the result;"; } ;;
	65 | 66 | 69 | 71) found=$((found + 1)) ;;
	*) bad="$bad bit at $at: exit $status $(tail -n 1 e);" ;;
	esac
	i=$((i + 1))
done
echo "# $found of 60 flipped bits were refused"
is 'flipped bits: found or harmless' "$bad" ""
[ $found -gt 0 ]
report $? 'flipped bits: some were found'

# --- streams ---

size=$(wc -c <val.stream)
for part in 4 30 50 90; do
	head -c $((size * part / 100)) val.stream >cut.stream
	refused 65 "a stream cut at $part %" 'truncated|damaged' sh -c 'cat cut.stream | df-project -q -k 64 - -o out.h5'
done
refused 65 'an empty stream' 'standard input|-: ' sh -c 'df-project -q -k 64 - -o out.h5 </dev/null'
refused 65 'a producer that dies' 'truncated' sh -c '(head -c 100000 val.stream; exit 1) | df-project -q -k 64 - -o out.h5'

# --- lineage ---

ok 'projections with another seed' df-grad -q -m $m --form sgd --project 64 --seed 7 val.h5 -o seed.proj.h5
refused 65 'projections of two seeds' 'seed' df-score less -q --train pool.proj.h5 --val seed.proj.h5 -n 10 -o out.h5
ok 'projections to another width' df-grad -q -m $m --form sgd --project 32 val.h5 -o width.proj.h5
refused 65 'projections of two widths' ' k |\bk\b|width|columns' df-score less -q --train pool.proj.h5 --val width.proj.h5 -n 10 -o out.h5
ok 'another pool' $pack --dataset reverse -o other.h5
refused 65 'an index for another pool' 'index\.h5' $train tokenized_path=other.h5 output_dir=out --index index.h5 --until 1
mkdir twice
cp pool.proj.h5 twice/a.h5
cp pool.proj.h5 twice/b.h5
refused 65 'a shard given twice' 'duplicate|twice|seen before|more than once' df-score less -q --train twice --val val.proj.h5 -n 10 -o out.h5

# --- model directories ---

# The bytes of \$1 little-endian in 8.
le64()
{
	awk -v n="$1" 'BEGIN { for (i = 0; i < 8; i++) { printf "\\%03o", n % 256; n = int(n / 256) } }'
}
model()
{
	rm -rf bad
	cp -r $m bad
}
st() # HEADER DATA_BYTES: a safetensors file with this header
{
	# shellcheck disable=SC2059
	{ printf "$(le64 ${#1})"; printf '%s' "$1"; head -c "$2" /dev/zero; } >bad/model.safetensors
}
name=model.norm.weight
model; head -c 5 $m/model.safetensors >bad/model.safetensors
refused 65 'safetensors of five bytes' 'model\.safetensors: ' df-eval -q -m bad val.h5
model; head -c 20000 $m/model.safetensors >bad/model.safetensors
refused 65 'truncated safetensors' 'model\.safetensors: ' df-eval -q -m bad val.h5
# shellcheck disable=SC2059
model; printf "$(le64 1000000000000000000)" >bad/model.safetensors
refused 65 'a header of an exabyte' 'model\.safetensors: ' df-eval -q -m bad val.h5
model; st "{\"$name\":{\"dtype\":\"F32\",\"shape\":[64],\"data_offsets\":[0,999999]}}" 256
refused 65 'data past the end' "model\.safetensors: .*$name" df-eval -q -m bad val.h5
model; st "{\"$name\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]}}" 256
refused 65 'a shape that overflows' "model\.safetensors: .*$name" df-eval -q -m bad val.h5
model; st "{\"$name\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,256]}}" 256
refused 65 'a negative shape' "model\.safetensors: .*$name" df-eval -q -m bad val.h5
model; st "{\"$name\":{\"dtype\":\"F32\",\"shape\":[64],\"data_offsets\":[0,256]}}" 256
refused 65 'missing tensors' 'model\.safetensors.*(embed_tokens|model\.)' df-eval -q -m bad val.h5
model; st "{\"$name\":{\"dtype\":\"F32\",\"shape\":[64],\"data_offsets\":[0,256]},\"x\":{\"dtype\":\"F32\",\"shape\":[64],\"data_offsets\":[128,384]}}" 384
refused 65 'overlapping tensors' 'model\.safetensors: ' df-eval -q -m bad val.h5
model; echo '{"model_type": "llama", "hidden_size": 64' >bad/config.json
refused 65 'a cut config.json' 'config\.json' df-eval -q -m bad val.h5
model; sed 's/"hidden_size": *64/"hidden_size": 4611686018427387904/' $m/config.json >bad/config.json
refused 65 'a hidden size of 2^62' 'config\.json' df-eval -q -m bad val.h5
model; sed 's/"num_attention_heads": *4/"num_attention_heads": 0/' $m/config.json >bad/config.json
refused 65 'no attention heads' 'config\.json' df-eval -q -m bad val.h5
model; sed 's/"model_type": *"llama"/"model_type": "mamba"/' $m/config.json >bad/config.json
refused 69 'another architecture' 'mamba' df-eval -q -m bad val.h5

# --- text ---

json()
{
	printf '{ "x": { "file_name": "x.json" } }' >data/dataset_info.json
	cat >data/x.json
}
px="$pack --dataset x -o out.h5"
printf '[{"instruction": "a", "output": "b"}' | json
refused 65 'an array without its end' 'x\.json' $px
printf '[{"instruction": "a\377", "output": "b"}]' | json
refused 65 'invalid UTF-8' 'x\.json: row 1' $px
printf '[{"instruction": "\\ud800", "output": "b"}]' | json
refused 65 'half a surrogate pair' 'x\.json: row 1' $px
printf '[{"instruction": 5, "output": "b"}]' | json
refused 65 'a number for a text' 'x\.json: row 1' $px
awk 'BEGIN { printf "["; for (i = 0; i < 200000; i++) printf "["; }' | json
refused 65 'an array 200,000 deep' 'x\.json' $px
printf '' | json
refused 65 'an empty file' 'x\.json' $px
printf '"text"' | json
refused 65 'a text for an array' 'x\.json' $px
printf '[{"instruction": "a", "output": ""}]' | json
refused 65 'not one usable row' 'row' $px
printf '{ "x": 3 }' >data/dataset_info.json
refused 65 'dataset_info.json with a number' 'dataset_info\.json' $px
printf '{ "y": { "file_name": "x.json" } }' >data/dataset_info.json
refused 65 'an unknown dataset' 'x.*dataset_info\.json|dataset_info\.json.*x' $px
"$BUILD/demo/generate" data 1

tok="df-pack -q --dataset-dir data --dataset add --template default --cutoff-len 64 -o out.h5 --tokenizer tok"
mkdir tok
echo '{"model": {"type": "BPE", "vocab": {"a": 4294967295000}, "merges": []}}' >tok/tokenizer.json
refused 65 'a token id past 32 bits' 'tokenizer\.json' $tok
echo '{"model": {"type": "BPE", "vocab": {"a": 2147483647}, "merges": []}}' >tok/tokenizer.json
refused 65 'a token id of two thousand million' 'tokenizer\.json' $tok
echo '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["b c"]}}' >tok/tokenizer.json
refused 65 'a merge of unknown tokens' 'tokenizer\.json' $tok
printf '{"model": {"type": "BPE\377"}}' >tok/tokenizer.json
refused 65 'a tokenizer of invalid UTF-8' 'tokenizer\.json' $tok
echo '{"model": {"type": "Unigram", "vocab": []}}' >tok/tokenizer.json
refused 69 'a Unigram tokenizer' 'Unigram' $tok

# --- YAML ---

cfg="df-train bad.yaml -q tokenized_path=pool.h5 output_dir=out"
printf 'learning_rate: [1, 2\n' >bad.yaml
refused 78 'YAML without its bracket' 'bad\.yaml:[0-9]+' $cfg
printf 'learning_rat: 1.0e-3\n' >bad.yaml
refused 78 'a mistyped key' 'learning_rate' $cfg
printf 'learning_rate: fast\n' >bad.yaml
refused 78 'a word for a number' 'bad\.yaml:1.*learning_rate' $cfg
printf 'seed: \377\376\n' >bad.yaml
refused 78 'YAML of invalid UTF-8' 'bad\.yaml' $cfg
awk 'BEGIN { printf "seed: "; for (i = 0; i < 100000; i++) printf "["; print "" }' >bad.yaml
refused 78 'YAML 100,000 deep' 'bad\.yaml' $cfg
awk 'BEGIN { for (i = 0; i < 3000000; i++) print "# comment"; print "seed: 1" }' >bad.yaml
refused 78 'YAML of 30 MB' 'bad\.yaml' $cfg
printf 'a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\n' >bad.yaml
refused 78 'YAML with aliases' 'bad\.yaml' $cfg

# --- a full disk ---

if [ -n "${DF_SANITIZED-}" ]; then
	skip 'full disk' 'the shim and the sanitizer both want to be loaded first'
else
	for limit in 0 100 3000 20000; do
		full="env LD_PRELOAD=$BUILD/tests/diskfull.so DF_DISK_BYTES=$limit"
		refused 74 "a disk of $limit bytes, df-pack" '[Nn]o space' $full $pack --dataset add -o out.h5
		refused 74 "a disk of $limit bytes, df-grad" '[Nn]o space' $full df-grad -q -m $m --form adam --project 256 pool.h5 -o out.h5
		refused 74 "a disk of $limit bytes, df-train" '[Nn]o space' $full $train tokenized_path=pool.h5 output_dir=out
	done
	refused 74 'a disk of 100 bytes, df-score' '[Nn]o space' env LD_PRELOAD="$BUILD/tests/diskfull.so" DF_DISK_BYTES=100 \
		df-score less -q --train pool.proj.h5 --val val.proj.h5 -n 10 -o out.h5
fi
exits 74 'a full standard output' sh -c 'df-show pool.h5 >/dev/full'

# --- numbers that are none ---

refused 65 'training that diverges' 'step [0-9]+' $train tokenized_path=pool.h5 output_dir=out learning_rate=1e30 max_grad_norm=0 max_steps=20

done_testing
