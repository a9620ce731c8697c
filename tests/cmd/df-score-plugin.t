#!/bin/bash
# df-score --plugin: a method of the user's from a shared library; one that crashes, lies or fails without a word: a named
# error, and nothing written.
. "$(dirname "$0")/lib.sh"
command -v cc >/dev/null 2>&1 || skip_all 'no cc here'
. "$SRC/tests/cmd/grad_data.sh"

# Rows of different lengths.
df-pack -q --dataset-dir data --dataset sums,turns --template alpaca --tokenizer bytes --cutoff-len 500 \
	--holdout turns=6 --holdout-output val.h5 -o pool.h5

# build NAME [FLAG...]: NAME.so from NAME.c
build()
{
	cc -std=c11 -Wall -Wextra -Wno-missing-field-initializers -shared -fPIC -O1 "-I$SRC/lib" "${@:2}" "$1.c" -o "$1.so" >log 2>&1 || {
		cat log
		echo "Bail out! $1.c could not be compiled"
		exit 1
	}
}
index_of()
{
	text_of "$1" index
}

# --- the example -----------------------------------------------------------------------------------------------------------

cp "$SRC/tests/plugin/shortest.c" .
build shortest -Werror
ok 'a plug-in' df-score --plugin ./shortest.so shortest --train pool.h5 -n 8 -o i.h5 --scores-output s.h5
says 'the domains of its choice' 'chose 8 of 34 rows: sums [0-9]+/20, turns [0-9]+/14'
says 'the summary' '^df-score: 34 rows in '
text_of pool.h5 tokens/offsets | tr , '\n' | awk 'NR > 1 { print -($1 - last) } { last = $1 }' >lengths
ok 'the same scores as text' df-score -q custom --train pool.h5 --scores lengths -n 8 -o want.h5
is 'choose the same' "$(index_of i.h5)" "$(index_of want.h5)"
is 'the scores are written' "$(text_of s.h5 score | tr , '\n' | head -n 3 | paste -sd,)" "$(head -n 3 lengths | paste -sd,)"
is 'and the parameters' "$(lineage_of i.h5 | grep -c '"method": "shortest", "n": "8", "short": "error", "allow_invalid": false, "at_least": 1')" 1
is 'with the tokens and their role' "$(lineage_of i.h5 | grep -c "\"role\": \"train\", \"kind\": \"tokens\", \"id\": \"$(id_of pool.h5)\"")" 1
is 'it is df-score that made it' "$(h5dump -a df_tool i.h5 | grep -c '"df-score"')" 1
for how in '-j 1' '-j 3'; do
	# shellcheck disable=SC2086
	ok "$how" df-score -q $how --plugin=shortest.so shortest --train pool.h5 -n 8 -o j.h5
	same 'the same bytes' j.h5 i.h5
done
shortest=$(tr -d - <lengths | sort -n | head -n 1)
for how in '--plug ./shortest.so' '-q -j 2 --plugin ./shortest.so' '--plugin ./nowhere.so --plugin shortest.so' '--seed 3 --plugin=./shortest.so -j1'; do
	# shellcheck disable=SC2086
	ok "$how" df-score $how shortest --train pool.h5 -n 8 -o j.h5
	is 'the same choice' "$(index_of j.h5)" "$(index_of i.h5)"
