#!/bin/bash
# The examples of the manual and the README's loop, run as they are printed:
# each ends well and makes the files that it names.
# shellcheck disable=SC2016 # backquotes and dollars are text
. "$(dirname "$0")/lib.sh"

# What the examples take for granted: datasets of these names (three epochs of
# them are more than 200 steps), configs/, and, so that it is quick, smaller
# models under the names of the ready ones, and the first rows of the demo's data.
prepare()
{
	mkdir "$1" "$1/data" "$1/data/web"
	cd "$1" || exit 1
	"$BUILD/demo/generate" data 1
	mkdir -p build/demo-data
	cp data/dataset_info.json build/demo-data
	for set in data/*.jsonl; do
		head -n 100 "$set" >"build/demo-$set"
	done
	for set in alpaca_en:reverse:300 alpaca_zh:translate:300; do
		IFS=: read -r name from rows <<<"$set"
		head -n "$rows" "data/$from.jsonl" >"data/$name.jsonl"
		cp "data/$name.jsonl" "data/${name}_demo.jsonl"
	done
	cp data/alpaca_en.jsonl data/mine.json
	echo '{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}' >data/chats.jsonl
	cut -d'"' -f4 data/order.jsonl >data/web/1.txt
	echo '{ "alpaca_en": { "file_name": "alpaca_en.jsonl" }, "alpaca_zh": { "file_name": "alpaca_zh.jsonl" },
		"alpaca_en_demo": { "file_name": "alpaca_en_demo.jsonl" },
		"alpaca_zh_demo": { "file_name": "alpaca_zh_demo.jsonl" },
		"web": { "file_name": "web", "columns": { "prompt": "text" } } }' >data/dataset_info.json
	ln -s "$SRC/tests/golden/embed/bert" MiniLM
	cp -r "$SRC/configs" .
	sed -i -e 's/"hidden_size": \(128\|64\)/"hidden_size": 8/' -e 's/"intermediate_size": \(344\|192\)/"intermediate_size": 16/' \
		configs/models/*-llama/config.json
}

# blocks FILE SECTION: the literal blocks of a manual's section (.Sh or .Ss), each ended by a line "%%"
blocks()
{
	awk -v section="$2" '
	/^\.S[hs] / { gsub(/\\&/, ""); inside = ($0 == ".Sh " section || $0 == ".Ss " section) }
	/^\.Ed/ { if (inside && literal) print "%%"; literal = 0; next }
	literal && inside { gsub(/\\e/, "\\"); gsub(/\\-/, "-"); gsub(/\\&/, ""); print }
	/^\.Bd -literal/ { literal = 1 }' "$SRC/man/$1"
}

# The files that commands make: -o FILE and its like, and checkpoints.
outputs()
{
	grep -oE '(-o|--(holdout-|scores-)?output|--plot|--link) [^ ]+' <<<"$1" | awk '$2 != "-" { print $2 }'
	tr '\n' ' ' <<<"$1" | sed 's/df-/\n&/g' | sed -n 's/.*output_dir=\([^ ]*\).*--until \([0-9]*\).*/\1\/checkpoint-\2/p'
}

# example 'where' TEXT: run it; what it makes is not there before, and is after.
example()
{
	files=$(outputs "$2")
	for f in $files; do
		case $f in
		*/checkpoint-*) ;;
		*) rm -f "$f" ;;
		esac
	done
	ok "$1: $(head -n 1 <<<"$2")" bash -e -o pipefail -c "$2"
	for f in $files; do
		case $f in
		*'*'*) continue ;;
		*/part.h5 | part.h5) f='part.0*-of-0*.h5' ;;
		esac
		compgen -G "$f" >/dev/null || compgen -G "${f%.h5}.0*-of-*.h5" >/dev/null
		report $? "  makes $f"
	done
}
examples()
{
	found=0
	text=
	while IFS= read -r line; do
		if [ "$line" = '%%' ]; then
			example "$1" "${text%$'\n'}"
			found=$((found + 1))
			text=
		else
			text=$text$line$'\n'
		fi
	done < <(blocks "$1" "$2")
	[ $found -gt 0 ]
	report $? "$1: examples are found"
}

