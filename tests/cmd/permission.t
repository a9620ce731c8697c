#!/bin/sh
# What the system refuses is said with its own reason, that of the first call that failed: by every program, of outputs
# and of inputs.  As root everything is allowed, so the programs run as nobody.
# shellcheck disable=SC2086,SC2129 # commands are words
. "$(dirname "$0")/lib.sh"

as=
if [ "$(id -u)" = 0 ]; then
	command -v setpriv >/dev/null || skip_all 'root, and no setpriv'
	as="setpriv --reuid=65534 --regid=65534 --clear-groups"
fi
. "$SRC/tests/cmd/grad_data.sh"
chmod 755 "$T"
$as df-show --version >out 2>err || skip_all 'nobody may not run what is built here'

E=$SRC/tests/golden/embed/bert
df-grad -q -m $CKPT --form sgd --project 64 pool.h5 -o pool.proj.h5 2>err
df-grad -q -m $CKPT --form sgd --project 64 val.h5 -o val.proj.h5 2>>err
df-grad -q -m $CKPT --form sgd val.h5 -o raw.h5 2>>err
df-train -q train.yaml output_dir=lora train_from_scratch=false model_name_or_path=$CKPT finetuning_type=lora \
	--until 1 >>err 2>&1
echo 'one line' >lines.txt
mkdir ro ours closed closed/model closed/mmlu
chmod 555 ro
chmod 777 ours
cp -r $CKPT copy

# refused STATUS 'what' CMD...: nobody's command ends so, because permission is denied
refused()
{
	status=$1
	what=$2
	shift 2
	exits "$status" "$what" $as "$@"
	says '  and says why' ': Permission denied$'
	is '  and no other reason' "$(grep -c 'No such file\|no such file\|missing\|not here\|does not exist' err)" 0
}

# --- outputs in a directory that is not ours ------------------------------------------------------------------------------

refused 73 'df-train' df-train -q train.yaml tokenized_path=pool.h5 output_dir=ro/run --until 1
refused 73 'df-train, deep' df-train -q train.yaml tokenized_path=pool.h5 output_dir=ro/a/b/run --until 1
refused 73 'df-pack' df-pack -q --dataset-dir data --dataset sums --template alpaca --tokenizer bytes -o ro/x.h5
refused 73 'df-pack, what is held out' df-pack -q --dataset-dir data --dataset sums --template alpaca --tokenizer bytes \
	-o ours/x.h5 --holdout sums=1 --holdout-output ro/x.h5
refused 73 'df-grad' df-grad -q -m $CKPT --form sgd --project 64 pool.h5 -o ro/x.h5
refused 73 'df-project' df-project -q -k 16 raw.h5 -o ro/x.h5
refused 73 'df-score' df-score less --train pool.proj.h5 --val val.proj.h5 -n 3 -o ro/x.h5
refused 73 'df-embed' df-embed -q -m "$E" lines.txt -o ro/x.h5
refused 73 'df-eval' df-eval -q -m $CKPT --tokenizer bytes --template alpaca --dataset-dir data --dataset sums --max-samples 1 \
	--details ro/x.jsonl
refused 73 'df-merge' df-merge -q -m lora/checkpoint-1 -o ro/x
refused 73 'df-sample' df-sample -q -m $CKPT --max-new-tokens 1 val.h5 -o ro/x.h5
refused 73 'df-sample, lines' df-sample -q -m $CKPT --max-new-tokens 1 val.h5 --json ro/x.jsonl
refused 73 'df-show --link' df-show --link ro/x.h5 pool.h5
refused 73 'df-show --plot' df-show --plot ro/x.svg pool.h5
is 'nothing was written' "$(ls -A ro ours)" 'ours:

ro:'

# What a kill left there and nobody may look into is not "not empty".
mkdir -p ours/.x.df-tmp/deep
chmod 000 ours/.x.df-tmp
[ -z "$as" ] || chown 65534 ours/.x.df-tmp
refused 74 'leftovers' df-merge -q -m lora/checkpoint-1 -o ours/x
chmod 700 ours/.x.df-tmp

# --- inputs in a directory that is not ours --------------------------------------------------------------------------------

cp pool.h5 closed/pool.h5
cp -r $CKPT/. closed/model
cp data/* closed
mkdir shards
cp pool.h5 shards/a.h5
df-show --link linked.h5 closed/pool.h5 2>err
chmod 700 closed
[ -n "$as" ] || chmod 000 closed
refused 66 'tokens' df-show closed/pool.h5
refused 66 'tokens in a directory' df-show closed
refused 66 'tokens by a pattern' df-show 'closed/*.h5'
refused 66 'tokens that are linked to' df-show linked.h5
refused 66 'a model' df-grad -q -m closed/model --losses pool.h5 -o x.h5
refused 66 'a model to embed with' df-embed -q -m closed/model pool.h5 -o x.h5
refused 66 'the base of an adapter' df-eval -q -m lora/checkpoint-1 --base closed/model val.h5
refused 66 'a tokenizer' df-pack -q --dataset-dir data --dataset sums --template alpaca --tokenizer closed/model -o x.h5
refused 66 'datasets' df-pack -q --dataset-dir closed --dataset sums --template alpaca --tokenizer bytes -o x.h5
refused 66 'a template' df-pack -q --dataset-dir data --dataset sums --template closed/t.yaml --tokenizer bytes -o x.h5
refused 66 'tests' df-eval -q -m $CKPT --tokenizer bytes --mmlu closed/mmlu
refused 73 'a run' df-train -q train.yaml tokenized_path=pool.h5 output_dir=closed/run --until 1

echo >shards/b.h5
chmod 000 shards/b.h5
refused 66 'a file among those of a directory' df-show shards
cp -r "$E" embedder
chmod -R u+w embedder
chmod 700 embedder/1_Pooling
[ -n "$as" ] || chmod 000 embedder/1_Pooling
refused 66 'a part of a model' df-embed -q -m embedder lines.txt -o x.h5
for file in config.json model.safetensors tokenizer.json optimizer.safetensors; do
	chmod 000 copy/$file
	case $file in
	tokenizer.json) refused 66 "$file" df-pack -q --dataset-dir data --dataset sums --template alpaca --tokenizer copy -o x.h5 ;;
	*) refused 66 "$file" df-grad -q -m copy --form adam --project 64 pool.h5 -o x.h5 ;;
	esac
	chmod 644 copy/$file
done
chmod -R u+rwx closed embedder ro

done_testing