done
ok 'its option' df-score --plugin ./shortest.so shortest --train pool.h5 --at-least $((shortest + 1)) -n 2 -o o.h5
says 'makes rows invalid' '[1-9][0-9]* rows have no finite score'
ok 'quiet' df-score -q --plugin ./shortest.so shortest --train pool.h5 -n 8 -o j.h5
is_empty 'is quiet' "$(cat "$T/err")"
ok 'what all methods have: excluded rows' df-score -q --plugin ./shortest.so shortest --train pool.h5 --exclude i.h5 -n 8 -o e.h5
is_empty 'are not chosen' "$(comm -12 <(index_of i.h5 | tr , '\n' | LC_ALL=C sort) <(index_of e.h5 | tr , '\n' | LC_ALL=C sort))"
ok 'an amount of tokens' df-score -q --plugin ./shortest.so shortest --train pool.h5 -n 200tok -o t.h5
ok 'a percentage' df-score -q --plugin ./shortest.so shortest --train pool.h5 -n 25% -o t.h5
exits 64 'more than there are' df-score --plugin ./shortest.so shortest --train pool.h5 -n 40 -o x.h5
says 'is an error' 'asked for 40 rows, but only 34 are valid'
ok 'unless it may cycle' df-score -q --plugin ./shortest.so shortest --train pool.h5 -n 40 --short cycle -o t.h5
ok 'its help' df-score --plugin ./shortest.so shortest -h
prints 'has its option' '^ +--at-least=N +tokens that a row must have \[1\]'
prints 'and what it chooses' 'the rows with the fewest tokens'
ok 'the list' df-score --plugin ./shortest.so --list
prints 'has it, too' '^shortest +tokens +no +none +the rows with the fewest tokens'
prints 'beside the others' '^less '
ok 'the version' df-score --plugin ./shortest.so --version
exits 64 'a wrong option' df-score --plugin ./shortest.so shortest --train pool.h5 --at-lest 3 -o x.h5
says 'is told once' "did you mean --at-least"
is 'and only once' "$(wc -l <"$T/err")" 1
exits 65 'a set of another kind' df-score --plugin ./shortest.so shortest --train s.h5 -n 3 -o x.h5
exits 66 'a missing set' df-score --plugin ./shortest.so shortest --train nowhere.h5 -n 3 -o x.h5
exits 64 'an output that is an input' df-score --plugin ./shortest.so shortest --train pool.h5 -n 3 -o pool.h5
exits 64 'an output that is the plug-in' df-score --plugin ./shortest.so shortest --train pool.h5 -n 3 -o shortest.so
exits 73 'an output that cannot be made' df-score --plugin ./shortest.so shortest --train pool.h5 -n 3 -o nowhere/x.h5
exits 64 'a method of ours' df-score --plugin ./shortest.so random --train pool.h5 -n 3 -o x.h5
says 'needs no plug-in' "'random' is no method of it"
exits 64 'an unknown method' df-score --plugin ./shortest.so longest --train pool.h5 -n 3 -o x.h5
says 'its own is named' "the plug-in's is 'shortest'"
exits 64 'the plug-in after the method' df-score shortest --plugin ./shortest.so --train pool.h5 -n 3 -o x.h5
says 'is too late' 'must come before'
exits 64 'the plug-in after a method of ours' df-score random --plugin ./shortest.so --train pool.h5 -n 3 -o x.h5
says 'likewise' 'comes before METHOD'

# --- what is no plug-in --------------------------------------------------------------------------------------------------------

exits 66 'no such file' df-score --plugin ./nowhere.so shortest --train pool.h5 -o x.h5
says 'is named' '^df-score: ./nowhere.so: '
exits 65 'an HDF5 file' df-score --plugin pool.h5 shortest --train pool.h5 -o x.h5
says 'cannot be loaded' '^df-score: pool.h5: it cannot be loaded: '
echo 'int nothing;' >empty.c
build empty
exits 65 'a library without the record' df-score --plugin ./empty.so shortest --train pool.h5 -o x.h5
says 'is no plug-in' 'empty.so: it is no plug-in: DF_PLUGIN\(\)'

# bad NAME 'what' 'error' LINES: shortest.c with its last line replaced; loading it must fail with this error.
bad()
{
	{ sed '$d' shortest.c && echo "$4"; } >"$1.c"
	build "$1"
	exits 65 "$2" df-score --plugin "./$1.so" shortest --train pool.h5 -n 3 -o x.h5
	says 'is named' "^df-score: \./$1\.so: $3"
}
bad abi 'another version' 'it was compiled for version 7 of plug-ins, this is version 1' \
	'const struct df_plugin df_plugin = { 7, .method = &shortest };'
bad size 'other headers' 'it was compiled with the headers of another df-tools' \
	'const struct df_plugin df_plugin = { DF_PLUGIN_ABI, .method = &shortest };'
bad null 'no record' 'its method has no name' 'const struct df_plugin df_plugin = { DF_PLUGIN_SIZES, 0 };'
bad name 'a name that is no word' 'its method has no name, or one that is no word' \
	'static const struct df_selector s = { .name = "a b" }; DF_PLUGIN(s);'
