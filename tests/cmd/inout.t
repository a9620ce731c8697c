#!/bin/sh
# No output replaces an input, in any program, by any option, under any name of the file.
#
# The options come from the tables of the programs and of df-score's methods, so that an option that is added later is
# covered when it is added.
# shellcheck disable=SC2013,SC2086 # options and commands are words
. "$(dirname "$0")/lib.sh"

[ -n "$(ls "$BUILD"/bin/df-* 2>/dev/null)" ] || skip_all 'no program is built'

options=$BUILD/test-tmp/options.$$
trap 'rm -rf "$T" "$options" "$options.before" "$options.after" "$options.commands"' EXIT

# Every file here by name, inode, size and time.
state()
{
	find . -path ./out -prune -o -path ./err -prune -o -printf '%p %i %s %T@\n' 2>/dev/null | sort
}

# refused WHAT NAME NAME CMD...: exit 64 and "would replace" or "two outputs", with both names; nothing was touched.
refused()
{
	what=$1
	first=$2
	second=$3
	shift 3
	state >"$options.before"
	status=0
	"$@" >"$T/out" 2>"$T/err" </dev/null || status=$?
	state >"$options.after"
	if [ "$status" -eq 64 ] && grep -Eq 'would replace|two outputs' err && grep -Fq -- "$first" err &&
		grep -Fq -- "$second" err && cmp -s "$options.before" "$options.after"; then
		report 0 "$what"
	else
		report 1 "$what"
		echo "# exit status $status: $*"
		diff "$options.before" "$options.after" | sed 's/^/# /'
		tell
	fi
}

mkdir dir
echo 'the only copy' >dir/file
ln -s dir way
ln -s dir/file soft
ln dir/file hard
ln -s nowhere dangling
touch out err

names='dir/file ./dir/../dir/file way/file soft hard'
if [ -n "${DF_SANITIZED-}" ]; then
	names='way/file hard'
	skip 'a file by its own name and by three others' 'slow under sanitizers; the plain run has them'
fi

# given OPTION FILE: the words that give the file to the option, or to the operands.
given()
{
	if [ "$1" = - ]; then echo "$2"; else echo "--$1=$2"; fi
}

# role OPTION: what the program does to the file that it names.
role()
{
	awk -F '\t' -v o="$1" '$1 == o { print $7 }' "$options"
}

commands >"$options.commands"
while read -r p <&3; do
	$p --list-options >"$options"
	cut -f 1,3,4,7 "$options" | awk -F '\t' '
		$3 ~ /^(FILE|DIR|TOK|TOKENS|PICTURE|YAML|GRADIENTS|CONFIG)$/ && $4 == "-" { print "--" $1; bad = 1 } END { exit bad }' >err
	report $? "$p: every option that names a file says what is done to it"
	tell
	for w in $(awk -F '\t' '$7 ~ /^write/ { print $1 }' "$options"); do
		for r in $(awk -F '\t' '$7 ~ /^read/ { print $1 }' "$options"); do
			for name in $names; do
				refused "$p --$w $name over ${r#-} dir/file" $name dir/file \
					$p "$(given "$r" dir/file)" "$(given "$w" $name)"
			done
			# A word that may be no file ("bytes") names none when there is none.
			[ "$(role "$r")" != read ] || refused "$p --$w of what ${r#-} reads, which is not there" new ./new \
				$p "$(given "$r" ./new)" "$(given "$w" new)"
			[ "$(role "$w")" != write-dir ] || for name in dir way ./dir/; do
				refused "$p --$w $name, which holds --$r dir/file" $name dir/file \
					$p "$(given "$r" dir/file)" "$(given "$w" $name)"
			done
		done
		for v in $(awk -F '\t' '$7 ~ /^write/ { print $1 }' "$options"); do
			[ "$v" != "$w" ] || continue
			for name in new ./new dir/../new way/../new; do
				refused "$p --$v $name and --$w new" $name new $p "--$v=$name" "--$w=new"
			done
			refused "$p --$v and --$w through a link to nowhere" nowhere dangling $p "--$v=nowhere" "--$w=dangling"
		done
	done
done 3<"$options.commands"

# What a program finds out about later: files of datasets and models, what a pattern matches, standard input.
. "$(dirname "$0")/grad_data.sh"
head -c 200 /dev/zero | tr '\0' 'a' >text.txt
grad="df-grad -q -m $CKPT"
pack='df-pack -q --dataset-dir data --dataset sums --template alpaca --tokenizer bytes'
refused 'df-pack over the dataset' data/sums.jsonl data/sums.jsonl $pack -o data/sums.jsonl
refused 'df-pack over the list of datasets' data/dataset_info.json dataset_info.json $pack -o data/dataset_info.json
ln -s data/sums.jsonl picked.h5
refused 'df-pack over the dataset, through a link' picked.h5 data/sums.jsonl $pack -o picked.h5
refused 'df-pack --holdout-output over the dataset' data/sums.jsonl data/sums.jsonl $pack --val-size 2 -o x.h5 \
	--holdout-output data/sums.jsonl
refused 'df-grad over the weights' model.safetensors model.safetensors $grad --losses pool.h5 -o $CKPT/model.safetensors
refused 'df-grad over the configuration' config.json config.json $grad --losses pool.h5 -o $CKPT/config.json
refused 'df-grad over one that a pattern matches' pool.h5 pool.h5 $grad --losses 'poo?.h5' -o pool.h5
refused 'df-grad over its standard input' pool.h5 'standard input' sh -c "$grad --losses - -o pool.h5 <pool.h5"
refused 'df-eval over a question' text.txt text.txt df-eval -q -m $CKPT --mmlu . --details text.txt -o ./text.txt
refused 'df-sample over the dataset' data/sums.jsonl data/sums.jsonl df-sample -q -m $CKPT --tokenizer bytes \
	--template alpaca --dataset-dir data --dataset sums --json data/sums.jsonl
refused 'df-embed over the dataset' data/sums.jsonl data/sums.jsonl df-embed -q -m $CKPT --tokenizer bytes \
	--template alpaca --dataset-dir data --dataset sums -o data/sums.jsonl
mkdir logs && ln pool.h5 logs/trainer_log.jsonl
refused 'df-train over its tokens' trainer_log.jsonl trainer_log.jsonl df-train -q train.yaml \
	tokenized_path=logs/trainer_log.jsonl output_dir=logs
rm -rf logs

# What is no slip.
ok 'an output in the directory of the model' $grad --losses pool.h5 -o $CKPT/losses.h5
ok 'and once more over the first' $grad --losses pool.h5 -o $CKPT/losses.h5
mkdir set && cp pool.h5 set
ok 'an output beside the inputs in their directory' $grad --losses set -o set/losses.h5
ok 'and once more' $grad --losses set -o set/losses.h5
ok 'a link stays one, and what it leads to is written' sh -c "ln -s there.h5 link.h5 && $grad --losses pool.h5 -o link.h5 && [ -L link.h5 ]"
ok 'a word is no file' $pack -o bytes
ok 'training goes on in its own directory' df-train -q train.yaml --until 4
ok 'and once more' df-train -q train.yaml --until 4

done_testing
