#!/bin/sh
# run.sh - the speed table: every claim as a ratio measured in one run.
#
#   make bench [PAIRS=9] [PEER_PAIRS=5] [DATA=dir] [PYTHON=python3] [DEVICES="cpu openblas"]
#       [ONLY="ops experts grad project few pipe train pack embed mix"]
#
# DATA is a folder with dataset_info.json and the Alpaca datasets alpaca_en_demo
# and alpaca_zh_demo; without it the data of the demo serves.  PYTHON is one
# with torch, transformers, datasets, h5py and hdf5plugin; without it the comparisons with
# them are skipped, and say so.  EMBED_MODEL is a directory of sentence-transformers (all-MiniLM-L6-v2).  Let nothing else run meanwhile.
set -eu

here=$DF_SRCDIR/tests/bench
pairs=${PAIRS:-9}
peer_pairs=${PEER_PAIRS:-5} # a run of a peer takes half a minute
only=${ONLY:-ops experts grad project few pipe train pack embed mix}
python=${PYTHON:-python3}
devices=${DEVICES:-cpu openblas}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$DF_SRCDIR"

wanted() {
	case " $only " in *" $1 "*) return 0 ;; esac
	return 1
}
have_python() {
	"$python" -c "import $1" 2>/dev/null && return 0
	echo "  skipped: $python has no $1"
	return 1
}

echo "df-tools $(git -C "$DF_SRCDIR" rev-parse --short HEAD 2>/dev/null || true) $(date -u +%Y-%m-%d)"
sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1
echo "$(nproc) processors; $(df-train --version | tail -n 1)"
echo

if wanted ops; then
	for device in $devices; do
		echo "# Operations on $device against OpenBLAS's sgemm, 1 thread (bench_ops)"
		DEVICE=$device "$DF_BUILD/bench/bench_ops"
		echo
	done
fi
if wanted experts; then
	for n in 1 2; do
		echo "# Products of many small experts against a dense product, $n threads (bench_experts)"
		DF_THREADS=$n "$DF_BUILD/bench/bench_experts"
		echo
	done
fi
if wanted grad; then
	echo "# Per-sample gradients with Adam's view over the summed gradient, same batch, 1 thread (bench_grad)"
	for device in $devices; do
		echo "on $device:"
		DEVICE=$device "$DF_BUILD/bench/bench_grad" "$pairs"
	done
	echo
fi
if wanted project; then
	echo "# Projections, 1 thread: the sparse one, and the dense one over sgemm with a stored matrix (bench_project)"
	"$DF_BUILD/bench/bench_project" "$pairs"
	echo
fi
if wanted few; then
	echo "# Few rows: one thread over two (few_rows.sh)"
	"$here/few_rows.sh" "$DF_BUILD" "$pairs"
	echo
fi

# The tokens, the model and the checkpoint of the rest.
if [ -n "${DATA:-}" ]; then
	data=$DATA
	sets=alpaca_en_demo,alpaca_zh_demo
else
	data=$work/data
	mkdir "$data"
	"$DF_BUILD/demo/generate" "$data" 1
	sets=translate,reverse,shout,add,order,continue
fi
df-pack -q --dataset-dir "$data" --dataset "$sets" --template alpaca --tokenizer bytes --cutoff-len 512 -o "$work/pool.h5"
df-train configs/tiny-sft.yaml tokenized_path="$work/pool.h5" output_dir="$work/run" max_steps=100 --until 10 -q
model=$work/run/checkpoint-10

if wanted pipe; then
	echo "# df-grad | df-project over df-grad --project, dense to 2048, 256 rows, whole commands (pairs.sh)"
	df-pack -q --dataset-dir "$data" --dataset "${sets%%,*}" --max-samples 256 --template alpaca --tokenizer bytes --cutoff-len 512 -o "$work/few.h5"
	"$here/pairs.sh" -n "$pairs" "pipe / fused" \
		"df-grad -q -m $model --form adam $work/few.h5 -o - | df-project -q -k 2048 - -o $work/a.h5; rm -f $work/a.h5" \
		"df-grad -q -m $model --form adam --project 2048 $work/few.h5 -o $work/b.h5; rm -f $work/b.h5"
	echo
fi

# Compare with a program that reports its own seconds: "seconds X ..." against the wall time of ours.
peer() { # name, our command, their command
	i=0
	while [ $i -lt "$peer_pairs" ]; do
		t0=$(date +%s%N)
		sh -c "$2" >/dev/null
		t1=$(date +%s%N)
		theirs=$(sh -c "$3" 2>/dev/null)
		echo "$t0 $t1 $theirs"
		i=$((i + 1))
	done | sort -n | awk -v name="$1" '
		{ ours = ($2 - $1) / 1e9; r[NR] = $4 / ours; a[NR] = ours; b[NR] = $4; said = $0 }
		END {
			n = asort_(r); asort_(a); asort_(b)
			sub(/^[0-9]+ [0-9]+ /, "", said)
			printf "%-34s %.2f times as fast  [%.2f .. %.2f]  ours %.3f s  theirs %.3f s  (%d pairs; %s)\n", name, r[int((n + 1) / 2)], r[1], r[n], a[int((n + 1) / 2)], b[int((n + 1) / 2)], n, said
		}
		function asort_(v,    i, j, t, n) {
			n = NR
			for (i = 2; i <= n; i++)
				for (j = i; j > 1 && v[j - 1] > v[j]; j--) { t = v[j]; v[j] = v[j - 1]; v[j - 1] = t }
			return n
		}'
}