bad ours 'a name of ours' "its method is called 'less'" 'static const struct df_selector s = { .name = "less" }; DF_PLUGIN(s);'
bad norun 'no run' "method 'x': about, model, cost or run is missing" \
	'static const struct df_selector s = { .name = "x" }; DF_PLUGIN(s);'
bad short 'no shortage' "method 'x': shortage must say" \
	'static const struct df_selector s = { .name = "x", .about = "", .model = "", .cost = "", .run = run }; DF_PLUGIN(s);'
bad inputs 'no inputs' "method 'x': 0 inputs" 'static const struct df_selector s = { .name = "x", .about = "", .model = "",
	.cost = "", .run = run, .shortage = DF_SHORT_ERROR }; DF_PLUGIN(s);'
bad role 'no train set' "method 'x': the first input is 'pool'" 'static const struct df_select_input i[] = { { .role = "pool",
	.name = "", .help = "" } };
	static const struct df_selector s = { .name = "x", .about = "", .model = "", .cost = "", .run = run,
	.shortage = DF_SHORT_ERROR, .inputs = i, .n_inputs = 1 }; DF_PLUGIN(s);'
bad value 'an option outside its struct' "method 'x': option 'y': its value is not in the struct" \
	'static const struct df_opt o[] = { { .name = "y", .type = DF_OPT_INT, .value = (void *)4, .help = "" }, DF_OPT_END };
	static const struct df_selector s = { .name = "x", .about = "", .model = "", .cost = "", .run = run,
	.shortage = DF_SHORT_ERROR, .inputs = inputs, .n_inputs = 1, .defaults = &shortest, .defaults_size = 8, .options = o };
	DF_PLUGIN(s);'
bad missing 'a function that there is not' 'it cannot be loaded: .*undefined symbol: df_no_such_thing' \
	'int df_no_such_thing(void); int use(void) { return df_no_such_thing(); } DF_PLUGIN(shortest);'

# --- what crashes, and what lies -----------------------------------------------------------------------------------------------

# evil NAME BODY: shortest.c whose run() is BODY, and then goes on
evil()
{
	sed "s|^	struct run r = { options, out };|	struct run r = { options, out };\n	$2|" shortest.c |
		sed '1i #include <fcntl.h>\n#include <stdlib.h>\n#include <string.h>\n#include <signal.h>\n#include <unistd.h>' >"$1.c"
	build "$1" -Wno-declaration-after-statement -Wno-unused -Wno-infinite-recursion
}
# lies NAME BODY 'what' 'error'
lies()
{
	evil "$1" "$2"
	exits 65 "$3" df-score --plugin "./$1.so" shortest --train pool.h5 -n 3 -o x.h5 --scores-output xs.h5
	says 'is named' "$4"
	is_empty 'and nothing is written' "$(find . -name 'x*.h5*' -o -name '.x*')"
}
crash='the plug-in ./crash[0-9]*.so (crashed when it ran: signal [0-9]+|ended the process when it ran, with status [0-9]+)'
lies crash1 'static int *volatile nowhere; *nowhere = 1;' 'a null pointer' "$crash"
lies crash2 'abort();' 'abort' "$crash"
lies crash3 'kill(getpid(), SIGKILL);' 'SIGKILL' 'the plug-in ./crash3.so crashed when it ran: signal 9, Killed'
lies crash4 'free((void *)8);' 'a bad free' "$crash"
lies crash5 'run(in, options, out, err);' 'endless recursion' "$crash"
lies exit0 'exit(0);' 'exit(0)' 'the plug-in ./exit0.so ended the process when it ran, with status 0'
lies exit3 'exit(3);' 'exit(3)' 'the plug-in ./exit3.so ended the process when it ran, with status 3'
lies silent 'return DF_EFORMAT;' 'an error without a word' "method 'shortest' failed with code -2, and does not say why"
lies code 'return df_fail(err, 1234, \"really\");' 'a code that there is not' "method 'shortest' failed with code 1234: really"
lies said 'return df_fail(err, DF_EFORMAT, \"no luck today\");' 'an error' '^df-score: no luck today'
m="method 'shortest': "
lies none 'return DF_OK;' 'nothing chosen' "${m}it chose 0 rows, 3 were asked for"
lies many 'out->n_index = 4; out->index = calloc(4, 8); return DF_OK;' 'more than asked for' "${m}it chose 4 rows, 3 were asked for"
lies range 'out->n_index = 3; out->index = calloc(3, 8); out->index[2] = 34; return DF_OK;' 'an id out of range' \
	"${m}position 2 of its index: id 34 is out of range: there are 34 rows"