# Programs that are not ours, where they are missing.
mkdir bin
PATH=$T/bin:$PATH
printf '#!/bin/sh\nexec "$@"\n' >bin/srun
printf '#!/bin/sh\nexit 0\n' >bin/scontrol
command -v jq >/dev/null 2>&1 || printf '#!/bin/sh\ncat\n' >bin/jq
chmod +x bin/*

# --- the README: its blocks one after the other in one shell, as someone pastes them into a new clone ---

prepare "$T/readme"
mkdir -p home/LLaMA-Factory build
mv data home/LLaMA-Factory
ln -s "$BUILD/bin" build/bin
paste=$(awk '/^```sh$/ { inside = 1; next } /^```$/ { inside = 0 } inside' "$SRC/README.md")
cat >make_n <<'END'
make() { command make -n -C "$SRC" "$@" >/dev/null; }
END
export SRC
HOME=$PWD/home BASH_ENV=$PWD/make_n example README.md "$paste"
is 'README.md: all blocks are found' "$(grep -cE '^(df-[a-z]|make |PATH=|DATA=)' <<<"$paste")" 20
# What an interactive zsh takes for words, and what someone would have to fill in.
! grep -nE '#|<|\.\.\.|\b[A-Z]{3,}\b[^=]' <<<"$paste" | grep -vE '"?\$(DATA|HOME|PATH|PWD)"?' >wrong
is_empty 'README.md: no comments, nothing to be filled in' "$(cat wrong)"
# Commands within sentences.
! grep -E '^    (df-[a-z]+ -|make |PATH=)' "$SRC/README.md"
report $? 'README.md: commands stand in their blocks'
while read -r target; do
	ok "README.md: make $target" make -n -C "$SRC" "$target"
done < <(grep -oE '`make [a-z]+`' "$SRC/README.md" | tr -d '`' | cut -d' ' -f2 | sort -u)
while read -r command; do
	ok "README.md: $command" bash -e -o pipefail -c "$command"
done < <(grep -oE '`df-[a-z]+ [^`]+`' "$SRC/README.md" | tr -d '`')

# --- the walk-through, then each page beside what it left ---

prepare "$T/walk"
examples df-tools.7 'From text to a trained model'
cp index.h5 whole.h5
for i in 1 2 4 5 6 7 8 9 10 11 12 13 14 15 16; do
	df-grad -q -m run/checkpoint-100 --form adam --project 2048 --shard $i/16 pool.h5 -o pool.proj.h5 2>>err
done
examples df-tools.7 'Splitting a job into shards'
same 'the index from sixteen parts is the same' index.h5 whole.h5

sed 's/^output_dir.*//' configs/tiny-sft.yaml >run.yaml
printf 'tokenized_path: pool.h5\noutput_dir: requeued\nmax_steps: 3\n' >>run.yaml
cp -r run run-less
cp -r run run-random
for i in 10 20; do
	echo '{"step":'$i',"method":"odm","domains":["a","b"],"proportions":[0.5,0.5],"n_targets":[3,4],"loss":[2.5,1.5]}'
done >run/mixture_log.jsonl
for page in pack plan grad embed project eval sample show merge; do
	examples "df-$page.1" DESCRIPTION
	examples "df-$page.1" EXAMPLES
done
examples df-score.1 EXAMPLES
for section in DESCRIPTION EXAMPLES; do
	rm -rf run
	examples df-train.1 "$section"
done

# --- in Python, where it has what it needs ---

python=${PYTHON:-python3}
if "$python" -c 'import h5py, hdf5plugin, numpy' 2>/dev/null; then
	n=0
	while IFS= read -r line; do
		case $line in
		%%)
			n=$((n + 1))
			ok "df-shard.5: listing $n" "$python" -c "$text"
			text=
			;;
		*) text=$text$line$'\n' ;;
		esac
	done < <(blocks df-shard.5 EXAMPLES)
	df-score -q less --train pool.proj.h5 --val val.proj.h5 -n 400 -o less.h5
	ids() { h5dump -y -w 0 -d index "$1" | sed -n '/DATA {/,/}/p' | tr -c '0-9\n' '\n' | grep . | sort; }
	common=$(comm -12 <(ids mine.h5) <(ids less.h5) | wc -l)
	[ "$common" -ge 396 ] # numpy adds in float32
	report $? "df-shard.5: the listing selects what df-score does ($common of 400)"
	ok 'df-train takes it' df-train configs/tiny-sft.yaml tokenized_path=pool.h5 output_dir=mine max_steps=3 --index mine.h5
	says 'and says what it does not know' 'mine.h5 does not say which tokens it belongs to'
else
	skip 'df-shard.5: the listings' 'no Python with h5py and hdf5plugin here'
fi

# --- blocks that are files ---

blocks df-config.5 EXAMPLES | grep -v '^%%$' >example.yaml
ok 'df-config.5: the example is a configuration' df-train example.yaml --dry-run
blocks df-pack.1 Datasets | grep -v '^%%$' >data/dataset_info.json
ok 'df-pack.1: the example describes datasets' df-pack --dataset mine,chats --template alpaca --tokenizer bytes -o mine.h5
ok 'df-pack.1: plain text among them' df-pack --dataset web --stage pt --template default --tokenizer bytes -o web.h5

done_testing