if wanted train; then
	echo "# df-train (whole command) against PyTorch's steps alone: same model, batch, threads, float32"
	if have_python "torch, transformers, h5py, hdf5plugin"; then
		for device in $devices; do for threads in 1 2; do
			peer "tiny-sft, 12 x 16, $device, $threads threads" \
				"rm -rf $work/t; df-train configs/tiny-sft.yaml --device $device tokenized_path=$work/pool.h5 output_dir=$work/t max_steps=12 per_device_train_batch_size=16 gradient_accumulation_steps=1 save_strategy=no eval_strategy=no -q -j $threads" \
				"OMP_NUM_THREADS=$threads $python $here/torch_train.py configs/models/tiny-llama $work/pool.h5 12 16 $threads"
			peer "hidden 512 x 8, 4 x 4, $device, $threads threads" \
				"rm -rf $work/t; df-train configs/tiny-sft.yaml --device $device model_name_or_path=$here/model-512 tokenized_path=$work/pool.h5 output_dir=$work/t max_steps=4 per_device_train_batch_size=4 gradient_accumulation_steps=1 save_strategy=no eval_strategy=no -q -j $threads" \
				"OMP_NUM_THREADS=$threads $python $here/torch_train.py $here/model-512 $work/pool.h5 4 4 $threads"
		done; done
	fi
	echo
fi

if wanted pack; then
	echo "# df-pack with a BPE tokenizer (whole command) against datasets.map over Hugging Face's tokenizer (the map alone)"
	tok=${TOKENIZER:-$DF_SRCDIR/tests/golden/tokenizer/llama3}
	if [ -n "${DATA:-}" ] && have_python "datasets, transformers"; then
		# The English set twenty times over: a map of a second is mostly the start of its processes.
		mkdir -p "$work/big"
		"$python" -c "
import json, sys
rows = json.load(open(sys.argv[1]))
json.dump(rows * 20, open(sys.argv[2], 'w'), ensure_ascii=False)" "$DATA/alpaca_en_demo.json" "$work/big/big.json"
		echo '{ "big": { "file_name": "big.json" } }' >"$work/big/dataset_info.json"
		for threads in 1 2; do
			peer "19,980 rows, $threads threads" \
				"df-pack -q -j $threads --dataset-dir $work/big --dataset big --template alpaca --tokenizer $tok --cutoff-len 2048 -o $work/big.h5" \
				"TOKENIZERS_PARALLELISM=false $python $here/hf_tokenize.py $tok $work/big/big.json 2048 $threads"
		done
	else
		echo "  skipped: needs DATA and Python"
	fi
	echo
fi

if wanted embed; then
	echo "# df-embed (whole command) against sentence-transformers' encode() alone: same model, 1,000 texts, float32"
	if [ -n "${DATA:-}" ] && [ -n "${EMBED_MODEL:-}" ] && have_python "sentence_transformers, h5py"; then
		"$python" -c "
import json, sys
rows = json.load(open(sys.argv[1]))[:1000]
whole = lambda r: 'Instruction: %s\nInput: %s\nOutput: %s\nPrediction:' % (r['instruction'], r.get('input') or '', r['output'])
for name, text in ('short', lambda r: r['instruction']), ('long', whole):
    with open('%s/%s.jsonl' % (sys.argv[2], name), 'w', encoding='utf-8') as f:
        f.writelines(json.dumps({'text': text(r)}, ensure_ascii=False) + '\n' for r in rows)" "$DATA/alpaca_en_demo.json" "$work"
		for set in short long; do
			for threads in 1 2; do
				peer "$set texts, $threads threads" \
					"df-embed -q -j $threads -m $EMBED_MODEL $work/$set.jsonl -o $work/e.h5" \
					"OMP_NUM_THREADS=$threads $python $here/embed.py $EMBED_MODEL $work/$set.jsonl $threads $work/e.h5"
			done
		done
		head -n 1 "$work/short.jsonl" >"$work/one.jsonl"
		t0=$(date +%s%N)
		for i in 1 2 3 4 5 6 7 8 9 10; do df-embed -q -m "$EMBED_MODEL" "$work/one.jsonl" -o "$work/e$i.h5"; done
		t1=$(date +%s%N)
		echo "$t0 $t1" | awk '{ printf "start to the first vector           %.3f s (mean of 10)\n", ($2 - $1) / 1e10 }'
	else
		echo "  skipped: needs DATA, EMBED_MODEL and Python"
	fi
	echo
fi

if wanted mix; then
	echo "# What a mixture of 1000 domains costs, CPU time of 1 thread (bench_mix)"
	"$DF_BUILD/bench/bench_mix"
	echo
fi