lies huge 'out->n_index = 3; out->index = calloc(3, 8); out->index[0] = UINT64_MAX; return DF_OK;' 'another' \
	"${m}position 0 of its index: id 18446744073709551615 is out of range"
lies null 'out->n_index = 3; return DF_OK;' 'no index' "${m}it says that it chose 3 rows, but there is no index"
lies room 'out->n_index = 3000; out->index = calloc(3, 8); return DF_OK;' 'an index that is too short' "${m}index has no room for 3000 rows"
lies score 'out->score = calloc(2, 4); out->n_index = 3; out->index = calloc(3, 8); return DF_OK;' 'scores that are too few' \
	"${m}score has no room for 34 rows"
lies nan 'out->score = malloc(34 * 4); for (int i = 0; i < 34; i++) out->score[i] = NAN; out->n_index = 3; out->index = calloc(3, 8); return DF_OK;' \
	'a row whose score is NaN' "${m}it chose row 0, whose score is not finite"
lies rows 'out->n_rows = 1000000; return DF_OK;' 'another number of rows' "${m}it changed the number of rows from 34 to 1000000"
lies domain 'out->domain[3] = 99; out->n_index = 3; out->index = calloc(3, 8); return DF_OK;' 'a domain that there is not' \
	"${m}row 3: domain 99 of 2"
lies probability 'out->probability = calloc(34, 8); out->probability[1] = -0.5; out->n_index = 3; out->index = calloc(3, 8); return DF_OK;' \
	'a negative probability' "${m}row 1: the probability -0.5"
evil excluded 'out->n_index = 3; out->index = calloc(3, 8); return DF_OK;'
echo 0 >zero
exits 65 'a row that is excluded' df-score --plugin ./excluded.so shortest --train pool.h5 --exclude zero -n 3 -o x.h5
says 'is named' "${m}it chose row 0, which --exclude names"
evil boom 'return DF_OK; } __attribute__((constructor)) static void boom(void) { static int *volatile nowhere; *nowhere = 1; } static int more(const struct df_select *in, struct run r, struct df_selection *out, struct df_err *err) {'
exits 65 'a crash at loading' df-score --plugin ./boom.so shortest --train pool.h5 -n 3 -o x.h5
says 'is named' 'the plug-in ./boom.so (crashed|ended the process) when it was loaded'
exits 65 'and by its help' df-score --plugin ./boom.so shortest -h

# An older output stays as it was.
cp i.h5 x.h5
exits 65 'a crash' df-score --plugin ./crash1.so shortest --train pool.h5 -n 3 -o x.h5
same 'leaves an older output' x.h5 i.h5
rm x.h5

# gone PID: it has ended (whoever is to bury it may not have done so yet)
gone()
{
	! kill -0 "$1" 2>/dev/null || grep -q '^State:.*[ZX]' "/proc/$1/status" 2>/dev/null
}
# A signal ends both.
evil sleepy 'close(open("asleep", O_CREAT, 0666)); sleep(600);'
df-score --plugin ./sleepy.so shortest --train pool.h5 -n 3 -o x.h5 2>err &
pid=$!
wait_for test -e asleep
child=$(pgrep -P $pid)
kill -TERM $pid
wait $pid
is 'SIGTERM while it runs' $? 75
gone "$child"
report $? 'the child is gone'
rm asleep
df-score --plugin ./sleepy.so shortest --train pool.h5 -n 3 -o x.h5 2>err &
pid=$!
wait_for test -e asleep
child=$(pgrep -P $pid)
kill -KILL $pid
wait $pid 2>/dev/null
wait_for gone "$child"
report $? 'nor does it live on after SIGKILL'
is_empty 'nothing appears under the name' "$(find . -name 'x*.h5*' -o -name '.x*')"

done_testing
